"""A Slurm cluster for all tests here, people on its login node, and proof that they leave nothing.

These tests need root: nodes are network and pid namespaces. For anybody else they are not
collected, and the first lines of pytest's report say so.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from login_node import LoginNode
from slurm_cluster import SlurmCluster

from fxhpc import FuncXClient
from tests.containers.conftest import CAN_RUN

_ROOT = Path(__file__).resolve().parents[2]
#: Seconds that a test may take, the walltimes of blocks included.
_LIMIT_S = 240

_IS_ROOT = os.getuid() == 0

collect_ignore_glob = [] if _IS_ROOT else ["test_*.py", "pbs/test_*.py"]
if not CAN_RUN:
    collect_ignore_glob.append("test_slurm_containers.py")  # tests/containers says why


def pytest_report_header() -> str:
    """What these tests do on this machine."""
    if _IS_ROOT:
        return "tests/scheduler: a Slurm cluster in namespaces; its packages come if they miss"
    return "tests/scheduler: NOT RUN, since they need root; see tests/scheduler/README.md"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They share one cluster: of several processes that run tests, one takes them all."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("scheduler"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmCluster]:
    """Four nodes of four cores, for all tests of this run."""
    cluster = SlurmCluster(nodes=4)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No test hangs: after this long it fails, and its fixtures clean up."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"the test did not end within {_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def slurm(cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """The cluster with all nodes up and no jobs, and so it is again afterwards."""
    cluster.heal()
    yield cluster
    cluster.heal()


@pytest.fixture
def login(slurm: SlurmCluster, tmp_path: Path) -> Iterator[LoginNode]:
    """Root on the login node, with the Python that runs the tests."""
    # A path as people have them.
    home = tmp_path / "it's a home"
    work = tmp_path / "work"
    work.mkdir()
    login = LoginNode(slurm, home, work, sys.executable)
    yield login
    login.close()


@pytest.fixture
def client(login: LoginNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[FuncXClient]:
    """A client of root's home, in this process."""
    for name in ("FXHPC_HOME", "FXHPC_FORWARDER_GRACE", "SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, login.environment[name])
    with FuncXClient() as client:
        yield client


@pytest.fixture(scope="session")
def public_python() -> Iterator[str]:
    """An interpreter with fxhpc that ordinary users may run: of the system, outside /root."""
    with _public_directory("fxhpc-venv-") as directory:
        source = directory / "source"
        source.mkdir()
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "fxhpc", "configs"):
            if (_ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(_ROOT / name, source / name, ignore=ignored)
            else:
                shutil.copy(_ROOT / name, source / name)
        venv = directory / "venv"
        run = lambda *command: subprocess.run(command, check=True, timeout=600)  # noqa: E731
        run("/usr/bin/python3", "-m", "venv", str(venv))
        run(str(venv / "bin" / "pip"), "install", "-q", str(source))
        yield str(venv / "bin" / "python")


@pytest.fixture(scope="session")
def ring(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program of MPICH that sends a token around its ranks, and tells where these are."""
    return _ring(tmp_path_factory.mktemp("mpich"), "-l:libmpich.so.12")


@pytest.fixture(scope="session")
def open_ring(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same program, of Open MPI."""
    return _ring(tmp_path_factory.mktemp("openmpi"), "-DOPEN_MPI", "-l:libmpi.so.40")


def _ring(directory: Path, *options: str) -> str:
    program = directory / "ring"
    source = Path(__file__).with_name("ring.c")
    quiet = ("-Wno-builtin-declaration-mismatch", "-Wl,--allow-shlib-undefined")
    command = ["gcc", "-o", str(program), str(source), *quiet, *options]
    subprocess.run(command, check=True, timeout=60)
    return str(program)


@pytest.fixture
def alice(slurm: SlurmCluster, public_python: str) -> Iterator[LoginNode]:
    """An ordinary user on the login node."""
    name = "alice"
    found = pwd.getpwnam(name)
    with _public_directory("fxhpc-alice-") as directory:
        os.chown(directory, found.pw_uid, found.pw_gid)
        directory.chmod(0o700)
        work = directory / "work"
        work.mkdir()
        os.chown(work, found.pw_uid, found.pw_gid)
        login = LoginNode(slurm, directory / "home", work, public_python, user=name)
        yield login
        login.close()


@contextlib.contextmanager
def _public_directory(prefix: str) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)

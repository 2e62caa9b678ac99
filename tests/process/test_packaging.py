"""fxhpc installs from a directory of wheels, where there is no network and no compiler, and works.

The wheels are fetched from the index that pip knows. All else happens in a network namespace that
has no route, not even a loopback that is up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.conformance.keeper import run_kept

ROOT = Path(__file__).resolve().parents[2]

#: The wheels are fetched once: of several processes that run tests, one takes all of these.
pytestmark = pytest.mark.xdist_group("packaging")

_PARTS = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "fxhpc", "configs")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source: building leaves files beside it."""
    copy = tmp_path_factory.mktemp("source") / "fxhpc"
    copy.mkdir()
    for name in _PARTS:
        part = ROOT / name
        if part.is_dir():
            shutil.copytree(part, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(part, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheelhouse(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the guide has it: what fxhpc needs, what it is built with, and fxhpc itself."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    run([*pip, "download", str(source), "setuptools>=77", "-d", str(folder)])
    run([*pip, "wheel", "--no-deps", str(source), "-w", str(folder)])
    return folder


def test_a_wheelhouse_holds_wheels_alone(wheelhouse: Path) -> None:
    assert not [path.name for path in wheelhouse.iterdir() if path.suffix != ".whl"]


def test_the_wheel_has_every_module_and_no_tests(source: Path, wheelhouse: Path) -> None:
    (wheel,) = wheelhouse.glob("fxhpc-*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(source)) for path in (source / "fxhpc").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {"fxhpc/py.typed", "fxhpc/endpoint/launch.sh", "fxhpc/containers/seed.sh"} <= names


@pytest.mark.parametrize("what", ["the wheel", "the source"])
def test_installs_and_runs_without_network_and_compiler(
    what: str, source: Path, wheelhouse: Path, tmp_path: Path
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    run([sys.executable, "-m", "venv", str(tmp_path / "venv")])
    offline = [*without_network(), str(python)]
    # Nothing but the environment's own programs: no compiler.
    environ = {"PATH": str(python.parent), "HOME": str(tmp_path), "PIP_NO_CACHE_DIR": "1"}
    run([*offline, "-c", _NO_ROUTE], environ)
    asked = "fxhpc" if what == "the wheel" else str(source)
    pip = ["-m", "pip", "-q", "--disable-pip-version-check", "install"]
    run([*offline, *pip, "--no-index", "--find-links", str(wheelhouse), asked], environ)
    for name in ("executor.py", "batch.py"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
        command = [*offline, str(tmp_path / name)]
        ended = run_kept(command, tmp_path / "home", env=environ | {"PYTHONPATH": ""})
        assert ended.returncode == 0, ended.stderr


_NO_ROUTE = """
import errno, socket
for place in (("192.0.2.1", 443), ("127.0.0.1", 443)):
    try:
        socket.create_connection(place, timeout=5)
    except OSError as error:
        assert error.errno == errno.ENETUNREACH, error
    else:
        raise SystemExit("there is a network")
"""


def without_network() -> list[str]:
    """The words before a command that runs it in a network namespace of its own."""
    unshare = shutil.which("unshare")
    assert unshare, "install util-linux: these tests make network namespaces by unshare"
    return [unshare, "--net"] if os.geteuid() == 0 else [unshare, "--map-root-user", "--net"]


def run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"

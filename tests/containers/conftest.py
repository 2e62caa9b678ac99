"""Podman with a storage of its own for each test here, and a small image to run.

These tests need root, podman and runc (`.ci/run` installs them). Elsewhere they are not collected,
and the first lines of pytest's report say so.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import fxhpc
from fxhpc.testing.endpoint import RunningEndpoint
from tests.process.conftest import client, home

__all__ = ["client", "home"]

_MISSING = [name for name in ("podman", "runc") if shutil.which(name) is None]
#: Whether containers can be run on this machine.
CAN_RUN = os.getuid() == 0 and not _MISSING

collect_ignore_glob = [] if CAN_RUN else ["test_*.py"]

#: Of the image: the file that shows that one is in it.
MARK = "/this-is-the-image"

_STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{path}/graph"
runroot = "{path}/run"
"""

#: crun, which is the default, cannot do with cgroups of both versions at a time.
_ENGINE = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "{path}/tmp"
lock_type = "file"
"""


def pytest_report_header() -> str:
    """What these tests do on this machine."""
    if CAN_RUN:
        return "tests/containers: workers in containers of podman"
    why = f"{' and '.join(_MISSING)} are missing" if _MISSING else "they need root"
    return f"tests/containers: NOT RUN, since {why}"


class Podman:
    """Podman, and the image `name` in its storage: a root without programs or libraries."""

    name = "localhost/fxhpc-test:1"

    @property
    def configuration(self) -> dict[str, str]:
        """Of an engine whose workers run in the image, with the programs and the Python of here."""
        cache = Path("/etc/ld.so.cache")
        places = {"/usr", sys.prefix, sys.base_prefix, str(Path(fxhpc.__file__).parents[1])}
        seen = sorted(places) + ([str(cache)] if cache.exists() else [])
        return {
            "container_type": "podman",
            "container_uri": self.name,
            "container_cmd_options": " ".join(f"-v '{place}:{place}:ro'" for place in seen),
        }

    def import_image(self) -> None:
        """Make the image of links, empty directories and the mark."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            for folder in ("usr", "tmp", "etc", "proc", "sys", "dev", "root"):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
                tar.addfile(entry)
            for link in ("bin", "lib", "lib64"):
                entry = tarfile.TarInfo(link)
                entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{link}"
                tar.addfile(entry)
            tar.addfile(tarfile.TarInfo(MARK[1:]))
        self.run("import", "-", self.name, data=data.getvalue())

    def run(self, *words: str, data: bytes = b"") -> str:
        """Run a command of it: what it printed."""
        done = subprocess.run(
            ["podman", *words], input=data, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def containers(self) -> list[str]:
        """The names of all that there are, running or not."""
        return self.run("ps", "--all", "--format", "{{.Names}}").split()


def processes(title: str) -> list[psutil.Process]:
    """Those with this title, or of this name, that this test has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.name() == title or process.cmdline()[0].startswith(title):
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


@contextlib.contextmanager
def stopped(endpoint: RunningEndpoint) -> Iterator[None]:
    """An endpoint that is stopped at the end, at once."""
    yield
    if endpoint.interchange is not None and endpoint.interchange.poll() is None:
        endpoint.interchange.terminate()
        endpoint.interchange.terminate()
    endpoint.stop()


@contextlib.contextmanager
def _burying() -> Iterator[None]:
    """Wait for podman's orphans, as process 1 would do: they come to this process, which adopts
    whatever its tests leave, and podman does not end before its conmon is gone.
    """
    over = threading.Event()

    def bury() -> None:
        while not over.wait(0.05):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error, ChildProcessError):
                    if child.name() == "conmon" and child.status() == psutil.STATUS_ZOMBIE:
                        os.waitpid(child.pid, os.WNOHANG)

    thread = threading.Thread(target=bury, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def podman(monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """Podman for this test and all that it starts; no container is left after it."""
    path = Path(tempfile.mkdtemp(prefix="fxhpc-podman-", dir="/tmp"))  # short, or it is refused
    (path / "storage.conf").write_text(_STORAGE.format(path=path))
    (path / "containers.conf").write_text(_ENGINE.format(path=path))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(path / "storage.conf"))
    monkeypatch.setenv("CONTAINERS_CONF", str(path / "containers.conf"))
    podman = Podman()
    podman.import_image()
    with _burying():
        yield podman
        left = podman.containers()
        podman.run("rm", "--all", "--force", "--time", "0")
    shutil.rmtree(path)
    assert not left, "a container was left behind"

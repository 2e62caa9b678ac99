"""Homes for process tests: scripts that run in one, its processes, and proof that none is left."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil

from fxhpc.forwarder.home import ForwarderAddress, Home
from tests.waiting import LIMIT, eventually

_PR_SET_CHILD_SUBREAPER = 36


class TestHome:
    """A home in a directory of its own, and the scripts that use it."""

    __test__ = False  # it is no test, whatever its name

    def __init__(self, path: Path, scripts: Path) -> None:
        self.path = path
        self.scripts = scripts
        self.environment = {
            **os.environ,
            "FXHPC_HOME": str(path),
            "FXHPC_FORWARDER_GRACE": "0.3",
            "FXHPC_WORKERS": "2",
        }
        self._started: list[subprocess.Popen[str]] = []
        # Whatever is orphaned becomes a child of this process: nothing escapes `processes`.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def write(self, name: str, code: str) -> Path:
        """A script."""
        script = self.scripts / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(textwrap.dedent(code))
        return script

    def start(self, name: str, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Run a script, and go on."""
        script = self.write(name, code)
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=self.environment,
            cwd=self.scripts,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, name: str, code: str, *arguments: str) -> str:
        """Run a script to its end: what it printed."""
        return finish(self.start(name, code, *arguments))

    def task(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `fxhpc task ...` to its end, however it ends."""
        return subprocess.run(
            [sys.executable, "-m", "fxhpc.cli.main", "task", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def forwarder(self) -> ForwarderAddress:
        """The home's forwarder; waits for it."""
        found = eventually(Home(self.path).read_owner)
        assert isinstance(found, ForwarderAddress)
        return found

    def processes(self) -> list[psutil.Process]:
        """Everything alive that this test has started, however far it went away."""
        return living({process.pid for process in self._started})

    def close(self) -> None:
        """End what the test has started, and see that nothing is left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait(LIMIT)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        try:
            eventually(lambda: not self.processes(), 20, told=self._told)
        finally:
            left = self.processes()
            for process in left:
                process.kill()
            # Some MB of nothing, which pytest would keep for each of some hundred tests.
            Path(f"{Home(self.path).store}.reserve").unlink(missing_ok=True)
        owner = Home(self.path).read_owner()
        if owner is not None:
            # It was killed, and the test ended before anybody needed another.
            shutil.rmtree(os.path.dirname(owner.clients.removeprefix("ipc://")), ignore_errors=True)
            return
        journals = [path.name for path in (self.path / "locals").glob("*")]
        assert not journals, f"left behind: {journals}\n{Home(self.path).log.read_text()}"

    def _told(self) -> str:
        """What has not ended, in words."""
        return str([f"{one.pid} {title(one)}" for one in self.processes()])


def living(own: set[int]) -> list[psutil.Process]:
    """All that live of this process's descendants; orphans that came to it are buried.

    Args:
        own: those that somebody else waits for.
    """
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
            elif process.ppid() == os.getpid() and process.pid not in own:
                os.waitpid(process.pid, os.WNOHANG)
        except (psutil.Error, ChildProcessError):
            continue  # it has ended meanwhile
    return found


def title(process: psutil.Process) -> str:
    """What `ps` shows of a process; nothing if it has ended."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def finish(process: subprocess.Popen[str], within: float = LIMIT) -> str:
    """Wait for a script: what it printed. It must have ended well."""
    out, err = process.communicate(timeout=within)
    assert process.returncode == 0, f"ended with {process.returncode}\n{out}\n{err}"
    return out

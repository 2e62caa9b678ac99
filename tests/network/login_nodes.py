"""Login nodes in a test: hosts with names, boots and networks of their own, and one home.

They share a kernel, and so its locks: as they do on a file server that keeps locks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import psutil

from fxhpc.forwarder.access import Access, write_access
from fxhpc.forwarder.home import Home
from tests.network.namespaces import Network
from tests.process.homes import TestHome, finish
from tests.waiting import eventually

_INSIDE = 'hostname "$0" && mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"'


class LoginNodes:
    """Two of them, `login0` and `login1`; others may attach to the home."""

    def __init__(self, home: TestHome) -> None:
        self.home = home
        self.network = Network(2)
        self._boots = [home.scripts / "boot0", home.scripts / "boot1"]
        home.scripts.mkdir(parents=True, exist_ok=True)
        for boot in self._boots:
            boot.write_text(f"{uuid.uuid4()}\n")
        Home(home.path).create()
        write_access(Home(home.path), Access(port=0))

    def start(self, node: int, *command: str) -> subprocess.Popen[str]:
        """Run a command on a node, and go on."""
        inside = ("unshare", "--uts", "--mount", "sh", "-c", _INSIDE)
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", self.network.nodes[node], *inside),
                *(f"login{node}", str(self._boots[node]), *command),
            ],
            env=self.home.environment,
            cwd=self.home.scripts,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.home._started.append(process)
        return process

    def script(self, node: int, code: str) -> subprocess.Popen[str]:
        """Run a script on a node, and go on."""
        name = f"script{len(self.home._started)}.py"
        return self.start(node, sys.executable, str(self.home.write(name, code)))

    def run(self, node: int, code: str) -> str:
        """Run a script on a node to its end: what it printed."""
        return finish(self.script(node, code))

    def command(self, node: int, *words: str) -> tuple[int, str]:
        """Run `fxhpc ...` on a node to its end: its exit code, and all that it said."""
        process = self.start(node, sys.executable, "-m", "fxhpc.cli.main", *words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def forwarder_log(self) -> str:
        """What the home's forwarders have logged, on whatever node."""
        return Home(self.home.path).log.read_text()

    def processes(self, node: int) -> list[psutil.Process]:
        """All that run on a node."""
        own = os.stat(f"/run/netns/{self.network.nodes[node]}").st_ino
        found = []
        for process in self.home.processes():
            try:
                if os.stat(f"/proc/{process.pid}/ns/net").st_ino == own:
                    found.append(process)
            except OSError:
                continue
        return found

    def reboot(self, node: int) -> None:
        """All its processes end at once, and it comes back with another boot id."""
        for process in self.processes(node):
            process.kill()
        eventually(lambda: not self.processes(node))
        self._boots[node].write_text(f"{uuid.uuid4()}\n")

    def close(self) -> None:
        """Nothing is cut off any more, so that all can end; then the networks go."""
        for node in range(2):
            self.network.mend(node)
        try:
            self.home.close()
        finally:
            self.network.close()


def said(process: subprocess.Popen[str]) -> str:
    """The next line that a script prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def go_on(process: subprocess.Popen[str]) -> None:
    """Let a script go on that waits for a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def read_file(path: Path) -> str:
    """What a file holds; nothing if there is none."""
    return path.read_text() if path.exists() else ""

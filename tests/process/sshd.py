"""An ssh server on the loopback, with a port, keys and a client's configuration of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from tests.waiting import LIMIT, eventually

#: Of the key "locked".
PASSPHRASE = "open sesame"

_PRIVILEGES = Path("/run/sshd")  # a directory that sshd wants, and that a service would make


class Sshd:
    """The server; `ssh -F` with its client's configuration knows it as `login`.

    Attributes:
        command: what FXHPC_SSH is to be.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self._directory = directory
        for name in ("host", "user", "stranger"):
            self._make_key(name)
        self._make_key("locked", PASSPHRASE)
        self.allow("user")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "sshd.log"
        (directory / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self._port}\n"
            f'HostKey "{directory}/host"\n'
            f'AuthorizedKeysFile "{directory}/authorized"\n'
            "StrictModes no\nUsePAM no\nPidFile none\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        )
        self._config = directory / "config"
        self.command = f"ssh -F {shlex.quote(str(self._config))}"
        self.use_key("user")

    def use_key(self, name: str) -> None:
        """The client's configuration: as "user", who is known, as a "stranger", or with the key
        "locked", which has a passphrase.
        """
        known = self._directory / "known_hosts"
        if not known.exists():
            key = (self._directory / "host.pub").read_text()
            known.write_text(f"[127.0.0.1]:{self._port} {key}")
        self._config.write_text(
            f"Host login\n  HostName 127.0.0.1\n  Port {self._port}\n  User {getpass.getuser()}\n"
            f'  IdentityFile "{self._directory}/{name}"\n  IdentitiesOnly yes\n'
            f"  IdentityAgent none\n"
            f'  UserKnownHostsFile "{known}"\n  StrictHostKeyChecking yes\n'
        )

    def allow(self, name: str | None) -> None:
        """Let this key in, and no other."""
        keys = (self._directory / f"{name}.pub").read_text() if name else ""
        (self._directory / "authorized").write_text(keys)

    def change_host_key(self) -> None:
        """As if another host had its place."""
        self._make_key("host")

    def start(self) -> None:
        """Returns when it answers."""
        if os.getuid() == 0:
            _PRIVILEGES.mkdir(mode=0o755, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(self._directory / "sshd_config")],
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        eventually(self._answers, told=self._log.read_text)

    def sessions(self) -> list[psutil.Process]:
        """Its processes, each for one connection."""
        assert self._process is not None
        return psutil.Process(self._process.pid).children(recursive=True)

    def stop(self) -> None:
        """End it with all sessions: connections break."""
        if self._process is None:
            return
        sessions = [one for one in self.sessions() if one.name() == "sshd"]
        self._process.kill()
        self._process.wait(LIMIT)
        self._process = None
        for one in sessions:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                pass

    def _answers(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self._port)) == 0

    def _make_key(self, name: str, passphrase: str = "") -> None:
        path = self._directory / name
        path.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=LIMIT)


def fxhpc() -> str:
    """The command `fxhpc` of this interpreter's environment."""
    return str(Path(sys.executable).with_name("fxhpc"))

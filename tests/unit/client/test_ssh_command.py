"""How ssh is started, and what is made of what comes back: with a script in its place."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fxhpc import errors
from fxhpc.client.connection import ssh
from fxhpc.client.connection.address import SshAddress
from fxhpc.client.connection.ssh import Ssh, has_master
from fxhpc.protocol import relay

MARK = "0123456789abcdef" * 2


class FakeSsh:
    """A script that writes down its arguments, and does as it is told."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = directory / "my ssh"
        self._arguments = directory / "arguments"
        monkeypatch.setenv("FXHPC_SSH", f"'{self._path}' -F none")
        self.does("exit 0")

    def does(self, connecting: str, configured: str = "") -> None:
        """What it does to connect, and what it says of its configuration."""
        self._path.write_text(
            "#!/bin/sh\n"
            f"case \" $* \" in *' -G '*) printf '{configured}'; exit 0;; "
            "*' -O check '*) exit 255;; esac\n"
            f"printf '%s\\n' \"$@\" > '{self._arguments}'\n{connecting}\n"
        )
        self._path.chmod(0o700)

    @property
    def arguments(self) -> list[str]:
        """With which it was started to connect."""
        return self._arguments.read_text().splitlines()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSsh:
    return FakeSsh(tmp_path, monkeypatch)


def opened(address: SshAddress, may_ask: bool = False) -> relay.Opening:
    one = Ssh(address, MARK, may_ask)
    try:
        return one.open(lambda: False)
    finally:
        one.kill()
        one.socket.close()
        one.end(10.0)


def says(opening: relay.Opening, before: str = "") -> str:
    line = relay.line(MARK, opening).decode().replace("\n", "\\n")
    return f"printf '%s{line}' '{before}'; cat"


def test_the_users_configuration_counts(fake: FakeSsh) -> None:
    opening = relay.Opening("login1", "/h")
    fake.does(says(opening))
    address = SshAddress("login", "me", 2222, "/a home", "~/my venv/bin/fxhpc")
    assert opened(address) == opening
    ours = fake.arguments
    assert ours[:2] == ["-F", "none"]
    assert ours[-3:-1] == ["--", "login"]
    assert ours[-1] == f"~/'my venv/bin/fxhpc' connect {MARK} --home '/a home'"
    assert ours[-7:-3] == ["-p", "2222", "-l", "me"]
    assert {"ServerAliveInterval=15", "ConnectTimeout=30", "BatchMode=yes"} < set(ours)
    fake.does(says(opening), "serveraliveinterval 60\\nconnecttimeout 5\\n")
    assert opened(SshAddress("login", command="module load x && fxhpc"), may_ask=True) == opening
    text = " ".join(fake.arguments)
    assert "ServerAlive" not in text
    assert "ConnectTimeout" not in text
    assert "BatchMode" not in text
    assert text.endswith(f"-- login module load x && fxhpc connect {MARK}")


def test_what_login_shells_print_is_passed_over(fake: FakeSsh) -> None:
    opening = relay.Opening("login1", "/h")
    fake.does(says(opening, f"Welcome to {MARK} {{}} \x01\x02"))
    assert opened(SshAddress("login")) == opening


def test_another_version_is_told(fake: FakeSsh) -> None:
    fake.does(says(relay.Opening("login1", "/h", "9.9", 99, 98)))
    with pytest.raises(errors.VersionMismatch, match=r"at ssh://login is fxhpc 9\.9"):
        opened(SshAddress("login"))
    fake.does(f"echo '{MARK}{MARK} [1]'")
    with pytest.raises(errors.VersionMismatch, match="speaks in a way"):
        opened(SshAddress("login"))


def test_errors_of_the_home_keep_their_kind(fake: FakeSsh) -> None:
    fake.does(says(relay.Opening("login1", "/h", error="HomeError", text="it is full")))
    with pytest.raises(errors.HomeError, match="on login1: it is full"):
        opened(SshAddress("login"))
    for name in ("ForwarderUnreachable", "SystemExit", "no_such_name"):
        fake.does(says(relay.Opening("login1", "/h", error=name, text="it is away")))
        with pytest.raises(errors.ForwarderError, match="it is away"):
            opened(SshAddress("login"))


def test_who_waits_no_longer_ends_it(fake: FakeSsh) -> None:
    fake.does("exec sleep 60")
    one = Ssh(SshAddress("login"), MARK, may_ask=True)
    with pytest.raises(errors.ForwarderUnreachable, match="given up"):
        one.open(lambda: True)
    one.kill()
    one.socket.close()
    one.end(10.0)


def test_nobody_asks_for_ever(fake: FakeSsh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "OPENING_S", 0.2)
    fake.does("exec sleep 60")
    with pytest.raises(errors.ForwarderUnreachable, match="no answer within"):
        opened(SshAddress("login"))


def test_there_may_be_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXHPC_SSH", "/nowhere/ssh")
    with pytest.raises(errors.ForwarderUnreachable, match="no command '/nowhere/ssh' here"):
        opened(SshAddress("login"))
    assert not has_master(SshAddress("login"))
    monkeypatch.setenv("FXHPC_SSH", "ssh 'half")
    with pytest.raises(errors.UsageError, match="FXHPC_SSH is"):
        opened(SshAddress("login"))


def test_a_forked_child_gives_up_its_end(fake: FakeSsh) -> None:
    fake.does("cat")
    one = Ssh(SshAddress("login"), MARK, may_ask=False)
    end = one.socket.fileno()
    copy = socket.fromfd(end, socket.AF_UNIX, socket.SOCK_STREAM)  # the parent's
    one.leave_to_parent()
    one.leave_to_parent()
    copy.sendall(b"still there")
    assert copy.recv(100) == b"still there"
    copy.close()
    one.end(10.0)

"""What the first argument of FuncXClient names."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.client.connection.address import SshAddress, parse
from fxhpc.errors import UsageError


def test_a_path_is_a_directory_of_this_host(tmp_path: Path) -> None:
    assert parse(tmp_path) == parse(str(tmp_path)) == tmp_path
    assert parse("~/other home") == Path.home() / "other home"
    assert parse("relative") == Path.cwd() / "relative"


def test_without_one_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXHPC_HOME", "/somewhere/else")
    assert parse(None) == parse("") == Path("/somewhere/else")
    monkeypatch.delenv("FXHPC_HOME")
    assert parse(None) == Path.home() / ".fxhpc"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssh://login", SshAddress("login")),
        ("ssh://login.cluster.org/", SshAddress("login.cluster.org")),
        ("ssh://me@login:2222", SshAddress("login", "me", 2222)),
        ("ssh://me@dom.org@login", SshAddress("login", "me@dom.org")),
        ("ssh://[::1]:22", SshAddress("::1", port=22)),
        ("ssh://[fe80::1%eth0]", SshAddress("fe80::1%eth0")),
        ("ssh://login/project/a%20home", SshAddress("login", home="/project/a home")),
        ("ssh://login/~/lab", SshAddress("login", home="~/lab")),
        (
            "ssh://login?command=/opt/my%20venv/bin/fxhpc",
            SshAddress("login", command="/opt/my venv/bin/fxhpc"),
        ),
        (
            "ssh://login/h?command=module load python%26%26fxhpc",
            SshAddress("login", home="/h", command="module load python&&fxhpc"),
        ),
    ],
)
def test_addresses_of_ssh(text: str, expected: SshAddress) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "ssh://",
        "ssh:///home",
        "ssh://-oProxyCommand=evil",
        "ssh://-l@host",
        "ssh://a b",
        "ssh://host:0",
        "ssh://host:65536",
        "ssh://host:x",
        "ssh://host?comand=x",
        "ssh://host?command=",
        "ssh://host/a%0Ab",
        "ssh://me@",
        "ssh://host;reboot",
    ],
)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^home="):
        parse(text)


def test_other_schemes_are_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match="ssh://"):
        parse("http://service")


def test_the_environment_names_directories_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXHPC_HOME", "ssh://login")
    with pytest.raises(UsageError, match="FXHPC_HOME is 'ssh://login'"):
        parse(None)


def test_an_address_is_told_without_its_command() -> None:
    assert str(parse("ssh://me@[::1]:22/h?command=x")) == "ssh://me@[::1]:22/h"

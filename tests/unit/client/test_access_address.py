"""Which home is meant by an access file, and by an address with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.client.connection.address import TcpAddress, parse
from fxhpc.errors import UsageError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FXHPC_HOME", raising=False)
    monkeypatch.delenv("FXHPC_ACCESS", raising=False)
    file = tmp_path / "my laptop.json"
    file.touch()
    return file


def test_a_file_is_an_access_file(file: Path) -> None:
    assert parse(file) == parse(None, access=file) == TcpAddress(file)
    assert parse(file.parent) == file.parent
    assert str(file) in str(TcpAddress(file))


def test_an_address_with_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = parse("tcp://login.org:4711/", access=file)
    assert found == TcpAddress(file, "tcp://login.org:4711")
    assert str(found) == "tcp://login.org:4711"
    assert parse("tcp://[::1]:1", access=str(file)) == TcpAddress(file, "tcp://[::1]:1")
    monkeypatch.setenv("FXHPC_ACCESS", str(file))
    assert parse("tcp://login.org:4711") == found


def test_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXHPC_ACCESS", str(file))
    assert parse(None) == TcpAddress(file)
    assert parse("/home/of/mine") == Path("/home/of/mine")
    monkeypatch.setenv("FXHPC_HOME", "/home/of/mine")
    assert parse(None) == Path("/home/of/mine")


@pytest.mark.parametrize(
    "text",
    ["tcp://login", "tcp://login:0", "tcp://login:x", "tcp://:1", "tcp://-o:1", "tcp://a b:1"],
)
def test_what_is_no_address(file: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"tcp://HOST:PORT"):
        parse(text, access=file)


def test_what_is_missing_or_too_much(file: Path) -> None:
    with pytest.raises(UsageError, match="access=FILE"):
        parse("tcp://login:4711")
    for other in ("ssh://login", "/home/of/mine"):
        with pytest.raises(UsageError, match="access"):
            parse(other, access=file)

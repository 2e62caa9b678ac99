"""Access from other hosts, where the administrators of a host say something of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.errors import HomeError
from fxhpc.forwarder import other_hosts
from fxhpc.forwarder.access import OWN, Access, Grant, check_permitted, write_access
from fxhpc.forwarder.home import Home
from fxhpc.site import is_there, reading


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("access_from_outside: refuse", "nobody is granted access.*site.yaml:1"),
        ("access_from_outside: perhaps", "access_from_outside: .*perhaps"),
        ("access_from_outside: allow", ""),
        (None, ""),
    ],
)
def test_a_site_may_refuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, words: str
) -> None:
    path = tmp_path / "site.yaml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(reading, "current", lambda name: reading.parse(path.read_text(), name))

    if not words:
        check_permitted(str(path))
        return
    with pytest.raises(HomeError, match=words):
        check_permitted(str(path))


def test_a_site_file_that_may_not_be_looked_for_allows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.stat", refuse)
    found = is_there("/etc/fxhpc/site.yaml")
    monkeypatch.undo()
    assert found


def test_who_was_granted_access_loses_it_where_a_site_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts that share the home are let in all the same; without them there is no port."""
    home = Home(tmp_path / "home")
    home.create()
    write_access(home, Access(0, "127.0.0.1", [Grant("laptop", "x" * 40, 0.0)]))
    refused: list[str] = []

    def check() -> None:
        if refused:
            raise HomeError(refused[0])

    monkeypatch.setattr(other_hosts, "check_permitted", check)
    for network in ("nfs", ""):
        refused.clear()
        others = other_hosts.OtherHosts(home, network)
        assert others.look()
        assert others.names == {OWN, "laptop"}
        refused.append("nobody is let in")
        write_access(home, Access(0, "127.0.0.1", [Grant("laptop", "x" * 40, 0.0)]))
        assert others.look()
        assert others.names == {OWN}
        assert bool(others.addresses) == bool(network)
        others.close()


def test_nobody_is_let_in_if_it_cannot_be_read_who_may(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    write_access(home, Access(0, "127.0.0.1", [Grant("laptop", "x" * 40, 0.0)]))
    others = other_hosts.OtherHosts(home, "")
    assert others.look()
    assert others.addresses
    home.access.write_text("{")
    assert others.look()
    assert not others.addresses
    assert "cannot be read" in others.trouble
    others.close()

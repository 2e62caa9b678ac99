"""Where the interchange is: many addresses, of which some answer."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fxhpc.manager.finding import Finder, NotFound, Way
from fxhpc.protocol.pool import ManagerSpec
from tests.waiting import eventually

#: An address that nobody answers: of a network that is for documentation alone.
SILENT = "tcp://192.0.2.1:5000"


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def refusing() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return address(server)


def finder(selector: selectors.BaseSelector, addresses: str, **spec: Any) -> Finder:
    fields = {"endpoint": b"", "workers": 1, "address": addresses} | spec
    return Finder(ManagerSpec(**fields), selector)


def settle(finder: Finder, selector: selectors.BaseSelector) -> Way:
    """Go on until there is an answer."""

    def turn() -> Way | None:
        if (way := finder.find(time.monotonic())) is None:
            for key, mask in selector.select(0.05):
                key.data(mask)
        return way

    found = eventually(turn, 10, every=0)
    assert found is not None
    return found


def test_one_address_is_taken_without_a_try(selector: selectors.BaseSelector) -> None:
    assert settle(finder(selector, SILENT), selector).address == SILENT


def test_the_first_that_answers_is_taken(
    selector: selectors.BaseSelector, listener: socket.socket
) -> None:
    bad = refusing()
    found = finder(selector, f"{SILENT} {bad} {address(listener)}")
    assert settle(found, selector).address == address(listener)
    assert not found.busy
    assert not selector.get_map()
    assert "refused" in found.told[bad]


def test_what_gives_no_welcome_is_left_out(
    selector: selectors.BaseSelector, listener: socket.socket
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        both = {address(listener), address(other)}
        found = finder(selector, " ".join(sorted(both)))
        first = settle(found, selector).address
        found.failed(first, "it gives no welcome")
        second = settle(found, selector).address
        assert {first, second} == both
        assert f"{first} (it gives no welcome)" in found.summary()
        found.failed(second, "it gives no welcome either")
        assert settle(found, selector).address in both  # all are tried again


def test_what_worked_is_taken_again_at_once(
    selector: selectors.BaseSelector, listener: socket.socket
) -> None:
    found = finder(selector, f"{SILENT} {address(listener)}")
    found.welcomed(settle(found, selector).address)
    assert found.find(time.monotonic()) is not None


def test_nobody_answers(selector: selectors.BaseSelector) -> None:
    found = finder(selector, f"{refusing()} {SILENT} tcp://nonsense", address_probe_s=0.2)
    with pytest.raises(NotFound, match=r"refused.*nonsense") as caught:
        settle(found, selector)
    assert SILENT in str(caught.value)
    assert not selector.get_map()
    with pytest.raises(NotFound):  # it is tried anew
        settle(found, selector)


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_a_file_without_an_address(
    selector: selectors.BaseSelector, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "managers.address"
    if text is not None:
        path.write_text(text)
    found = finder(selector, "", address_file=str(path))
    with pytest.raises(NotFound, match=r"managers\.address"):
        found.find(0.0)


def test_a_key_that_cannot_be_read(selector: selectors.BaseSelector, tmp_path: Path) -> None:
    path = tmp_path / "managers.address"
    path.write_text(f"{SILENT}\n{'k' * 40}\n")
    key = str(tmp_path / "manager.key")
    found = finder(selector, "", address_file=str(path), key_file=key)
    with pytest.raises(NotFound, match=r"manager\.key, cannot be read \(No such file"):
        found.find(0.0)


def test_sockets_of_this_host(selector: selectors.BaseSelector, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "m"))
        server.listen()
        way = settle(finder(selector, f"{SILENT} ipc://{tmp_path / 'm'}"), selector)
        assert way.address == f"ipc://{tmp_path / 'm'}"
        assert way.curve is None

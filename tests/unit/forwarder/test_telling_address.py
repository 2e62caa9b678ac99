"""A forwarder that cannot write where it is serves all the same, and says it later."""

from __future__ import annotations

from typing import Any

import pytest

from fxhpc.errors import HomeError
from fxhpc.forwarder.process import ForwarderProcess


class _Home:
    def __init__(self) -> None:
        self.is_full = False
        self.written: list[Any] = []

    def write_owner(self, address: Any) -> None:
        if self.is_full:
            raise HomeError("forwarder.json cannot be written: Too many open files")
        self.written.append(address)


def test_an_address_that_cannot_be_written_is_written_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process: Any = ForwarderProcess.__new__(ForwarderProcess)
    home = process._home = _Home()
    process._others, process._address, process._is_told = None, "tcp://one", True
    home.is_full = True
    process._tell_address(True)
    assert "Too many open files" in caplog.text
    process._tell_address(False)
    assert home.written == []
    home.is_full = False
    process._tell_address(False)
    process._tell_address(False)
    assert home.written == ["tcp://one"]

"""Calls that a signal's handler makes in the midst of another one do not wait for it for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_forwarder import FakeHome

from fxhpc import errors
from fxhpc.client.connection.home import HomeConnection
from fxhpc.protocol import service


def _interrupted(connection: HomeConnection, handler: Callable[[], None]) -> None:
    """Have a handler run while a call of this thread is being sent."""
    put, first = connection._put, True

    def interrupt(frames: list[bytes]) -> bool:
        nonlocal first
        if first:
            first = False
            handler()
        return put(frames)

    connection._put = interrupt  # type: ignore[method-assign]
    assert connection.ask(service.GetStatus(0, "outer"), 10)


def test_what_a_handler_sends_goes_after_what_it_has_interrupted(home: FakeHome) -> None:
    connection = HomeConnection(home.locate)
    answers: list[Any] = []

    def handler() -> None:
        for name in ("one", "two"):
            connection.call(service.GetStatus(0, name), answers.append)
        connection.post(service.CancelTasks(0, []))

    try:
        _interrupted(connection, handler)
        assert connection.ask(service.GetStatus(0, "last"), 10)
        asked = [m.endpoint for m in home.service.seen if isinstance(m, service.GetStatus)]
        assert asked == ["outer", "one", "two", "last"]
        assert len(answers) == 2
        assert home.greetings == 1  # the link was never broken
    finally:
        connection.close()


def test_what_a_handler_would_wait_for_is_refused(home: FakeHome) -> None:
    connection = HomeConnection(home.locate)

    def handler() -> None:
        with pytest.raises(errors.UsageError, match="set a flag"):
            connection.ask(service.GetStatus(0, "inner"), 10)

    try:
        _interrupted(connection, handler)
        asked = [m.endpoint for m in home.service.seen if isinstance(m, service.GetStatus)]
        assert asked == ["outer"]
    finally:
        connection.close()

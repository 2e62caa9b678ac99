"""Ctrl-C while a call is sent: what follows is as if nothing had been."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_forwarder import FakeHome

from fxhpc import ids
from fxhpc.client.connection.home import HomeConnection
from fxhpc.protocol import service
from fxhpc.protocol.messages import StreamInfo
from fxhpc.serialize import pack_arguments, pack_function
from tests.waiting import eventually

LARGE = 2_000_000  # more than the kernel takes at once


def length(text: str) -> int:
    return len(text)


@pytest.fixture
def connection(home: FakeHome) -> Iterator[HomeConnection]:
    home.service.teach(length)
    made = HomeConnection(home.locate, patience=10.0)
    yield made
    made.close()


class Interrupted:
    """Something whose method raises KeyboardInterrupt once: before it has acted, or after."""

    def __init__(self, real: Any, method: str, after: bool) -> None:
        self._real, self._method, self._after = real, method, after
        self.struck = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name != self._method or self.struck:
            return found

        def act(*arguments: Any) -> None:
            self.struck = True
            if self._after:
                found(*arguments)
            raise KeyboardInterrupt

        return act


class Full:
    """A socket that takes nothing until something was interrupted."""

    def __init__(self, real: Any, interrupted: Interrupted) -> None:
        self._real, self._interrupted = real, interrupted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def sendmsg(self, *arguments: Any) -> int:
        if not self._interrupted.struck:
            raise BlockingIOError
        return int(self._real.sendmsg(*arguments))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("where", ["sendmsg", "modify", "stamp"])
def test_ctrl_c_while_a_large_call_is_sent(
    connection: HomeConnection, home: FakeHome, where: str, after: bool
) -> None:
    """A part of it may have gone: nothing may follow that on the same connection. The call is made
    whole on the next one, and whoever calls then waits for nobody."""
    socket: Any = connection._socket
    if where == "sendmsg":
        interrupted: Any = Interrupted(socket._stream._socket, where, after)
        socket._stream._socket = interrupted
    elif where == "modify":  # when the kernel has not taken all
        interrupted = Interrupted(socket._stream._selector, where, after)
        socket._stream._selector = interrupted
        socket._stream._socket = Full(socket._stream._socket, interrupted)
    else:
        link: Any = connection._link
        interrupted = connection._link = Interrupted(link, where, after)  # type: ignore[assignment]
    info = StreamInfo(ids.new_stream(), ids.LOCAL_ENDPOINT, pack_function(length).digest, keep=True)
    payload = pack_arguments(("x" * LARGE,), {}, 2 * LARGE)
    with pytest.raises(KeyboardInterrupt):
        connection.call(service.Submit(0, [service.Submission(info, 0, [payload])]))
    assert interrupted.struck
    assert isinstance(connection.ask(service.GetStatus(0, "x"), 10), service.EndpointStatus)
    eventually(lambda: home.greetings >= 2, 10)
    fetch = service.Fetch(0, [service.StreamRanges(info.stream, [0, 1])], 10.0, 1)
    (part,) = connection.ask(fetch, 20).streams
    (state,) = part.states
    assert state.outcome is not None
    assert connection.usable

"""What a client sends to another host goes in parts where it is large, and as it is within one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fxhpc.client.connection.home_sending import Sending
from fxhpc.protocol import service
from fxhpc.protocol.codec import FROM_CLIENT
from fxhpc.transport import parts

BODY = b"x" * 3_000_000


class Socket:
    """Takes every message."""

    def __init__(self, crosses_hosts: bool) -> None:
        self.crosses_hosts = crosses_hosts
        self.sent: list[list[bytes]] = []

    def send_message(self, frames: Sequence[bytes | memoryview]) -> bool:
        self.sent.append([bytes(frame) for frame in frames])
        return True


class Client(Sending):
    def __init__(self, socket: Any) -> None:
        super().__init__()
        self._socket, self._greeted = socket, True

    def close(self, timeout: float = 1.0) -> None:
        self._waker.close()


@pytest.mark.parametrize("crosses_hosts", [True, False])
def test_large_calls(crosses_hosts: bool) -> None:
    socket = Socket(crosses_hosts)
    client = Client(socket)
    client.call(service.PutBody(0, b"d" * 32, BODY))
    client.close()
    whole: list[bytes] | None = socket.sent[0]
    if crosses_hosts:
        assert max(sum(map(len, frames)) for frames in socket.sent) < 2 * parts.PART_BYTES
        assembly = parts.Assembly()
        for part in socket.sent:
            whole = assembly.add(part)
    else:
        assert len(socket.sent) == 1
    assert whole is not None
    assert FROM_CLIENT.decode(whole).message == service.PutBody(1, b"d" * 32, BODY)


def test_a_sign_of_life_is_no_message() -> None:
    assembly = parts.Assembly()
    assert parts.is_part(parts.sign_of_life())
    assert assembly.add(parts.sign_of_life()) is None
    whole = None
    for part in parts.split([b"head", BODY]):
        whole = assembly.add([bytes(piece) for piece in part])
    assert whole == [b"head", BODY]

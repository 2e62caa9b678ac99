"""Shared arguments at the client: put once by each connection, before the tasks that need them."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import pytest

from fxhpc import errors
from fxhpc.client.sending import shared, streams
from fxhpc.protocol import service
from fxhpc.protocol.messages import StreamInfo
from fxhpc.serialize import ArgumentPacker
from fxhpc.serialize.sharing import SharedBody

INFO = StreamInfo(b"s" * 12, "endpoint", b"f" * 32)
SIZE = 100_000


class Connection:
    def __init__(self) -> None:
        self.bodies: OrderedDict[bytes, int] = OrderedDict()
        self.sent: list[Any] = []
        self.answers: list[Any] = []

    def call(self, message: Any, then: Any) -> Any:
        self.sent.append(message)
        self.answers.append(then)
        return self

    def post(self, message: Any) -> None:
        self.sent.append(message)


def body(number: int) -> SharedBody:
    return SharedBody(bytes([number]) * SIZE, None)


def test_rows_name_what_their_tasks_refer_to_and_it_is_put_first() -> None:
    packer, big, put = ArgumentPacker(), os.urandom(SIZE), list[SharedBody]()
    payloads = [packer.pack((big, n), {}, 10**6) for n in range(1500)]
    rows = list(streams.cut(INFO, 0, payloads, put.append))
    assert [len(row.payloads) for row in rows] == [1000, 500]
    assert [row.shared for row in rows] == [[put[0].digest]] * 2
    assert {one.digest for one in put} == set(rows[0].shared)
    assert {type(payload) for row in rows for payload in row.payloads} == {bytes}
    assert sum(len(payload) for row in rows for payload in row.payloads) < 3 * SIZE


def test_a_connection_puts_one_once_and_again_if_it_was_refused() -> None:
    connection: Any = Connection()
    answered: list[Any] = []
    one = body(1)
    assert shared.put(connection, one, answered.append) is connection
    assert shared.put(connection, one) is None
    connection.answers[0](errors.StoreFull("full"))
    assert isinstance(answered[0], errors.StoreFull)
    assert shared.put(connection, one) is connection
    puts = [(message.digest, message.shared) for message in connection.sent]
    assert puts == [(one.digest, True)] * 2


def test_the_forwarder_may_forget_what_was_not_used_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "HELD_BYTES", 2 * SIZE)
    connection: Any = Connection()
    bodies = [body(number) for number in range(4)]
    for number in (0, 1, 0, 2, 3):
        shared.put(connection, bodies[number])
    forgotten = [m.digests for m in connection.sent if isinstance(m, service.ForgetBodies)]
    assert forgotten == [[bodies[1].digest], [bodies[0].digest]]
    assert [*connection.bodies] == [bodies[2].digest, bodies[3].digest]

"""Row I4: bytes that are no messages, on every socket of an interchange and of a manager."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from fxhpc import FuncXClient
from fxhpc.protocol import messages as msg
from fxhpc.protocol.codec import TO_MANAGER
from fxhpc.protocol.link import Link
from fxhpc.testing.endpoint import RunningEndpoint
from fxhpc.transport import tcp_sockets, unix_sockets
from fxhpc.transport.curve import CurveClient
from fxhpc.transport.keys import load_keys
from tests.process.homes import TestHome
from tests.process.workers import tasks
from tests.process.workers.interchange import Interchange
from tests.waiting import eventually

#: What a ZMTP peer says first, and what it says then where there are no keys.
GREETING = b"\xff" + bytes(7) + b"\x01\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"

RAW = [
    b"",
    b"GET / HTTP/1.1\r\n\r\n",
    bytes(range(256)) * 8,
    GREETING[:9],
    GREETING[:40],
    GREETING,
    GREETING + READY[:20],
    GREETING + READY + b"\x02" + struct.pack(">Q", 1 << 40) + b"x" * 1000,  # a frame of 1 TB
    GREETING + READY + b"\x00\x05hello" + b"\x01\x00\x00\x00",
]

MESSAGES: list[list[bytes]] = [
    [b""],
    [b"", b"", b""],
    [b"\xc1"],
    [b"\x93\x01\x00"],  # cut
    [b"\x93\x01\x00\x91\xa7unknown"],
    [b"\x93\x01\x00\x91\xa8register"],  # too few fields
    [b"\x93\x01\x00\x92\xa7results\xa3abc"],
    [b"\x93\x01\x02\x93\xa4body\xc4\x01d\x07"],  # refers to a frame that is not there
    [b"\x93\x01\x00\x91\xa9heartbeat"] + [b"x"] * 100,
    [b"\x91" * 5000],  # too deep
    [b"\x00" * 100_000],
]


def double(number: int) -> int:
    return 2 * number


def say_raw(family: int, address: Any, data: bytes) -> None:
    with socket.socket(family) as stream:
        stream.settimeout(5)
        with contextlib.suppress(OSError):  # it was closed already
            stream.connect(address)
            stream.sendall(data)


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    with RunningEndpoint(home.path, "midway", managers=1, workers=1) as endpoint:
        yield endpoint


@pytest.fixture
def context() -> Iterator[zmq.SyncContext]:
    context = tcp_sockets.make_context()
    yield context
    context.destroy(linger=500)


def test_i04_an_interchange_ignores_what_is_no_message(
    client: FuncXClient, endpoint: RunningEndpoint, context: zmq.SyncContext
) -> None:
    """I4: raw bytes, cut greetings, frames that are too large, and messages that cannot be read,
    some of them with a manager's key: logged once, counted in the status, ignored. Tasks go on.
    """
    assert client.run(2, endpoint_id=endpoint.endpoint_id, function_id=_registered(client))
    address = endpoint.directory.read_address()
    assert address is not None
    host, port = address.managers.removeprefix("tcp://").split(":")
    path = address.forwarder.removeprefix("ipc://")
    for data in RAW:
        say_raw(socket.AF_INET, (host, int(port)), data)
        say_raw(socket.AF_UNIX, path, data)
    curve = CurveClient(
        load_keys(endpoint.directory.manager_key, "manager"), address.server_key.encode()
    )
    peers = [
        tcp_sockets.dealer(context, address.managers, curve=curve),
        unix_sockets.dealer(address.forwarder),
    ]
    for peer in peers:
        for message in MESSAGES:
            assert peer.send_message(message)

    def told() -> str:
        try:
            status = json.loads(endpoint.directory.status.read_bytes())
        except FileNotFoundError:
            return ""  # it has just begun
        return " ".join(status["report"].get("notices", []))

    count = len(MESSAGES) - 1  # one is a heartbeat, with frames that nothing refers to
    eventually(lambda: f"{count} messages at the managers' port" in told(), within=10)
    eventually(lambda: f"{count} messages at the forwarder's socket" in told(), within=10)
    assert "connections without the right key" in told()
    task = client.run(21, endpoint_id=endpoint.endpoint_id, function_id=_registered(client))
    assert client.get_result(task, timeout=30) == 42
    assert endpoint.interchange is not None
    assert endpoint.interchange.poll() is None
    log = (endpoint.directory.log).read_text()
    assert 1 <= log.count("ignored what peer") <= 2  # once for each socket
    assert log.count("ignored since the start") <= 2


def _registered(client: FuncXClient) -> str:
    return client.register_function(double)


def test_i04_a_manager_ignores_what_is_no_message(interchange: Interchange) -> None:
    """I4: an interchange that sends a manager what nobody can read, also in the middle of what it
    says: the manager goes on, asks for what it missed, and runs tasks.
    """
    interchange.ready()
    assert interchange.run(tasks.double, (4,))
    for message in MESSAGES:
        interchange._acceptor.socket.send_message([interchange.peer, *message])
    link = interchange._acceptor._links[interchange.peer]
    cut = TO_MANAGER.encode(link.stamp(msg.Heartbeat()))[0][:-3]
    interchange._acceptor.socket.send_message([interchange.peer, cut])
    repeated = TO_MANAGER.encode(Link(link.session).stamp(msg.Heartbeat()))
    interchange._acceptor.socket.send_message([interchange.peer, *repeated])
    interchange.say(msg.Heartbeat())  # by which it notices that something is missing
    interchange.until(lambda: len(interchange.registered) == 2)
    assert len(interchange.run(tasks.double, *[(number,) for number in range(100)])) == 100
    assert interchange.process.poll() is None
    assert not interchange.bye


def test_i05_what_is_said_twice_counts_once(interchange: Interchange) -> None:
    """I5: an interchange that repeats an acknowledgement, tasks of a manager's link, and a welcome
    of an earlier session: nothing runs twice, no result is told twice.
    """
    interchange.ready()
    stream = interchange.send(tasks.double, *[(number,) for number in range(10)])
    interchange.wait(stream, 10)
    link = interchange._acceptor._links[interchange.peer]
    again = [
        msg.Welcome(interchange.epoch, "0"),
        msg.ResultsStored([1, 2, 3]),
        msg.Drain(),
        msg.Bye("of long ago"),
    ]
    for session in (link.session, link.session + 1):  # its own numbers of before; another session
        old = Link(session)
        for message in again:
            frames = TO_MANAGER.encode(old.stamp(message))
            interchange._acceptor.socket.send_message([interchange.peer, *frames])
    assert len(interchange.run(tasks.double, *[(number,) for number in range(50)])) == 50
    assert interchange.twice == 0
    assert len(interchange.registered) == 1
    assert not interchange.bye

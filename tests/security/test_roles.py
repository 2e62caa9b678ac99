"""Keys serve one purpose: a manager's does not submit, a client's does not take work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from fxhpc.ids import new_stream
from fxhpc.protocol import codec, service
from fxhpc.protocol import messages as msg
from fxhpc.protocol.link import Link
from fxhpc.testing.endpoint import RunningEndpoint
from fxhpc.transport.curve import CurveClient
from fxhpc.transport.keys import KeyPair, new_keys
from fxhpc.transport.monitor import Monitor
from fxhpc.transport.tcp_sockets import dealer, make_context
from tests.waiting import eventually


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEndpoint]:
    """A real interchange, which waits for managers."""
    home: Path = tmp_path_factory.mktemp("home")
    with RunningEndpoint(home, "guarded", managers=0) as endpoint:
        endpoint.directory.keys("manager")
        yield endpoint


class Peer:
    """Somebody who connects to where managers register."""

    def __init__(self, endpoint: RunningEndpoint, keys: KeyPair) -> None:
        address = endpoint.directory.read_address()
        assert address is not None
        self.context = make_context()
        curve = CurveClient(keys, address.server_key.encode())
        self.socket = dealer(
            self.context,
            address.managers.split()[0],
            curve=curve,
            before_connecting=self._watch,
        )
        self.link = Link(7)

    def _watch(self, socket: zmq.SyncSocket) -> None:
        self.monitor = Monitor(socket)

    def say(self, message: object, encode: codec.Codec[object] = codec.FROM_MANAGER) -> None:  # type: ignore[assignment]
        """Say this, as the codec of any link writes it."""
        self.socket.send_message(encode.encode(self.link.stamp(message)))

    def answers(self) -> list[object]:
        """What has been answered."""
        found: list[object] = []
        while (frames := self.socket.receive_message()) is not None:
            found.append(codec.TO_MANAGER.decode([bytes(one) for one in frames]).message)
        return found

    def close(self) -> None:
        """Leave."""
        self.monitor.close()
        self.socket.close(0)
        self.context.destroy(linger=0)


def register(endpoint: RunningEndpoint) -> msg.Register:
    """A greeting that is as it should be."""
    from fxhpc.version import __version__

    record = endpoint.directory.read_record()
    assert record is not None
    return msg.Register("somebody", record.endpoint.encode(), 1, __version__)


@pytest.mark.parametrize("role", ["client", "endpoint", "manager"])
def test_f13_a_key_that_is_not_the_managers(endpoint: RunningEndpoint, role: str) -> None:
    """A client's key, an endpoint's (its own too), another endpoint's managers': refused by CURVE,
    before a byte of theirs is decoded.
    """
    own = endpoint.directory.keys("endpoint")
    for keys in [new_keys(role), own] if role == "endpoint" else [new_keys(role)]:  # type: ignore[arg-type]
        peer = Peer(endpoint, keys)
        try:
            peer.say(register(endpoint))

            def refused(peer: Peer = peer) -> int:
                peer.monitor.look()
                return peer.monitor.refused

            eventually(refused, within=10)
            assert not peer.answers()
        finally:
            peer.close()


def test_f13_a_managers_key_does_not_submit(endpoint: RunningEndpoint) -> None:
    """Who has a manager's key says what forwarders and clients say: nobody there understands it,
    it is logged once, and the same connection may still register as what it is.
    """
    stream = new_stream()
    info = msg.StreamInfo(stream, "guarded", b"f" * 32)
    peer = Peer(endpoint, endpoint.directory.keys("manager"))
    try:
        for message, encode in (
            (msg.Hello(99, "9.9"), codec.TO_INTERCHANGE),
            (msg.Tasks([msg.TaskRun(stream, 0, b"f" * 32, [b"arguments"])]), codec.TO_INTERCHANGE),
            (service.Attach(b"c" * 16, b"l" * 16, 1, "here", 0.0, "9.9"), codec.FROM_CLIENT),
            (service.Submit(1, [service.Submission(info, 0, [b"x"])]), codec.FROM_CLIENT),
        ):
            peer.say(message, encode)  # type: ignore[arg-type]
        eventually(lambda: "ignored what peer" in endpoint.directory.log.read_text(), within=10)
        peer.link = Link(8)
        peer.say(register(endpoint))
        heard: list[object] = []
        eventually(lambda: heard.extend(peer.answers()) or heard, within=10)  # type: ignore[func-returns-value]
        assert not [one for one in heard if isinstance(one, msg.Tasks)]
        log = endpoint.directory.log.read_text()
        assert log.count("ignored what peer") == 1, "logged more than once"
        assert "9.9" not in log
    finally:
        peer.close()

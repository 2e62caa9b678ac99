"""Connections whose other end has vanished: they are closed, and nothing piles up for nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from fxhpc.transport import tcp_sockets
from fxhpc.transport.authenticator import Authenticator
from fxhpc.transport.curve import CurveClient, CurveServer
from fxhpc.transport.keys import new_keys
from fxhpc.transport.monitor import Monitor
from fxhpc.transport.sockets import HIGH_WATER_MARK
from tests.network.namespaces import HUB_ADDRESS, Network
from tests.waiting import eventually


@pytest.fixture
def network() -> Iterator[Network]:
    """A hub and one node."""
    network = Network(1)
    yield network
    network.close()


class Ends:
    """A router in the hub and a dealer on the node, which have spoken with each other."""

    def __init__(self, network: Network) -> None:
        endpoint, manager = new_keys("endpoint"), new_keys("manager")
        # ZeroMQ's threads, and so its connections, are where their context's first socket is made.
        with network.inside(network.hub):
            self.hub = tcp_sockets.make_context()
            self.authenticator = Authenticator(self.hub)
            self.authenticator.allow("managers", {manager.public: "manager"})
            curve = CurveServer(endpoint, "managers")
            address = f"tcp://{HUB_ADDRESS}:*"
            self.router = tcp_sockets.router(self.hub, address, curve=curve, silence_s=0.6)
            self.router_monitor = Monitor(self.router)
        with network.inside(network.nodes[0]):
            self.node = tcp_sockets.make_context()
            self.dealer = tcp_sockets.dealer(
                self.node,
                self.router.address,
                curve=CurveClient(manager, endpoint.public),
            )
            self.dealer_monitor = Monitor(self.dealer)
        self.dealer.send_message([b"hello"])
        assert self.authenticator.socket.poll(5_000)
        self.authenticator.handle()
        assert self.router.poll(5_000)
        received = self.router.receive_message()
        assert received is not None
        self.peer = received[0]

    def close(self) -> None:
        for monitor in (self.router_monitor, self.dealer_monitor):
            monitor.close()
        self.authenticator.close()
        for context in (self.hub, self.node):
            context.destroy(linger=0)


@pytest.fixture
def ends(
    network: Network, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Ends]:
    """Both, with heartbeats of 0.2 s, or as a parameter says, and a patience of 0.6 s."""
    monkeypatch.setattr(tcp_sockets, "_HEARTBEAT_MS", getattr(request, "param", 200))
    monkeypatch.setattr(tcp_sockets, "SILENCE_S", 0.6)
    ends = Ends(network)
    yield ends
    ends.close()


def test_m03_what_waits_for_a_node_that_has_vanished_is_bounded(
    network: Network, ends: Ends
) -> None:
    """Nothing tells that an idle node is gone: until that is noticed, what is sent to it waits,
    up to a limit; then both ends close the connection, and nothing waits any more."""
    network.cut(0)
    sent = 0
    while ends.router.send_message([ends.peer, b"x" * 100]):
        sent += 1
        assert sent < 10 * HIGH_WATER_MARK
    eventually(lambda: ends.router_monitor.look().ended, within=10)
    eventually(lambda: ends.dealer_monitor.look().ended, within=10)

    def is_unknown() -> bool:
        assert ends.router.receive_message() is None  # as every loop does
        with pytest.raises(zmq.ZMQError) as error:
            ends.router.send_multipart([ends.peer, b"x"], zmq.NOBLOCK)
        return error.value.errno == zmq.EHOSTUNREACH  # not EAGAIN: its queue is gone

    eventually(is_unknown, within=10)


@pytest.mark.parametrize("ends", [60_000], indirect=True)
def test_m03_a_node_that_vanishes_under_messages_is_noticed_without_a_heartbeat(
    network: Network, ends: Ends
) -> None:
    """What the kernel has not sent yet is in front of any heartbeat, which then asks nobody."""
    network.cut(0)
    while ends.router.send_message([ends.peer, b"x" * 100]):
        pass
    eventually(lambda: ends.router_monitor.look().ended, within=10)


def test_m03_a_node_that_comes_back_is_heard(network: Network, ends: Ends) -> None:
    """The node's end connects again by itself."""
    network.cut(0)
    eventually(lambda: ends.router_monitor.look().ended, within=10)
    network.mend(0)
    ends.dealer.send_message([b"again"])

    def heard() -> bool:
        ends.authenticator.handle()
        received = ends.router.receive_message()
        return received is not None and received[1:] == [b"again"]

    eventually(heard, within=30)

"""ZeroMQ sockets between hosts: CURVE always, the house's options, opened and bound here."""

from __future__ import annotations

import os
import socket as net
from collections.abc import Callable, Sequence
from typing import cast

import zmq

from fxhpc.transport.crowd import Crowd, backlog
from fxhpc.transport.curve import CurveClient, CurveServer
from fxhpc.transport.sockets import HIGH_WATER_MARK, MAX_FRAME

#: A tcp peer that is silent for so many seconds is disconnected, unless a socket is to wait longer.
SILENCE_S = 15.0

#: Frames above this many bytes are sent without a copy; below it, the bookkeeping costs more.
COPY_LIMIT = 64 * 1024

_HEARTBEAT_MS = 5_000
_HANDSHAKE_LIMIT_MS = 10_000
_TCP_SCHEME = "tcp://"
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)


def make_context(io_threads: int = 1) -> zmq.SyncContext:
    """The process's one context: an allow-list guards the sockets of its own context only."""
    context: zmq.SyncContext = zmq.Context(io_threads)
    context.set(zmq.MAX_SOCKETS, min(4096, context.get(zmq.SOCKET_LIMIT)))
    return context


class TcpSocket(zmq.Socket[bytes]):
    """A ZeroMQ socket with the house's methods: see `MessageSocket`.

    Attributes:
        crowd: turns newcomers away while few files may be opened, if it is bound.
    """

    crowd: Crowd | None = None

    def close(self, linger: int | None = None) -> None:
        """Close it, and its port."""
        if self.crowd is not None:
            self.crowd.close()
        super().close(linger)

    @property
    def crosses_hosts(self) -> bool:
        """True."""
        return True

    @property
    def ended(self) -> bool:
        """False: it connects again by itself."""
        return False

    @property
    def address(self) -> str:
        """What it is bound or connected to, with the port that it got."""
        endpoint = self.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return endpoint.rstrip(b"\0").decode()

    @property
    def descriptor(self) -> int:
        """It tells of changes alone: what is there, `is_readable` tells."""
        return int(self.getsockopt(zmq.FD))

    def is_readable(self) -> bool:
        """Whether a message waits."""
        # With plain numbers, since those of an enum cost more than the question.
        return bool(int(self.getsockopt(_EVENTS)) & _READABLE)

    def send_message(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Send a message without waiting; on a router, the first frame is the peer's identity.

        Returns False if it was not sent: the peer is gone, or takes nothing for now.
        """
        try:
            if max(map(len, frames)) <= COPY_LIMIT:
                self.send_multipart(frames, zmq.NOBLOCK)
                return True
            # Only the first frame can be refused: what follows it goes where it went.
            last = len(frames) - 1
            for position, frame in enumerate(frames):
                self.send(
                    frame,
                    zmq.NOBLOCK if position == last else zmq.NOBLOCK | zmq.SNDMORE,
                    copy=len(frame) <= COPY_LIMIT,
                )
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        return True

    def receive_message(self) -> list[bytes] | None:
        """The next message's frames, or None; on a router, the identity first."""
        # To ask first costs less than the exception that tells of an empty queue.
        if not self.is_readable():
            return None
        try:
            return self.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None


def dealer(
    context: zmq.SyncContext,
    address: str,
    *,
    curve: CurveClient | None,
    max_frame: int = MAX_FRAME,
    before_connecting: Callable[[TcpSocket], None] | None = None,
) -> TcpSocket:
    """A connecting socket: whoever opens a link has one. It connects again by itself.

    What is to see every event of its connection, a `Monitor`, is made in `before_connecting`.

    Raises:
        ValueError: the address is not tcp, or there are no keys.
    """
    _check_address(address, curve is not None)
    socket = _socket(context, zmq.DEALER)
    try:
        _set_house_options(socket, max_frame)
        # The acceptor tells its peers apart by this. Random, so that nobody can guess another's.
        socket.setsockopt(zmq.ROUTING_ID, b"\x01" + os.urandom(15))
        if curve is not None:
            socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.keys.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, curve.keys.secret)
            socket.setsockopt(zmq.CURVE_SERVERKEY, curve.server)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, _HANDSHAKE_LIMIT_MS)
        if before_connecting is not None:
            before_connecting(socket)
        socket.connect(address)
    except BaseException:
        socket.close(0)
        raise
    return socket


def router(
    context: zmq.SyncContext,
    address: str,
    *,
    curve: CurveServer | None,
    max_frame: int = MAX_FRAME,
    silence_s: float = SILENCE_S,
) -> TcpSocket:
    """A bound socket: whoever accepts links has one. Its messages begin with the peer's identity.

    An `Authenticator` of the same context must exist already. `tcp://HOST:*` takes any free port:
    `address` tells which.

    Args:
        silence_s: how long a peer may be silent before its connection is closed, if that is longer
            than usual.

    Raises:
        ValueError: the address is not tcp, or there are no keys.
        zmq.ZMQError: the address cannot be bound.
    """
    _check_address(address, curve is not None)
    socket = _socket(context, zmq.ROUTER)
    try:
        _set_house_options(socket, max_frame)
        _wait_for_silent(socket, max(silence_s, SILENCE_S))
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A peer that connects again before the loss of its first connection was noticed here
        # would be ignored without this.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        if curve is not None:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, curve.keys.secret)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.keys.public)
            socket.setsockopt(zmq.ZAP_DOMAIN, curve.domain.encode())
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        _bind(socket, address)
    except BaseException:
        socket.close(0)
        raise
    return socket


def _bind(socket: TcpSocket, address: str) -> None:
    """Listen at a port, with a descriptor of it that is ours.

    Raises:
        zmq.ZMQError: the address cannot be bound.
    """
    host, _, port = address.removeprefix(_TCP_SCHEME).rpartition(":")
    try:
        listening = net.create_server((host, int(port) if port != "*" else 0), backlog=backlog())
    except OSError as error:
        raise zmq.ZMQError(error.errno) from None
    with listening:
        socket.setsockopt(zmq.USE_FD, listening.fileno())
        socket.bind(address)
        socket.crowd = Crowd(listening)
        listening.detach()  # it is libzmq's from now on


def _socket(context: zmq.SyncContext, kind: int) -> TcpSocket:
    return cast(TcpSocket, context.socket(kind, socket_class=TcpSocket))


def _check_address(address: str, has_keys: bool) -> None:
    if not address.startswith(_TCP_SCHEME):
        raise ValueError(f"{address!r} is no address between hosts: it begins with tcp://")
    if not has_keys:
        raise ValueError(
            f"{address} was to be opened without keys; every user of a machine can reach a "
            f"tcp port, on loopback too, so fxhpc uses none without CURVE: give `curve=`"
        )


def _set_house_options(socket: TcpSocket, max_frame: int) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, max_frame)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_LIMIT_MS)
    # These find a node that lost its power or a firewall that forgot the connection. Each side
    # decides for itself how long it waits, so nobody gets a time to live from the other.
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    _wait_for_silent(socket, SILENCE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 15)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 4)


def _wait_for_silent(socket: TcpSocket, seconds: float) -> None:
    """Close a tcp connection whose other end has been silent for so long."""
    limit_ms = int(min(1000 * seconds, 2**31 - 1))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, limit_ms)
    # The time of a heartbeat begins when it is sent, which it never is behind messages that the
    # kernel does not take any more. Then it is the kernel that waits for an answer.
    socket.setsockopt(zmq.TCP_MAXRT, limit_ms)

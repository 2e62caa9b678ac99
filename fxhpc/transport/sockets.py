"""ZeroMQ sockets with the house's options: how they are opened and bound, sent on and read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zmq

from fxhpc.transport.ipc import IPC_SCHEME, check_private, ipc_path
from fxhpc.transport.keys import KeyPair

#: Messages that wait on one connection in one direction. Credit keeps all links far below it:
#: it bounds the memory that a peer can take which does not keep to the protocol.
HIGH_WATER_MARK = 10_000

#: The largest frame that is accepted, in bytes: a connection that announces more is closed.
MAX_FRAME = 1 << 30

#: A tcp peer that is silent for so many seconds is disconnected, unless a socket is to wait longer.
SILENCE_S = 15.0

#: Frames above this many bytes are sent without a copy; below it, the bookkeeping costs more.
COPY_LIMIT = 64 * 1024

_HEARTBEAT_MS = 5_000
_HANDSHAKE_LIMIT_MS = 10_000
_TCP_SCHEME = "tcp://"
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)


@dataclass(frozen=True)
class CurveServer:
    """What a bound tcp socket needs: its own keys, and the name of its allow-list."""

    keys: KeyPair
    domain: str  # see `fxhpc.transport.authenticator`


@dataclass(frozen=True)
class CurveClient:
    """What a connecting tcp socket needs: its own keys, and whom it expects to find there."""

    keys: KeyPair
    server: bytes  # the server's public key, 40 characters of Z85


def make_context(io_threads: int = 1) -> zmq.SyncContext:
    """The process's one context: an allow-list guards the sockets of its own context only."""
    context: zmq.SyncContext = zmq.Context(io_threads)
    context.set(zmq.MAX_SOCKETS, min(4096, context.get(zmq.SOCKET_LIMIT)))
    return context


def dealer(
    context: zmq.SyncContext,
    address: str,
    *,
    curve: CurveClient | None = None,
    max_frame: int = MAX_FRAME,
    before_connecting: Callable[[zmq.SyncSocket], None] | None = None,
) -> zmq.SyncSocket:
    """A connecting socket: whoever opens a link has one.

    What is to see every event of its connection, a `Monitor`, is made in `before_connecting`.

    Over tcp it connects again by itself. Over ipc it connects once: when the process that bound
    the address has gone, anybody might put a socket of his own in its place, so the caller must
    learn the address anew and open a new socket, which checks the directory's owner again. Until
    then `send` returns False.

    Raises:
        ValueError: the address is neither ipc nor tcp, or tcp without keys.
        HomeError: the directory of an ipc address is not private to this user.
    """
    _check_address(address, curve is not None)
    if address.startswith(IPC_SCHEME):
        check_private(os.path.dirname(ipc_path(address)))
    socket = context.socket(zmq.DEALER)
    try:
        _set_house_options(socket, address, max_frame)
        # The acceptor tells its peers apart by this. Random, so that nobody can guess another's.
        socket.setsockopt(zmq.ROUTING_ID, b"\x01" + os.urandom(15))
        if curve is not None:
            socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.keys.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, curve.keys.secret)
            socket.setsockopt(zmq.CURVE_SERVERKEY, curve.server)
        if address.startswith(IPC_SCHEME):
            socket.setsockopt(zmq.RECONNECT_IVL, -1)
        else:
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
    curve: CurveServer | None = None,
    max_frame: int = MAX_FRAME,
    silence_s: float = SILENCE_S,
) -> zmq.SyncSocket:
    """A bound socket: whoever accepts links has one. Its messages begin with the peer's identity.

    With `curve`, an `Authenticator` of the same context must exist already. `tcp://HOST:*` takes
    any free port: `bound_address` tells which.

    Args:
        silence_s: how long a peer may be silent before its connection is closed, if that is longer
            than usual.

    Raises:
        ValueError: the address is neither ipc nor tcp, or tcp without keys.
        HomeError: the directory of an ipc address is not private to this user.
        zmq.ZMQError: the address cannot be bound.
    """
    _check_address(address, curve is not None)
    if address.startswith(IPC_SCHEME):
        check_private(os.path.dirname(ipc_path(address)))
    socket = context.socket(zmq.ROUTER)
    try:
        _set_house_options(socket, address, max_frame)
        if address.startswith(_TCP_SCHEME):
            _wait_for_silent(socket, max(silence_s, SILENCE_S))
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A peer that connects again before the loss of its first connection was noticed here
        # would be ignored without this.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        socket.setsockopt(zmq.BACKLOG, 1024)
        if curve is not None:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, curve.keys.secret)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.keys.public)
            socket.setsockopt(zmq.ZAP_DOMAIN, curve.domain.encode())
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.bind(address)
        if address.startswith(IPC_SCHEME):
            os.chmod(ipc_path(address), 0o600)
    except BaseException:
        socket.close(0)
        raise
    return socket


def bound_address(socket: zmq.SyncSocket) -> str:
    """The address that a socket is bound to, with the port that it got."""
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\0").decode()


def is_tcp(socket: zmq.SyncSocket) -> bool:
    """Whether a socket is bound or connected to a tcp address."""
    return bound_address(socket).startswith(_TCP_SCHEME)


def send(socket: zmq.SyncSocket, frames: Sequence[bytes | memoryview]) -> bool:
    """Send a message without waiting; on a router, the first frame is the peer's identity.

    Returns False if it was not sent: the peer is gone, or takes nothing for now.
    """
    try:
        if max(map(len, frames)) <= COPY_LIMIT:
            socket.send_multipart(frames, zmq.NOBLOCK)
            return True
        # Only the first frame can be refused: what follows it goes where it went.
        last = len(frames) - 1
        for position, frame in enumerate(frames):
            socket.send(
                frame,
                zmq.NOBLOCK if position == last else zmq.NOBLOCK | zmq.SNDMORE,
                copy=len(frame) <= COPY_LIMIT,
            )
    except zmq.ZMQError as error:
        if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            return False
        raise
    return True


def receive(socket: zmq.SyncSocket) -> list[bytes] | None:
    """The next message's frames, or None if none has come; on a router, the identity first."""
    # To ask first costs less than the exception that tells of an empty queue; with plain numbers,
    # since those of an enum cost more than the question.
    if not int(socket.getsockopt(_EVENTS)) & _READABLE:
        return None
    try:
        return socket.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None


def _check_address(address: str, has_keys: bool) -> None:
    if address.startswith(IPC_SCHEME):
        if has_keys:
            raise ValueError(f"{address} needs no keys: its directory is private")
        ipc_path(address)
    elif address.startswith(_TCP_SCHEME):
        if not has_keys:
            raise ValueError(
                f"{address} was to be opened without keys; every user of a machine can reach a "
                f"tcp port, on loopback too, so fxhpc uses none without CURVE: give `curve=`"
            )
    else:
        raise ValueError(f"{address!r} is no address of fxhpc: it begins with ipc:// or tcp://")


def _set_house_options(socket: zmq.SyncSocket, address: str, max_frame: int) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, max_frame)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_LIMIT_MS)
    if address.startswith(_TCP_SCHEME):
        # These find a node that lost its power or a firewall that forgot the connection. Over
        # ipc the kernel tells of a peer's end at once. Each side decides for itself how long it
        # waits, so nobody gets a time to live from the other.
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        _wait_for_silent(socket, SILENCE_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 15)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 4)


def _wait_for_silent(socket: zmq.SyncSocket, seconds: float) -> None:
    """Close a tcp connection whose other end has been silent for so long."""
    limit_ms = int(min(1000 * seconds, 2**31 - 1))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, limit_ms)
    # The time of a heartbeat begins when it is sent, which it never is behind messages that the
    # kernel does not take any more. Then it is the kernel that waits for an answer.
    socket.setsockopt(zmq.TCP_MAXRT, limit_ms)

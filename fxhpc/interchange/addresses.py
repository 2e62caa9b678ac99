"""Where managers find an interchange: the port that it gets, and all addresses of its host."""

from __future__ import annotations

import errno
import ipaddress
import socket

import psutil
import zmq

from fxhpc.errors import FxhpcError
from fxhpc.transport import tcp_sockets
from fxhpc.transport.curve import CurveServer

#: Interfaces whose addresses lead nowhere from another host.
_PRIVATE = ("docker", "br-", "virbr", "veth", "cni", "lxc", "lxd", "podman", "vboxnet", "vmnet")


def bind(
    context: zmq.SyncContext,
    address: str,
    curve: CurveServer,
    name: str,
    silence_s: float = tcp_sockets.SILENCE_S,
) -> tcp_sockets.TcpSocket:
    """The socket for managers of the endpoint `name`, which may be silent for so many seconds.

    Raises:
        FxhpcError: the address cannot be bound; the text says why, and what to do.
    """
    try:
        return tcp_sockets.router(context, address, curve=curve, silence_s=silence_s)
    except zmq.ZMQError as error:
        where = address.removeprefix("tcp://")
        port = where.rpartition(":")[2]
        if error.errno == errno.EADDRINUSE:
            raise FxhpcError(
                f"endpoint {name!r}: port {port} of host {socket.gethostname()} is taken"
                f"{_by_whom(port)}; give the endpoint another `worker_port`, or leave it out so "
                f"that it takes any free one"
            ) from None
        if error.errno == errno.EACCES:
            raise FxhpcError(
                f"endpoint {name!r}: port {port} may not be used by ordinary users; give the "
                f"endpoint a `worker_port` above 1023"
            ) from None
        raise FxhpcError(
            f"endpoint {name!r} cannot listen at {where}: {error.strerror}; host "
            f"{socket.gethostname()} has {', '.join(host_addresses())}"
        ) from None


def offered(bound: str, given: list[str]) -> list[str]:
    """The addresses that managers may try.

    Args:
        bound: where the socket is bound, `tcp://HOST:PORT`.
        given: hosts, or whole addresses, to offer instead of all; empty: nobody says.
    """
    host, _, port = bound.removeprefix("tcp://").rpartition(":")
    if given:
        return [one if "://" in one else f"tcp://{_with_port(one, port)}" for one in given]
    if host not in ("0.0.0.0", "*"):
        return [bound]
    return [f"tcp://{address}:{port}" for address in host_addresses()]


def host_addresses() -> list[str]:
    """The IPv4 addresses by which others may reach this host, the likelier ones first."""
    return [address for _, address in _addresses()] or ["127.0.0.1"]


def own_addresses() -> list[str]:
    """Those of them that no other host has, as far as is known: networks of containers and virtual
    machines have the same ones on many hosts.
    """
    found = [address for is_private, address in _addresses() if not is_private]
    return found or host_addresses()


def _addresses() -> list[tuple[bool, str]]:
    """Addresses, and whether they lead nowhere from another host."""
    states = psutil.net_if_stats()
    found: list[tuple[bool, str]] = []
    for interface, addresses in psutil.net_if_addrs().items():
        if interface in states and not states[interface].isup:
            continue
        for address in addresses:
            if address.family != socket.AF_INET:
                continue
            if not ipaddress.ip_address(address.address).is_loopback:
                found.append((interface.startswith(_PRIVATE), address.address))
    return sorted(set(found))


def _with_port(host: str, port: str) -> str:
    try:
        if ipaddress.ip_address(host).version == 6:
            return f"[{host}]:{port}"
    except ValueError:
        if host.rpartition(":")[2].isdigit() and ":" in host:
            return host  # with a port of its own
    return f"{host}:{port}"


def _by_whom(port: str) -> str:
    """Which process has it, if that can be seen: others' processes show it to root alone."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and str(connection.laddr.port) == port
                and connection.pid
            ):
                process = psutil.Process(connection.pid)
                # Its name alone: what others give their programs is not ours to show.
                return f" by process {connection.pid} ({process.name()})"
    except (psutil.Error, OSError):
        pass
    return " by another process"

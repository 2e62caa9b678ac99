"""How a client connects to a home's forwarder: within a host, or to another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from fxhpc import errors, forks
from fxhpc.transport.sockets import MessageSocket
from fxhpc.transport.unix_sockets import dealer


class Address(Protocol):
    """Where a forwarder is: see `fxhpc.forwarder.attach`."""

    @property
    def clients(self) -> str:
        """The address that clients connect to."""

    @property
    def pid(self) -> int:
        """The forwarder's process; 0 if it is on another host."""

    @property
    def server_key(self) -> str:
        """Its public key, if it is on another host."""


def dial(home: Path, address: Address) -> MessageSocket:
    """A connection to the forwarder of a home that this process sees.

    Raises:
        HomeError: the client's key is missing, or others could read it.
        OSError: nobody accepts connections there.
    """
    if not address.clients.startswith("tcp://"):
        return dealer(address.clients)
    with forks.none:  # a child that was forked meanwhile would find the imports half done
        from fxhpc.forwarder.home import Home  # here and below: few need it
        from fxhpc.transport.curve import CurveClient
        from fxhpc.transport.keys import load_keys
        from fxhpc.transport.tcp_dealer import TcpDealer

    path = os.fspath(Home(home).client_key)
    try:
        keys = load_keys(path, "client")
    except FileNotFoundError:
        raise errors.HomeError(
            f"the key {path} is missing, with which clients on other hosts attach: the forwarder "
            f"makes it as it starts"
        ) from None
    return TcpDealer(address.clients, CurveClient(keys, address.server_key.encode()))


def not_let_in(address: str, why: str) -> str:
    """In words: a connection that was refused in its handshake."""
    return (
        f"what listens at {address} does not let this client in ({why}): its access was taken "
        f"back, or the home's keys were made anew, or another program has the port"
    )


def unanswering(address: str, pid: int, home: str) -> str:
    """In words: a forwarder that takes connections and says nothing.

    Args:
        pid: its process; 0 if that is on another host.
        home: its directory, or the address of one on another host.
    """
    if pid:
        return (
            f"its process {pid} is alive, and does not answer a greeting: if it was stopped, "
            f"`kill -CONT {pid}` lets it go on; if it hangs, `kill -9` has another take its "
            f"place, and nothing is lost"
        )
    text = f"what listens at {address} does not answer a greeting"
    if "://" in home:
        return text
    return (
        f"{text}: it hangs, perhaps (`fxhpc forwarder status` says which process on which host); "
        f"end it there, or have another take its place: fxhpc forwarder start --take-over"
    )

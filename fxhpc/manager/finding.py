"""Finds the interchange: reads its addresses, tries all of them at once, remembers what worked."""

from __future__ import annotations

import errno
import os
import selectors
import socket

import msgspec

from fxhpc.errors import FxhpcError
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.transport.curve import CurveClient
from fxhpc.transport.ipc import IPC_SCHEME, ipc_path

_IN_PROGRESS = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


class NotFound(FxhpcError):
    """No address answers, or there is none. The text says what was tried, and what came of it."""


class Way(msgspec.Struct, frozen=True):
    """How to reach the interchange."""

    address: str
    curve: CurveClient | None


class Finder:
    """Says where to connect. An interchange may have many addresses, and nodes see few of them.

    Addresses of private networks are not unique: what answers there may be another machine. So
    one that takes a connection, and then gives no welcome, is left out until all have had a try.

    Args:
        selector: where the attempts to connect are watched.
    """

    def __init__(self, spec: ManagerSpec, selector: selectors.BaseSelector) -> None:
        self.told: dict[str, str] = {}  #: what came of each address that was tried
        self._spec = spec
        self._selector = selector
        self._worked = ""
        self._silent: set[str] = set()  # took a connection, and gave no welcome
        self._attempts: dict[socket.socket, str] = {}
        self._answered = ""
        self._curve: CurveClient | None = None
        self.until = 0.0  #: until when attempts go on

    @property
    def busy(self) -> bool:
        """Whether addresses are being tried."""
        return bool(self._attempts)

    def find(self, now: float) -> Way | None:
        """Where to connect; None while addresses are being tried: ask again.

        Raises:
            NotFound: nothing answers, or where the interchange is cannot be read.
        """
        if not self._attempts and not self._answered:
            address = self._begin(now)
            if address:
                return Way(address, self._curve_of(address))
        if self._answered:
            address, self._answered = self._answered, ""
            self._give_up("no answer yet when another address answered")
            return Way(address, self._curve_of(address))
        if self._attempts and now >= self.until:
            self._give_up(f"no answer within {self._spec.address_probe_s:g} s")
        if not self._attempts:
            raise NotFound(self.summary())
        return None

    def welcomed(self, address: str) -> None:
        """The interchange is there."""
        self._worked = address
        self._silent.clear()
        self.told[address] = "the interchange answers"

    def failed(self, address: str, why: str) -> None:
        """What listens there has given no welcome."""
        self.told[address] = why
        self._silent.add(address)
        if self._worked == address:
            self._worked = ""

    def summary(self, but: str = "") -> str:
        """What was tried, and what came of it; one address may be left out."""
        told = [f"{address} ({why})" for address, why in self.told.items() if address != but]
        return ", ".join(told)

    def close(self) -> None:
        """Give up whatever is being tried."""
        self._give_up("it was given up")

    def _begin(self, now: float) -> str:
        """Read the addresses; the one to take, or nothing if several are being tried now."""
        addresses = self._read()
        self.told = {address: self.told.get(address, "not tried yet") for address in addresses}
        self._silent &= set(addresses)
        if self._silent.issuperset(addresses):
            self._silent.clear()
        candidates = [address for address in addresses if address not in self._silent]
        if len(candidates) == 1:
            return candidates[0]
        if self._worked in candidates:
            return self._worked
        self.until = now + self._spec.address_probe_s
        for address in candidates:
            self._try(address)
        return ""

    def _read(self) -> list[str]:
        spec = self._spec
        text, key = spec.address, spec.server_key
        if spec.address_file:
            try:
                with open(spec.address_file, encoding="utf-8") as file:
                    lines = file.read().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise NotFound(
                    f"the file with the interchange's address, {spec.address_file}, cannot be "
                    f"read ({getattr(error, 'strerror', None) or error}): the endpoint does not "
                    f"run, or this node does not see that file system"
                ) from None
            text, key = "".join(lines[:1]), "".join(lines[1:2])
        addresses = list(dict.fromkeys(text.split()))
        if not addresses:
            raise NotFound(f"the file {spec.address_file} names no address")
        self._curve = None
        if key:
            from fxhpc.transport.keys import load_keys  # which needs ZeroMQ

            try:
                keys = load_keys(spec.key_file, "manager")
            except OSError as error:
                raise NotFound(
                    f"the managers' key, {spec.key_file}, cannot be read ({error.strerror})"
                ) from None
            self._curve = CurveClient(keys, key.encode())
        return addresses

    def _curve_of(self, address: str) -> CurveClient | None:
        return None if address.startswith(IPC_SCHEME) else self._curve

    def _try(self, address: str) -> None:
        try:
            family, where = _resolved(address)
            attempt = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except (OSError, ValueError) as error:
            self.told[address] = str(getattr(error, "strerror", None) or error)
            return
        problem = attempt.connect_ex(where)
        if problem not in _IN_PROGRESS:
            self.told[address] = os.strerror(problem)
            attempt.close()
            return
        self.told[address] = "no answer yet"
        self._attempts[attempt] = address
        self._selector.register(attempt, selectors.EVENT_WRITE, lambda _: self._connected(attempt))

    def _connected(self, attempt: socket.socket) -> None:
        problem = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        address = self._attempts.pop(attempt)
        self._selector.unregister(attempt)
        attempt.close()
        if problem:
            self.told[address] = os.strerror(problem)
        elif not self._answered:
            self._answered = address
            self.told[address] = "it takes connections"

    def _give_up(self, why: str) -> None:
        for attempt, address in self._attempts.items():
            self.told[address] = why
            self._selector.unregister(attempt)
            attempt.close()
        self._attempts.clear()


def _resolved(address: str) -> tuple[int, str | tuple[object, ...]]:
    """The family, and what to connect to.

    Raises:
        OSError: there is no such host.
        ValueError: it is no address.
    """
    if address.startswith(IPC_SCHEME):
        return socket.AF_UNIX, ipc_path(address)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("it is no address")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    return found[0][0], found[0][4]

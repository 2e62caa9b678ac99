"""The port where a forwarder on another host reaches this interchange, with its allow-list.

Only for homes that several hosts see: their forwarder may run on any of them.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import zmq

from fxhpc.errors import HomeError
from fxhpc.interchange import addresses
from fxhpc.protocol import codec
from fxhpc.protocol import messages as msg
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.keys import KeyPair, load_or_create_keys
from fxhpc.transport.tcp_door import TcpDoor

_DOMAIN = "forwarders"

log = logging.getLogger("fxhpc.interchange")


class ForwarderDoor:
    """Lets in whoever has the key of the home's forwarders, and nobody else.

    Args:
        keys: the endpoint's.
        key_file: the forwarders', which is made if it is missing.

    Attributes:
        addresses: where forwarders find it, with spaces between.

    Raises:
        FxhpcError: there can be no port, or no key.
    """

    def __init__(self, keys: KeyPair, key_file: Path) -> None:
        self._key_file = key_file
        admitted = load_or_create_keys(key_file, "forwarder")
        self._changed = _changed(key_file)
        try:
            self._door = TcpDoor(
                "tcp://0.0.0.0:*", keys, _DOMAIN, {admitted.public: "the home's forwarder"}
            )
        except zmq.ZMQError as error:
            raise HomeError(f"no port for forwarders on other hosts: {error.strerror}") from error
        self.acceptor = Acceptor(self._door, codec.TO_INTERCHANGE, msg.Hello)
        self.addresses = " ".join(addresses.offered(self._door.address, []))
        log.info("listens at %s for forwarders on other hosts", self.addresses)

    def look(self) -> None:
        """The key may have been made anew; newcomers may be let in again."""
        self._door.look()
        changed = _changed(self._key_file)
        if changed == self._changed:
            return
        try:
            admitted = load_or_create_keys(self._key_file, "forwarder")
            self._changed = _changed(self._key_file)
            self._door.admit({admitted.public: "the home's forwarder"})
        except (HomeError, OSError, zmq.ZMQError) as error:
            log.warning("the forwarders' key cannot be read: %s", error)

    def close(self) -> None:
        """Nobody is let in any more."""
        self.acceptor.close()


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino

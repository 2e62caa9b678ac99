"""Which keys a socket between hosts has, and which it expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from fxhpc.transport.keys import KeyPair  # brings ZeroMQ, which not every process needs


class CurveServer(msgspec.Struct, frozen=True):
    """What a bound tcp socket needs: its own keys, and the name of its allow-list."""

    keys: KeyPair
    domain: str  # see `fxhpc.transport.authenticator`


class CurveClient(msgspec.Struct, frozen=True):
    """What a connecting tcp socket needs: its own keys, and whom it expects to find there."""

    keys: KeyPair
    server: bytes  # the server's public key, 40 characters of Z85

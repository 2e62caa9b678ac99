"""Which keys a socket between hosts has, and which it expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxhpc.transport.keys import KeyPair  # brings ZeroMQ, which not every process needs


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

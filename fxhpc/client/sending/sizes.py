"""Endpoints' own limits of arguments, beside `max_payload`: what is larger is refused, or apart."""

from __future__ import annotations

from collections.abc import Iterable

from fxhpc.client.connection.address import Afar
from fxhpc.errors import PayloadTooLarge
from fxhpc.protocol.sizes import CHUNK_BYTES, LEAST_LIMIT, EndpointLimits

#: Bytes that a result may have where there is no file that it could go to: what one frame holds,
#: with room for what is around it.
_BY_LINK = 512 * 2**20


def result_terms(limit: int, spills: bool, home: object) -> tuple[int, bool]:
    """How large results may be, and whether larger ones go to files: see `StreamInfo`.

    Files of a home on another host cannot be read here, so that larger results are sent, too.

    Args:
        limit, spills: what the user has said.
        home: which home it is.
    """
    if spills and isinstance(home, Afar):
        return max(limit, _BY_LINK), False
    return limit, spills


class KnownLimits:
    """The limits that a forwarder has told of; most homes have none."""

    def __init__(self) -> None:
        self._limits: dict[str, EndpointLimits] = {}

    def tell(self, limits: Iterable[EndpointLimits]) -> None:
        """These are all that there are."""
        self._limits = {told.endpoint: told for told in limits}

    def of(self, endpoint: str, limit: int, spills: bool) -> tuple[int, bool]:
        """How large arguments for an endpoint may be, and whether larger ones go apart.

        Args:
            endpoint: its UUID.
            limit, spills: as the client says; of two limits the smaller one counts.
        """
        told = self._limits.get(endpoint)
        if told is None or told.limits.argument >= limit:
            return limit, spills
        return told.limits.argument, spills or told.limits.spill

    def fit(self, endpoint: str, payloads: list[bytes], spills: bool) -> list[bytes]:
        """Packed arguments as they may be sent to an endpoint.

        Args:
            spills: what is too large goes apart, whatever the endpoint says.

        Raises:
            PayloadTooLarge: one is larger than the endpoint wants it, and is not to go apart.
        """
        told = self._limits.get(endpoint)
        if told is None or all(map(_is_small, payloads)):
            return payloads
        from fxhpc.serialize.apart import put_apart, size_of

        limit, spills = told.limits.argument, spills or told.limits.spill
        fitting: list[bytes] = []
        for payload in payloads:
            if not _is_small(payload) and (size := size_of(payload)) > limit:
                if not spills:
                    raise self.explained(endpoint, PayloadTooLarge(size, limit))
                payload = put_apart(payload)
            fitting.append(payload)
        return fitting

    def explained(self, endpoint: str, error: PayloadTooLarge) -> PayloadTooLarge:
        """The error that names the endpoint, if it is its limit."""
        told = self._limits.get(endpoint)
        if told is None or not 0 <= error.limit - told.limits.argument <= CHUNK_BYTES:
            return error
        limit = told.limits.argument
        return PayloadTooLarge(error.size, limit, error.what, "limits.argument", told.name)


def _is_small(payload: bytes) -> bool:
    """Whether no limit is so small; what refers to bodies may be larger than it looks."""
    return type(payload) is bytes and len(payload) <= LEAST_LIMIT

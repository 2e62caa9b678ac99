"""Gathers, in a worker, how the calls of a chunk end: each packed so that it harms no other."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from fxhpc.errors import MaxResultSizeExceeded
from fxhpc.serialize import chunks
from fxhpc.serialize.chunks import Chunk

_dumps = pickle.dumps

#: Bytes that the values of a chunk may take together.
CHUNK_BYTES = 256 * 2**20


class _Packing:
    """Packs what calls end by, so that what cannot be packed harms no other call.

    Args:
        pack: packs the value of a call, whose place is the other argument.
        pack_error: packs an exception.
        each: where packed values go, by the places of their calls; some may be there.
        failures: where packed exceptions go, likewise.
        taken: bytes of the values that are there.
        room: bytes that they may take at all.
    """

    def __init__(
        self,
        pack: Callable[[Any, int], bytes],
        pack_error: Callable[[BaseException], bytes],
        each: MutableMapping[int, bytes],
        failures: MutableMapping[int, bytes],
        taken: int = 0,
        room: int = CHUNK_BYTES,
    ) -> None:
        self._each = each
        self._failures = failures
        self._pack = pack
        self._pack_error = pack_error
        self._room = room
        self._left = room - taken

    def _put(self, call: int, value: Any) -> None:
        # One that cannot be packed, or cannot be made again by whoever reads it, harms no other.
        try:
            data = self._pack(value, call)
            if (left := self._left - len(data)) < 0:
                what = "the values of the calls of one chunk, together; use a smaller chunksize"
                raise MaxResultSizeExceeded(self._room - left, self._room, what)
            self._left = left
            self._each[call] = data
        except BaseException as error:
            self._failures[call] = self._pack_error(error)


class Ends(_Packing):
    """How the calls of a chunk end, gathered while they are made, in order.

    Args:
        losses: packed `Loss`es of the calls that are not made.
        pack: packs the value of a call, whose place is the other argument.
        pack_error: packs an exception.
        limit: bytes that the values may take to travel together.
        room: bytes that they may take at all.

    Attributes:
        values: of each call that has ended; None if it has none, or if it is packed already.
    """

    #: Values of these types do not change after their call. All others are packed when it returns.
    PLAIN = chunks.PLAIN

    def __init__(
        self,
        losses: Mapping[int, bytes],
        pack: Callable[[Any, int], bytes],
        pack_error: Callable[[BaseException], bytes],
        limit: int,
        room: int = CHUNK_BYTES,
    ) -> None:
        super().__init__(pack, pack_error, {}, {}, room=room)
        self.values: list[Any] = []
        self._losses = losses
        self._limit = limit

    def add(self, value: Any) -> None:
        """The next call has returned this, which is none of the plain values."""
        self._put(len(self.values), value)
        self.values.append(None)

    def fail(self, error: BaseException) -> None:
        """The next call has raised this."""
        self._failures[len(self.values)] = self._pack_error(error)
        self.values.append(None)

    def skip(self) -> None:
        """The next call is not made."""
        self.values.append(None)

    def chunk(self) -> Chunk:
        """All of them, when all have ended."""
        values, each, failures = self.values, self._each, self._failures
        size = len(values)
        if not each:
            whole = _dumps(values, 5)
            if len(whole) <= self._limit:
                return Chunk(size, whole, {}, failures, self._losses)
        for call, value in enumerate(values):
            if not (call in each or call in failures or call in self._losses):
                self._put(call, value)
        return Chunk(size, b"", each, failures, self._losses)


class KeptEnds(_Packing):
    """How calls of a chunk end that are put away when they end, in any order."""

    def add(self, call: int, value: Any) -> None:
        """A call has returned this."""
        self._put(call, value)

    def fail(self, call: int, error: BaseException) -> None:
        """A call has raised this."""
        self._failures[call] = self._pack_error(error)

    def chunk(self, size: int, losses: Mapping[int, bytes]) -> Chunk:
        """All of them, when all have ended.

        Args:
            losses: packed `Loss`es of the calls that were not made.
        """
        return Chunk(size, b"", {**self._each}, {**self._failures}, losses)

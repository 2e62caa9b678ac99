"""Chunks: the arguments of many calls as those of one task, and how each of these calls ended."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from itertools import chain
from pickle import Pickler
from sys import getsizeof
from typing import Any

from fxhpc.errors import PayloadTooLarge, SerializationError
from fxhpc.serialize.calls import load_arguments, of_element
from fxhpc.serialize.data import unpack_result
from fxhpc.serialize.exceptions import unpack_exception
from fxhpc.serialize.segments import Store
from fxhpc.serialize.sharing import SharedBody, SharedPayload
from fxhpc.serialize.spilled import Adopted
from fxhpc.units import LARGE_PAYLOAD

Row = tuple[Any, ...]

#: Packs the arguments of one call: positional ones, keywords, bytes that they may take.
Pack = Callable[[Row, dict[str, Any], int], bytes]

#: Values that any pickle carries, that refer to nothing, and that cannot fail to be made again:
#: these travel together. Of the first a pickle is small, whatever their value; nearly.
_SMALL = frozenset({int, float, complex, bool, type(None)})
PLAIN = _SMALL | {str, bytes}
_are_small = _SMALL.issuperset
_are_plain = PLAIN.issuperset
_dumps = pickle.dumps

#: Of these, and of no more parts, it is looked at whether all are plain.
_CONTAINERS = frozenset({list, tuple, dict})
_FEW = 100

#: What stands around the arguments of a chunk's calls.
_AROUND = 100


def pack_calls(
    rows: Sequence[Row], kwargs: dict[str, Any], pack: Pack, limit: int, first: int = -1
) -> list[tuple[bytes, int]]:
    """The arguments of calls as payloads, mostly one, each with how many calls it has.

    Args:
        rows: positional arguments of each call.
        kwargs: keyword arguments of all of them.
        pack: packs a call whose arguments are not plain.
        limit: bytes that the arguments of one call, and those of a chunk of several, may take.
        first: which element of an iterable the first row is of, for errors; -1: they are of none.

    Raises:
        PayloadTooLarge: those of a single call take more.
        SerializationError: a part of them cannot be packed; the text names it.
    """
    most = limit + _AROUND
    data = _pack_alike(rows, kwargs)
    if not data or (len(data) > most and len(rows) == 1):  # which may go apart, or is refused
        data = _pack_each(rows, kwargs, pack, limit, first)
    if len(data) <= most:
        return [(data, len(rows))]
    if len(rows) == 1:
        error = PayloadTooLarge(len(data), limit)
        raise error if first < 0 else of_element(error, first)
    middle = len(rows) // 2
    return [
        *pack_calls(rows[:middle], kwargs, pack, limit, first),
        *pack_calls(rows[middle:], kwargs, pack, limit, first if first < 0 else first + middle),
    ]


def _pack_each(
    rows: Sequence[Row], kwargs: dict[str, Any], pack: Pack, limit: int, first: int
) -> bytes:
    packed: list[bytes] = []
    try:
        packed.extend(pack(row, kwargs, limit) for row in rows)
    except (PayloadTooLarge, SerializationError) as error:
        if first < 0:
            raise
        raise of_element(error, first + len(packed)) from error.__cause__
    data: bytes = _dumps((None, None, [*map(bytes, packed)]), 5)
    bodies: dict[bytes, SharedBody] = {
        body.digest: body for payload in packed for body in getattr(payload, "bodies", ())
    }
    if not bodies:
        return data
    shared = SharedPayload(data)
    shared.bodies = (*bodies.values(),)
    return shared


def _pack_alike(rows: Sequence[Row], kwargs: dict[str, Any]) -> bytes:
    """One pickle of all, if that may carry them; b"" if it may not."""
    if not _are_small(map(type, kwargs.values())):
        return b""
    content = (tuple(rows), kwargs, None)
    if _are_small(map(type, chain.from_iterable(rows))):
        return _dumps(content, 5)
    if _are_plain(map(type, chain.from_iterable(rows))):
        sizes = map(getsizeof, chain.from_iterable(rows))
        return _dumps(content, 5) if max(sizes) <= LARGE_PAYLOAD else b""
    if not all(map(_is_simple, rows)):
        return b""
    file = BytesIO()
    pickler = Pickler(file, 5)
    pickler.fast = True  # a list that several calls are given is one of its own for each of them
    pickler.dump(content)
    return file.getvalue()


def _is_simple(row: Row) -> bool:
    """Whether a row has plain values, and at most one small container of such.

    So nothing that can be changed is there twice, which a fast pickle does not carry.
    """
    found: Any = None
    for value in row:
        kind = type(value)
        if kind in PLAIN:
            if getsizeof(value) > LARGE_PAYLOAD:
                return False
        elif found is not None or kind not in _CONTAINERS or len(value) > _FEW:
            return False
        else:
            found = value
    if not found:
        return True
    parts = (*found, *found.values()) if type(found) is dict else found
    return _are_plain(map(type, parts)) and sum(map(getsizeof, parts)) <= LARGE_PAYLOAD


class Calls:
    """The calls of a chunk, as a worker unpacks them.

    Raises:
        SerializationError: they cannot be unpacked here.
    """

    def __init__(self, data: bytes | memoryview, bodies: Store) -> None:
        try:
            rows, self.kwargs, self._each = pickle.loads(data)
        except Exception as error:
            raise SerializationError(
                f"unpacking of the arguments on the worker: {type(error).__name__}: {error}"
            ) from error
        self.rows: tuple[Row, ...] | None = rows
        self._bodies = bodies

    def __len__(self) -> int:
        return len(self._each if self.rows is None else self.rows)

    def arguments(self, call: int) -> tuple[Row, dict[str, Any]]:
        """The arguments of one call, made anew for it.

        Raises:
            SerializationError: they cannot be made here.
        """
        if self.rows is not None:
            return self.rows[call], self.kwargs
        return load_arguments(self._each[call], self._bodies)


class Chunk:
    """How the calls of a chunk ended. Nothing of it is unpacked before it is asked for.

    Args:
        size: how many calls there were.
        whole: the values of all calls, packed as one list; b"" if they are in `each`.
        each: packed values by the place of their call, or what stands for one in a file.
        failures: packed exceptions by place; in `whole`, None stands there.
        losses: packed `Loss`es of the calls that were given up, likewise.
        of_all: the packed exception that every call ended by; b"" if there is none.
    """

    __slots__ = ("_values", "each", "failures", "losses", "of_all", "size", "whole")

    def __init__(
        self,
        size: int,
        whole: bytes = b"",
        each: Mapping[int, bytes | Adopted] = {},
        failures: Mapping[int, bytes] = {},
        losses: Mapping[int, bytes] = {},
        of_all: bytes = b"",
    ) -> None:
        self.size = size
        self.whole = whole
        self.each = each
        self.failures = failures
        self.losses = losses
        self.of_all = of_all
        self._values: list[Any] | None = None  # `whole` unpacked, if single ones are asked for

    def __reduce__(self) -> tuple[Any, ...]:
        return Chunk, (
            self.size,
            self.whole,
            self.each,
            self.failures,
            self.losses,
            self.of_all,
        )

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        failed = self.size if self.of_all else len(self.failures) + len(self.losses)
        return f"<Chunk of {self.size} calls, {failed} of which failed>"

    def pack(self) -> bytes:
        """It as bytes: what `unpack_result` makes it of."""
        return _dumps(self, 5)

    @property
    def has_failures(self) -> bool:
        """Whether any of its calls has no value."""
        return bool(self.failures or self.losses or self.of_all)

    def has_failed(self, call: int) -> bool:
        """Whether a call has no value."""
        return bool(self.of_all) or call in self.failures or call in self.losses

    def failure(self, call: int) -> Any:
        """What a call raised, as something with `.reraise()`; None if it was nothing.

        Raises:
            SerializationError: it cannot be unpacked here.
        """
        data = self.of_all or self.failures.get(call)
        return None if data is None else unpack_exception(data)

    def value(self, call: int) -> Any:
        """The value of a call that has one.

        Raises:
            SerializationError: it cannot be made here.
        """
        if self.whole:
            if self._values is None:
                self._values = unpack_result(self.whole)
            return self._values[call]
        return unpack_result(self.each[call])

    def values(self) -> list[Any] | None:
        """All values, if they can be had at once; None: ask for each by `value`."""
        if self.has_failures or not self.whole:
            return None
        values: list[Any] = unpack_result(self.whole)
        return values


def unpack_chunk(data: Any) -> Chunk:
    """The chunk that a task of several calls has ended by; one that is unpacked is that.

    Raises:
        SerializationError: it is none.
    """
    chunk = data if isinstance(data, Chunk) else unpack_result(data)
    if not isinstance(chunk, Chunk):
        raise SerializationError(f"a chunk of calls ended by a {type(chunk).__name__}")
    return chunk


def rows_of(items: Iterable[Any]) -> list[Row]:
    """Items as the one positional argument of a call each."""
    return [(item,) for item in items]

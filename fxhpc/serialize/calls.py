"""The arguments of calls: small ones are one pickle; of large ones, what comes again goes once."""

from __future__ import annotations

import itertools
import pickle
import sys
from collections.abc import Iterable
from sys import getsizeof
from typing import Any

from fxhpc.errors import PayloadTooLarge, SerializationError
from fxhpc.serialize import segments
from fxhpc.serialize.apart import APART_BYTES, put_apart
from fxhpc.serialize.bodies import Bodies
from fxhpc.serialize.data import advice
from fxhpc.serialize.pack import pack
from fxhpc.serialize.pickler import Pickler
from fxhpc.serialize.segments import Header, Piece, Writer
from fxhpc.serialize.sharing import SharedBody, SharedPayload, Sharing
from fxhpc.units import LARGE_PAYLOAD

#: Types that any pickle carries as they are. All else is looked at part by part: pickle accepts
#: instances of classes that a worker cannot load.
_SMALL = frozenset({int, float, complex, bool, type(None)})
_PLAIN = _SMALL | {str, bytes}
_are_small = _SMALL.issuperset
_are_plain = _PLAIN.issuperset
_dumps = pickle.dumps
_loads = pickle.loads

#: Containers whose own parts may be what is large: with so many, each argument is packed apart.
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_MANY = 1000

#: Parts of containers that are looked at to see whether any pickle carries them.
_FEW = 100


class ArgumentPacker:
    """Packs calls for one client, and knows what it has packed before. For any thread."""

    def __init__(self) -> None:
        self._sharing = Sharing()

    def pack(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], limit: int, spills: bool = False
    ) -> bytes:
        """The arguments of a call as bytes; a SharedPayload, if they refer to bodies.

        Args:
            spills: of arguments that are larger than `limit`, all that is large becomes a body,
                though it comes for the first time: stored and sent apart from its task.

        Raises:
            PayloadTooLarge: they are more than `limit` bytes, those of bodies included.
            SerializationError: a part of them cannot be packed; the text names it.
        """
        if not kwargs and _are_small(map(type, args)):  # as very many are: no step more for these
            data = _dumps((args, kwargs), 5)
            if len(data) <= limit:
                return data
        try:
            return self._pack_fitting(args, kwargs, limit)
        except PayloadTooLarge:
            if not spills:
                raise
        values = (*args, *kwargs.values())
        call = _Call(self._sharing, spills=True)
        try:
            if not any(map(_is_large, values)):
                call.add((args, kwargs))
                return call.finish(None, sys.maxsize)
            for value in values:
                call.add_value(value)
            return call.finish((*kwargs,), sys.maxsize)
        except Exception:
            return put_apart(pack((args, kwargs), "arguments")[0])

    def pack_each(
        self, items: Iterable[Any], kwargs: dict[str, Any], limit: int, spills: bool = False
    ) -> list[bytes]:
        """As `pack`: a call for each item, which is its one positional argument.

        An error's text says which item it is of.
        """
        packed: list[bytes] = []
        try:
            if not _are_small(map(type, kwargs.values())):
                packed.extend(self.pack((item,), kwargs, limit, spills) for item in items)
            else:
                packed.extend(
                    data
                    if type(item) in _SMALL and len(data := _dumps(((item,), kwargs), 5)) <= limit
                    else self.pack((item,), kwargs, limit, spills)
                    for item in items
                )
        except (PayloadTooLarge, SerializationError) as error:
            raise of_element(error, len(packed)) from error.__cause__
        return packed

    def _pack_fitting(self, args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> bytes:
        values = (*args, *kwargs.values()) if kwargs else args
        if _are_small(map(type, values)) or (
            _are_plain(map(type, values)) and sum(map(getsizeof, values)) <= LARGE_PAYLOAD
        ):
            return _fitting(_dumps((args, kwargs), 5), limit)
        if all(map(_is_simple, values)):
            data = _dumps((args, kwargs), 5)
            if len(data) <= LARGE_PAYLOAD:
                return _fitting(data, limit)
        try:
            return self._pack(args, kwargs, values, limit)
        except PayloadTooLarge:
            raise
        except Exception:  # said in words there, or packed by what packs more
            return _fitting(pack((args, kwargs), "arguments")[0], limit)

    def _pack(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], values: Iterable[Any], limit: int
    ) -> bytes:
        if not any(map(_is_large, values)):
            call = _Call(self._sharing)
            call.add((args, kwargs))
            if call.writer.size + call.buffer_bytes <= LARGE_PAYLOAD:
                return _fitting(b"".join(call.writer.pieces), limit)
            if call.loose_bytes() <= LARGE_PAYLOAD:
                return call.finish(None, limit)
        call = _Call(self._sharing)
        for value in values:
            call.add_value(value)
        return call.finish((*kwargs,), limit)


class _Call:
    """One call that is being packed."""

    def __init__(self, sharing: Sharing, spills: bool = False) -> None:
        self._sharing = sharing
        self._spills = spills
        self.writer = Writer()
        self._pickler = Pickler(self.writer, 5, buffer_callback=self._on_buffer)
        self._pickler.prepare()
        self._starts: list[int] = []  # of pickles, among what was written
        self._looked_for: set[int] = set()  # of these: what has no body, as is known
        self._new: set[int] = set()  # objects that have no body; again, they are what they were
        self._values: list[SharedBody | None] = []
        self._texts: list[bool] = []
        self._buffers: list[pickle.PickleBuffer] = []
        self.buffer_bytes = 0
        self._value_bytes = 0

    def _on_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether a buffer is to be in the stream."""
        size = buffer.raw().nbytes
        if size <= LARGE_PAYLOAD:
            return True
        self._buffers.append(buffer)
        self.buffer_bytes += size
        return False

    def add(self, value: Any) -> None:
        """Pack a value into the stream."""
        self._starts.append(len(self.writer.pieces))
        self._pickler.dump(value)

    def add_value(self, value: Any) -> None:
        """Pack a value, or refer to its body."""
        kind = type(value)
        body = None
        is_large = (kind is bytes or kind is str) and getsizeof(value) > LARGE_PAYLOAD
        if is_large and id(value) not in self._new:
            body = self._sharing.known(value)
            if body is None:
                data = value if kind is bytes else value.encode("utf-8", "surrogatepass")
                body = self._sharing.find(value, data)
        self._values.append(body)
        self._texts.append(kind is str)
        if body is not None:
            self._value_bytes += len(body.data)
            return
        self.add(value)
        if is_large:
            self._new.add(id(value))
            self._looked_for.update(range(self._starts[-1], len(self.writer.pieces)))

    def loose_bytes(self) -> int:
        """Bytes of the stream beside single large values in it."""
        pieces = self.writer.pieces
        return self.writer.size - sum(
            segments.size_of(piece)
            for before, piece in itertools.pairwise(pieces)
            if _is_value(before, piece)
        )

    def finish(self, names: tuple[str, ...] | None, limit: int) -> bytes:
        """The call as bytes.

        Raises:
            PayloadTooLarge: it is larger than that.
        """
        size = self.writer.size + self.buffer_bytes + self._value_bytes
        if size > limit:
            raise PayloadTooLarge(size, limit)
        bodies: dict[bytes, SharedBody] = {
            value.digest: value for value in self._values if value is not None
        }
        there: list[Any] = []
        stream: list[Piece] = []

        def put(found: list[Piece], given: Any, data: Any, may_be_shared: bool = True) -> None:
            size = segments.size_of(data)
            may_be_shared = may_be_shared and size > LARGE_PAYLOAD
            body = self._sharing.find(given, data) if may_be_shared else None
            if body is None and self._spills and size > APART_BYTES:
                body = SharedBody(data, given)
            if body is None:
                found.append(size)
                there.append(data)
            else:
                bodies[body.digest] = body
                found.append(body.digest)

        for data, may_be_shared in self._joined_pieces():
            put(stream, data, data, may_be_shared)
        buffers: list[Piece] = []
        for buffer in self._buffers:
            put(buffers, None, buffer.raw())
        values = [
            None if body is None else (body.digest, is_text)
            for body, is_text in zip(self._values, self._texts, strict=True)
        ]
        payload = segments.join(Header(names, values, stream, buffers), there)
        if not bodies:
            return _fitting(payload, limit)  # to the byte; with bodies it is never larger
        return _referring(payload, bodies.values())

    def _joined_pieces(self) -> Iterable[tuple[Any, bool]]:
        """What was written, and whether a body may stand for it: single large values as they are,
        all else of each pickle in one.
        """
        pieces = self.writer.pieces
        starts = set(self._starts)
        rest: list[Any] = []
        for at, piece in enumerate(pieces):
            is_value = at > 0 and _is_value(pieces[at - 1], piece)
            if rest and (is_value or at in starts):
                yield b"".join(rest), True
                rest = []
            if is_value:
                yield piece, at not in self._looked_for
            else:
                rest.append(piece)
        if rest:
            yield b"".join(rest), True


def _referring(payload: bytes, bodies: Iterable[SharedBody]) -> SharedPayload:
    shared = SharedPayload(payload)
    shared.bodies = (*bodies,)
    return shared


def _is_value(before: Any, piece: Any) -> bool:
    size = segments.size_of(piece)
    return size > LARGE_PAYLOAD and segments.is_announced(before, size)


def _is_simple(value: Any, depth: int = 2) -> bool:
    """Whether it is plain, or a small container of what is: any pickle carries it, in a tenth of
    the time."""
    kind = type(value)
    if kind is list or kind is tuple:
        parts = value
    elif kind is dict:
        parts = (*value, *value.values())
    else:
        return kind in _PLAIN and getsizeof(value) <= LARGE_PAYLOAD
    if len(parts) > _FEW:
        return False
    if _are_plain(map(type, parts)):
        return sum(map(getsizeof, parts)) <= LARGE_PAYLOAD
    return depth > 1 and all(_is_simple(part, depth - 1) for part in parts)


def _is_large(value: Any) -> bool:
    """Whether a value alone, or its parts, may be what is large."""
    kind = type(value)
    if kind is bytes or kind is str:
        return getsizeof(value) > LARGE_PAYLOAD
    return kind in _CONTAINERS and len(value) > _MANY


def _fitting(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise PayloadTooLarge(len(data), limit)
    return data


def of_element(
    error: PayloadTooLarge | SerializationError, number: int
) -> PayloadTooLarge | SerializationError:
    """The error that says with which element of an iterable, counted from 0, it was met."""
    call = f"of the call for element {number} (counted from 0)"
    if isinstance(error, PayloadTooLarge):
        return PayloadTooLarge(error.size, error.limit, f"arguments {call}")
    return SerializationError(f"{error.message}. This is an argument {call}")


def pack_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> bytes:
    """The arguments of one call as bytes, as `ArgumentPacker.pack` has them the first time."""
    return ArgumentPacker().pack(args, kwargs, limit)


def load_arguments(
    data: bytes | memoryview, store: segments.Store | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a packed call.

    Args:
        store: where the bodies are that it may refer to.

    Raises:
        SerializationError: they cannot be made here.
    """
    try:
        if data[0] == segments.MARK:
            return segments.load(data, Bodies() if store is None else store)
        args, kwargs = _loads(data)
    except SerializationError:
        raise
    except Exception as error:
        raise SerializationError(
            f"unpacking of the arguments on the worker: {type(error).__name__}: {error}"
            f"{advice(error)}"
        ) from error
    return args, kwargs

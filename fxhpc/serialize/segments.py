"""The format of arguments with large parts: what is small and in order, what lies elsewhere.

Arguments whose packed form is small are one pickle. Larger ones are a *call*: a header, then bytes
one behind the other. The header says which values are pickled, in which pieces their stream comes
and which buffers it refers to. A piece or a buffer is either there, or is the SHA-256 of a *body*
that many tasks share. All values of a call come from one pickler, so that an object that two of
them refer to is still one object on the other side.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from fxhpc.errors import SerializationError

#: What a call begins with; no pickle does.
MARK = 1

_HEAD = struct.Struct("<BI")

#: A piece: bytes that are there, or the SHA-256 of bytes that are not.
Piece = int | bytes


class Header(NamedTuple):
    """What a call is made of.

    Attributes:
        names: of the keyword arguments, which are the last values; None: there is one value, the
            pair of all positional and all keyword arguments.
        values: for each of them None, if it is pickled in the stream; or the SHA-256 of its bytes,
            which are those of a text if the flag says so.
        stream: the pieces of the pickles, in order.
        buffers: what the pickles refer to, in order.
    """

    names: tuple[str, ...] | None
    values: list[tuple[bytes, bool] | None]
    stream: list[Piece]
    buffers: list[Piece]


class Store(Protocol):
    """Where bodies are, at the other side. Whatever is asked for is as its SHA-256 says."""

    def view(self, digest: bytes) -> memoryview:
        """Its bytes, to be read."""

    def private(self, digest: bytes) -> Any:
        """A buffer with its bytes that may be written to, without anybody else seeing it."""

    def value(self, digest: bytes, is_text: bool) -> bytes | str:
        """Its bytes as a value that cannot be changed: the same object for every task."""


def join(header: Header, there: Sequence[Any]) -> bytes:
    """A call as bytes; `there`: the bytes that its numbers stand for."""
    head = pickle.dumps((*header,), 5)
    return b"".join((_HEAD.pack(MARK, len(head)), head, *there))


def parse(data: bytes | memoryview) -> tuple[Header, memoryview]:
    """The header of a call, and the bytes behind it that its numbers stand for, in order."""
    whole = memoryview(data)
    begin = _HEAD.size + _HEAD.unpack_from(whole)[1]
    return Header(*pickle.loads(whole[_HEAD.size : begin])), whole[begin:]


def load(data: bytes | memoryview, store: Store) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the keyword arguments of a call.

    Raises:
        whatever unpickling raises; SerializationError: a body is missing or was changed.
    """
    header, rest = parse(data)
    pieces: list[memoryview] = []
    buffers: list[Any] = []
    for piece in header.stream:
        if isinstance(piece, bytes):
            pieces.append(store.view(piece))
        else:
            pieces.append(rest[:piece])
            rest = rest[piece:]
    for piece in header.buffers:
        if isinstance(piece, bytes):
            buffers.append(store.private(piece))
        else:
            buffers.append(bytearray(rest[:piece]))
            rest = rest[piece:]
    unpickler = pickle.Unpickler(Reader(pieces), buffers=buffers)
    if header.names is None:
        args, kwargs = unpickler.load()
        return args, kwargs
    values = [unpickler.load() if value is None else store.value(*value) for value in header.values]
    positional = len(values) - len(header.names)
    return tuple(values[:positional]), dict(zip(header.names, values[positional:], strict=True))


class Reader:
    """Pieces as a file that an unpickler reads; large parts go to their place in one copy."""

    def __init__(self, pieces: Sequence[memoryview]) -> None:
        self._pieces: Iterator[memoryview] = iter(pieces)
        self._rest = memoryview(b"")

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; fewer bytes only at the end."""
        wanted = memoryview(buffer)
        at = 0
        while at < len(wanted):
            if not self._rest:
                following = next(self._pieces, None)
                if following is None:
                    break
                self._rest = following
                continue
            count = min(len(wanted) - at, len(self._rest))
            wanted[at : at + count] = self._rest[:count]
            self._rest = self._rest[count:]
            at += count
        return at

    def read(self, size: int) -> bytes:
        """So many bytes; fewer only at the end."""
        if len(self._rest) >= size:
            found, self._rest = self._rest[:size], self._rest[size:]
            return bytes(found)
        data = bytearray(size)
        del data[self.readinto(data) :]
        return bytes(data)

    def readline(self) -> bytes:
        """Protocol 5 has no lines."""
        raise SerializationError("unpacking of the arguments: they are not as they were packed")


class Writer:
    """A file that keeps what a pickler writes in the pieces in which it comes.

    Large bytes come as the object itself, behind a piece that ends with their size.
    """

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.size = 0
        self.write = self._write  # a bound method, looked up once by the pickler

    def _write(self, data: Any) -> None:
        if type(data) is pickle.PickleBuffer:
            data = data.raw()
        self.pieces.append(data)
        self.size += size_of(data)


def size_of(data: Any) -> int:
    """The bytes of a piece."""
    return len(data) if isinstance(data, bytes | bytearray) else memoryview(data).nbytes


def is_announced(before: Any, size: int) -> bool:
    """Whether a piece ends by saying that so many bytes follow, as a value of their own."""
    if not isinstance(before, bytes):
        return False
    return (before[-5:-4] in (b"B", b"X") and before[-4:] == size.to_bytes(8, "little")[:4]) or (
        before[-9:-8] in (b"\x8d", b"\x8e", b"\x96") and before[-8:] == size.to_bytes(8, "little")
    )

"""Results in files of their own, where they are larger than the limit and that was asked for.

A worker writes the packed result into a directory that its endpoint's nodes and its clients see. In
the place of the result a *reference* travels: path, size and SHA-256. Whoever wants the value reads
the file. It lies in a folder of its task's stream, by which the forwarder knows when it can go.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import platform
import stat
import struct

from fxhpc.errors import MaxResultSizeExceeded, SerializationError, SpilledResultLost
from fxhpc.ids import STREAM_BYTES, task_ids

#: What a reference begins with; no pickle does.
MARK = b"\x02"

_HEAD = struct.Struct(f"<c{STREAM_BYTES}sIQ32s")


class Adopted:
    """The file of a result that is this process's alone: it has no name any more, and goes with
    this object.
    """

    __slots__ = ("_bytes", "_reference")

    def __init__(self, reference: bytes, data: mmap.mmap) -> None:
        self._reference = reference
        self._bytes = data

    def read(self) -> memoryview:
        """The packed result.

        Raises:
            SpilledResultLost: it is not as it was written.
        """
        return _checked(self._reference, memoryview(self._bytes))


def write(data: bytes, limit: int, directory: str, stream: bytes, index: int) -> bytes:
    """Write a task's packed result to a file, and return what stands for it.

    Args:
        index: the last 32 bits of the id: of the call of a chunk, its number in the stream.
        limit: bytes that it may have without a file; for the error.

    Raises:
        MaxResultSizeExceeded: it cannot be written; nothing of it is left.
    """
    folder = os.path.join(directory, stream.hex())
    path = os.path.join(folder, f"{index:08x}-{os.urandom(4).hex()}")
    try:
        for place in (directory, folder):
            try:
                os.mkdir(place, 0o700)
            except FileExistsError:
                pass
        _write(path, data)
    except OSError as error:
        raise MaxResultSizeExceeded(
            len(data),
            limit,
            f"task {_name(stream, index)}: it was to go to the file {path}, which could not be "
            f"written on {platform.node()}: {error.strerror}; free room there, or make it writable",
        ) from None
    head = _HEAD.pack(MARK, stream, index, len(data), hashlib.sha256(data).digest())
    return head + os.fsencode(path)


def _write(path: str, data: bytes) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)  # on a network, this is where a full disk may be told
    except OSError:
        os.unlink(path)
        raise


def is_reference(data: bytes | memoryview) -> bool:
    """Whether these bytes stand for a result in a file."""
    return len(data) > _HEAD.size and data[:1] == MARK


def is_spilled(data: bytes | memoryview | Adopted) -> bool:
    """Whether this is a result in a file, adopted or not."""
    return isinstance(data, Adopted) or is_reference(data)


def read(reference: bytes | memoryview) -> memoryview:
    """The packed result that a reference stands for.

    Raises:
        SpilledResultLost: the file is missing, cannot be read, or is not as it was written.
    """
    reference = bytes(reference)
    if not is_reference(reference):
        raise SerializationError("Result Object Deserialization: it is no packed result")
    try:
        with os.fdopen(_open(reference), "rb") as file:
            return _checked(reference, memoryview(file.read()))
    except OSError as error:
        raise _lost(reference, f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise _lost(reference, f"cannot be read ({error})") from None


def adopt(reference: bytes) -> Adopted | None:
    """Take a file over from whoever made it, so that nobody has to remove it.

    Returns None if it cannot be, or is not as large as it was: `read` says why.
    """
    try:
        descriptor = _open(reference)
        try:
            data = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        os.unlink(_path(reference))
    except (OSError, ValueError, SpilledResultLost):
        return None
    return Adopted(reference, data)


def _open(reference: bytes) -> int:
    """Open the file, if it is one and as large as it was.

    Raises:
        OSError, ValueError: it cannot be opened.
        SpilledResultLost: it is not as it was written.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(_path(reference), flags)
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size == _size(reference):
        return descriptor
    os.close(descriptor)
    raise _lost(reference, f"has {found.st_size:,} bytes instead of {_size(reference):,}")


def _size(reference: bytes) -> int:
    size: int = _HEAD.unpack_from(reference)[3]
    return size


def _path(reference: bytes) -> str:
    return os.fsdecode(reference[_HEAD.size :])


def _checked(reference: bytes, data: memoryview) -> memoryview:
    digest = _HEAD.unpack_from(reference)[4]
    if hashlib.sha256(data).digest() != digest:
        raise _lost(reference, "holds other bytes than were written (its SHA-256 is another)")
    return data


def _lost(reference: bytes, why: str) -> SpilledResultLost:
    _, stream, index, _, _ = _HEAD.unpack_from(reference)
    return SpilledResultLost(_name(stream, index), _path(reference), why)


def _name(stream: bytes, index: int) -> str:
    """The id of a task, or of a call of a chunk, by its number in the stream."""
    return task_ids(stream, [index])[0]

"""The worker's side of large arguments that tasks share: their bytes, checked, and as values."""

from __future__ import annotations

import hashlib
import mmap
from collections import OrderedDict
from typing import Any

from fxhpc.errors import SerializationError

#: Bytes of `bytes` and `str` that are kept as values, beside the one that was used last.
KEPT_BYTES = 64 * 2**20


class Bodies:
    """Bodies by their SHA-256, which is checked when one is used for the first time.

    What lies in a file is mapped: all workers of a node have the same memory, and what a task
    writes to its argument is in pages of its own.
    """

    def __init__(self) -> None:
        self._bodies: dict[bytes, tuple[memoryview, int]] = {}  # and the file's descriptor, or -1
        self._checked: set[bytes] = set()
        self._values: OrderedDict[tuple[bytes, bool], bytes | str] = OrderedDict()
        self._size = 0

    def put(self, digest: bytes, data: Any, fd: int = -1) -> None:
        """Have the bytes of this name.

        Args:
            data: a buffer.
            fd: the file that they are, of the same size; it stays the caller's, and open until
                `drop`. -1: they are in no file.
        """
        self._bodies[digest] = memoryview(data), fd
        self._checked.discard(digest)

    def drop(self, digest: bytes) -> None:
        """Forget it."""
        self._bodies.pop(digest, None)
        self._checked.discard(digest)
        for key in ((digest, False), (digest, True)):
            if (value := self._values.pop(key, None)) is not None:
                self._size -= len(value)

    def view(self, digest: bytes) -> memoryview:
        """Its bytes, to be read.

        Raises:
            SerializationError: it is not here, or has other bytes than its name says.
        """
        found = self._bodies.get(digest)
        if found is None:
            raise SerializationError(
                f"unpacking of the arguments: a large one that tasks share (SHA-256 "
                f"{digest.hex()[:16]}...) is not on this worker. Submit the task again"
            )
        if digest not in self._checked:
            actual = hashlib.sha256(found[0]).digest()
            if actual != digest:
                raise SerializationError(
                    f"unpacking of the arguments: a large one that tasks share was changed on the "
                    f"way (SHA-256 {actual.hex()[:16]}..., expected {digest.hex()[:16]}...). "
                    f"Submit the task again"
                )
            self._checked.add(digest)
        return found[0]

    def private(self, digest: bytes) -> Any:
        """A buffer with its bytes that may be written to, without anybody else seeing it.

        Raises:
            SerializationError: as `view`.
        """
        view = self.view(digest)
        fd = self._bodies[digest][1]
        if fd < 0:
            return bytearray(view)
        return mmap.mmap(fd, len(view), mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)

    def value(self, digest: bytes, is_text: bool) -> bytes | str:
        """Its bytes as a value that cannot be changed: the same object for every task.

        Raises:
            SerializationError: as `view`.
        """
        key = digest, is_text
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
            return value
        view = self.view(digest)
        value = str(view, "utf-8", "surrogatepass") if is_text else bytes(view)
        self._values[key] = value
        self._size += len(value)
        while self._size > KEPT_BYTES and len(self._values) > 1:
            self._size -= len(self._values.popitem(last=False)[1])
        return value

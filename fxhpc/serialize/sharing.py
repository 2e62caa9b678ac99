"""Large arguments that come again: found by what they hold, and sent once instead of each time.

What is seen for the first time goes with its task: most large arguments are used once. What comes
again becomes a *body*, named by its SHA-256. To know a body again nothing is trusted but its bytes:
a copy is kept, and compared with what is submitted (90 µs for 4 MB, where packing them takes 3 ms).
So an array that was changed in between is seen. Only `bytes` and `str`, which nobody can
change, are known by being the same object.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections import OrderedDict
from typing import Any

#: Bytes of copies that are kept, beside the one that was used last.
KEPT_BYTES = 64 * 2**20

#: Large arguments that are remembered as seen once, without a copy.
SEEN = 4096

_PROBES = 512
_END_BYTES = 2048


class SharedBody:
    """Bytes that tasks refer to, instead of having them with them."""

    __slots__ = ("data", "digest", "given")

    def __init__(self, data: bytes | memoryview, given: Any) -> None:
        # A bytearray compares with any buffer as fast as memory allows; bytes only with bytes.
        self.data = data if isinstance(data, bytes) else bytearray(data)
        # Of the copy: hashing lets other threads run, which may change what was given.
        self.digest = hashlib.sha256(self.data).digest()
        self.given = given if type(given) in (bytes, str) else None  # known by being it

    def is_same(self, data: bytes | memoryview) -> bool:
        """Whether these are the same bytes."""
        if isinstance(data, bytes):
            return data == self.data
        mine = self.data if isinstance(self.data, bytearray) else bytearray(self.data)
        return mine == data


class SharedPayload(bytes):
    """Packed arguments that refer to bodies."""

    bodies: tuple[SharedBody, ...]


class Sharing:
    """What one client has packed before. Safe to use from several threads."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._seen: OrderedDict[Any, None] = OrderedDict()  # fingerprints and SHA-256
        self._bodies: OrderedDict[bytes, tuple[Any, SharedBody]] = OrderedDict()  # by digest
        self._by_print: dict[Any, list[SharedBody]] = {}
        self._by_object: dict[int, SharedBody] = {}
        self._size = 0

    def known(self, given: bytes | str) -> SharedBody | None:
        """The body of this very object, if it has one."""
        body = self._by_object.get(id(given))
        if body is None or body.given is not given or self._pid != os.getpid():
            return None
        with self._lock:
            if body.digest in self._bodies:
                self._bodies.move_to_end(body.digest)
        return body

    def find(self, given: Any, data: Any) -> SharedBody | None:
        """The body of what is given, if it has come before.

        Args:
            given: the object; one that may change is compared each time.
            data: its bytes, a buffer.
        """
        if self._pid != os.getpid():
            self._begin()  # a forked child: who knows what its parent's threads were in
        view = memoryview(data)
        if not isinstance(data, bytes):
            data = view = view.cast("B")
        key = _fingerprint(view)
        with self._lock:
            others = self._by_print.get(key, ())
            for body in others:
                if body.is_same(data):
                    self._bodies.move_to_end(body.digest)
                    return body
            if not self._note(key):
                return None
            if others and not self._note(hashlib.sha256(view).digest()):
                return None  # it only looks like one that came before
            body = SharedBody(data, given)
            # Of the copy, too: what was changed meanwhile would not be found again by the old one.
            return self._add(_fingerprint(memoryview(body.data)), body)

    def _note(self, key: Any) -> bool:
        """Whether this was seen before; from now on it was."""
        if key in self._seen:
            self._seen.move_to_end(key)
            return True
        self._seen[key] = None
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        return False

    def _add(self, key: Any, body: SharedBody) -> SharedBody:
        if body.digest in self._bodies:
            return self._bodies[body.digest][1]
        self._bodies[body.digest] = key, body
        self._by_print.setdefault(key, []).append(body)
        if body.given is not None:
            self._by_object[id(body.given)] = body
        self._size += len(body.data)
        while self._size > KEPT_BYTES and len(self._bodies) > 1:
            _, (old_key, old) = self._bodies.popitem(last=False)
            self._size -= len(old.data)
            self._by_print[old_key].remove(old)
            if not self._by_print[old_key]:
                del self._by_print[old_key]
            if old.given is not None:
                self._by_object.pop(id(old.given), None)
        return body


def _fingerprint(view: memoryview) -> tuple[int, int]:
    """What tells most that is different apart, in microseconds."""
    size = len(view)
    found = zlib.crc32(view[-_END_BYTES:], zlib.crc32(view[:_END_BYTES]))
    return size, zlib.crc32(bytes(view[:: max(1, size // _PROBES)]), found)

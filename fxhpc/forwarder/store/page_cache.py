"""Reading and writing large files, past the kernel's page cache where its pages are dear.

A virtual machine that gives unused memory back to its host pays for each page that it takes again:
2 ms of processor time for a MB that is written to a file, instead of 0.2. There it is better that
few pages are used again and again, and that what is read comes from the disk. Elsewhere the cache
is what makes reading fast. So it is measured, by processor time, which others' load leaves alone.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from io import BytesIO

#: Linux 6.14: pages are written out at once, and given up. Python has no name for it yet.
_DONT_CACHE = 0x80

#: Seconds of processor time for a byte that is written, beyond which pages are dear.
_DEAR = 0.7e-9

#: Bytes that are written through the cache before it is judged, and past it until the next time.
_LOOKED_AT, _TRUSTED = 2**20, 256 * 2**20

_UNKNOWN = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class PageCache:
    """Decides how one thread's files are written and read.

    Args:
        clock: tells its processor time.
        can_pass: whether the system may know how to pass the cache.
    """

    def __init__(
        self, clock: Callable[[], float] = time.thread_time, can_pass: bool | None = None
    ) -> None:
        self._clock = clock
        self._can_pass = sys.platform == "linux" if can_pass is None else can_pass
        self._seconds = 0.0
        self._bytes = 0  # that took so long
        self._left = 0  # bytes that still go past the cache

    @property
    def is_passed(self) -> bool:
        """Whether what comes next goes past the cache."""
        return self._left > 0

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of this from the beginning of a file.

        Raises:
            OSError: it could not be written, or not whole.
        """
        if self._left > 0 and self._pass(descriptor, data):
            self._left -= len(data)
            return
        began = self._clock()
        view, at = memoryview(data), 0
        while at < len(view):
            at += os.pwrite(descriptor, view[at:], at)
        self._seconds += self._clock() - began
        self._bytes += len(data)
        if self._can_pass and self._bytes >= _LOOKED_AT:
            if self._seconds > self._bytes * _DEAR:
                self._left = _TRUSTED
            self._seconds, self._bytes = 0.0, 0

    def _pass(self, descriptor: int, data: bytes) -> bool:
        view, at = memoryview(data), 0
        try:
            while at < len(view):
                at += os.pwritev(descriptor, [view[at:]], at, _DONT_CACHE)
        except OSError as error:
            if at or error.errno not in _UNKNOWN:
                raise
            self._can_pass, self._left = False, 0
            return False
        return True

    def read(self, descriptor: int) -> bytes:
        """All of a file.

        Raises:
            OSError: it cannot be read.
        """
        size = os.fstat(descriptor).st_size
        if self._left <= 0:
            with open(descriptor, "rb", closefd=False) as file:
                file.seek(0)
                return file.read()
        data, at = BytesIO(bytes(size)), 0  # which nobody else has: given away uncopied
        with data.getbuffer() as view:
            while at < size:
                count = os.preadv(descriptor, [view[at:]], at, _DONT_CACHE)
                if not count:
                    break
                at += count
        data.truncate(at)
        return data.getvalue()

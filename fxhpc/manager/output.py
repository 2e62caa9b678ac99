"""What one worker prints: read by its manager, kept to the last lines, on request in a file."""

from __future__ import annotations

import fcntl
import os
from collections import deque
from collections.abc import Callable

from fxhpc.message_files import anonymous_file
from fxhpc.protocol import outcome
from fxhpc.protocol.pool import CAPTURE_BYTES

#: What is kept of a worker's output, and what of that goes into the story of a loss.
OUTPUT_BYTES = 64 * 1024
TAIL_BYTES = 4 * 1024

#: How `faulthandler` begins when a process dies. What follows says where; of a deep stack, its end
#: is far from there.
_CRASH = b"Fatal Python error: "
_CRASH_BYTES = 16 * 1024

#: Files of captured output are cut when they hold so much more than can be asked for.
_SLACK_BYTES = 1 << 20

_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class Output:
    """A worker's pipe, and the files that its stdout and stderr go to while they are captured.

    A captured task writes to files without names, so that nothing that it does can make it wait.
    They only grow, as positions go: what is not wanted any more is taken out of them by `cut`, and
    needs no memory.

    Args:
        log: what is called with all that comes through the pipe; None: nobody wants it.
    """

    def __init__(self, log: Callable[[bytes], None] | None = None) -> None:
        self.fd, self.their_fd = os.pipe()
        os.set_blocking(self.fd, False)
        self.captured = (_appended_file(), _appended_file())
        self._log = log
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._cut = [0, 0]

    def read(self) -> bool:
        """Take in what came through the pipe; False if nothing will come any more."""
        for _ in range(4):
            try:
                data = os.read(self.fd, OUTPUT_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            if self._log is not None:
                self._log(data)
            self._parts.append(data)
            self._size += len(data)
            while self._size - len(self._parts[0]) >= OUTPUT_BYTES:
                self._size -= len(self._parts.popleft())
        return True

    def tail(self, begins: tuple[int, int] = (0, 0)) -> str:
        """The last lines that it wrote, captured or not.

        Args:
            begins: where in the files what the task printed that the worker was at begins.
        """
        parts = [b"".join(self._parts)]
        for fd, begin, cut in zip(self.captured, begins, self._cut, strict=True):
            size = os.fstat(fd).st_size
            parts.append(os.pread(fd, _CRASH_BYTES, max(begin, cut, size - _CRASH_BYTES)))
        text = b"".join(parts)[-_CRASH_BYTES:]
        crash = text.rfind(_CRASH)
        if crash >= 0 and len(text) - crash > TAIL_BYTES:
            text = text[crash : crash + TAIL_BYTES]
        return text[-TAIL_BYTES:].decode(errors="replace")

    def printed(self, begins: tuple[int, int]) -> outcome.Output:
        """What the task printed that the worker was at, as far as it is kept; see `tail`."""
        found: list[tuple[bytes, int]] = []
        for fd, begin in zip(self.captured, begins, strict=True):
            end = os.fstat(fd).st_size
            kept = min(max(0, end - begin), CAPTURE_BYTES)
            found.append((os.pread(fd, kept, end - kept), max(0, end - begin)))
        (out, out_bytes), (err, err_bytes) = found
        return outcome.Output(out, err, out_bytes, err_bytes)

    def cut(self) -> None:
        """Free the memory of what nobody can ask for any more."""
        for position, fd in enumerate(self.captured):
            end = os.fstat(fd).st_size - CAPTURE_BYTES
            if end - self._cut[position] > _SLACK_BYTES and _punch(fd, end):
                self._cut[position] = end

    def close(self) -> None:
        """Let go of everything."""
        for fd in (self.fd, *self.captured):
            os.close(fd)


def _appended_file() -> int:
    fd = anonymous_file()
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd


def _punch(fd: int, end: int) -> bool:
    """Empty a file up to a position, without moving what lies behind; False: it cannot be done."""
    import ctypes  # takes its time, and most managers never need it

    try:
        fallocate = ctypes.CDLL(None).fallocate
    except AttributeError:
        return False
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return bool(fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, 0, end) == 0)

"""What a task prints, collected: by Python, by compiled code, and by the programs it starts."""

from __future__ import annotations

import ctypes
import os
import sys

import msgspec

from fxhpc.protocol.outcome import Output
from fxhpc.protocol.pool import CAPTURE_BYTES, PRINTED_ERR, PRINTED_OUT

_encode = msgspec.msgpack.Encoder().encode


class Capture:
    """Turns the process's stdout and stderr to files while a task runs.

    Args:
        files: descriptors of two files that are only written at their ends. The manager has them
            too: from them it takes the last words of a worker that is killed.
        words: of the page: they say where in the files the task that runs begins.
    """

    def __init__(self, files: tuple[int, int], words: memoryview) -> None:
        self._files = files
        self._words = words
        self._streams = (os.dup(1), os.dup(2))
        self._begins: tuple[int, int] | None = None
        self._flush_c = ctypes.CDLL(None).fflush
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)  # so that a task which is killed leaves its last line

    def begin(self) -> None:
        """From here on, what is printed belongs to a task."""
        self._flush()
        out, err = self._files
        self._begins = begins = (os.fstat(out).st_size, os.fstat(err).st_size)
        self._words[PRINTED_OUT], self._words[PRINTED_ERR] = begins
        os.dup2(out, 1)
        os.dup2(err, 2)

    def end(self, limit: int) -> bytes:
        """The task has ended: what it printed, packed; nothing if it printed nothing.

        Args:
            limit: how many of the last bytes are kept, of each of the two.
        """
        if self._begins is None:
            return b""  # it could not begin
        begins, self._begins = self._begins, None
        self._flush()
        os.dup2(self._streams[0], 1)
        os.dup2(self._streams[1], 2)
        out, err = self._files
        out_bytes = os.fstat(out).st_size - begins[0]
        err_bytes = os.fstat(err).st_size - begins[1]
        # What the next one dies of before it has begun here is not to be shown what this one wrote.
        self._words[PRINTED_OUT] = begins[0] + out_bytes
        self._words[PRINTED_ERR] = begins[1] + err_bytes
        limit = min(limit, CAPTURE_BYTES)
        if out_bytes == err_bytes == 0:
            return b""
        return _encode(
            Output(
                _last(out, begins[0], out_bytes, limit),
                _last(err, begins[1], err_bytes, limit),
                out_bytes,
                err_bytes,
            )
        )

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # the task has closed it, or put something else there
                pass
        self._flush_c(None)


def _last(fd: int, begin: int, size: int, limit: int) -> bytes:
    kept = min(size, limit)
    return os.pread(fd, kept, begin + size - kept)

"""What a manager shares with one worker: a socket pair, the page, the file of calls, its output."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable

from fxhpc.manager.channel import Channel, make_pair
from fxhpc.manager.output import Output
from fxhpc.message_files import anonymous_file
from fxhpc.protocol import kept, pool

#: A page that a task cuts, by a descriptor that is not its own, would end the manager by SIGBUS.
_SEALS = sum(getattr(fcntl, f"F_SEAL_{name}", 0) for name in ("SEAL", "SHRINK", "GROW"))


class Worker:
    """What the manager shares with one worker."""

    def __init__(self, number: int, log: Callable[[bytes], None] | None = None) -> None:
        self.number = number
        self.pid = 0
        self.seed: Channel | None = None  # to who has made it
        self.trouble = ""  # why it was not made, or had to be ended
        self.memory = 0  # bytes that it may use, with all that it starts; 0: it is not limited
        self.gone = False
        self._page_fd = _page_file()
        self._kept_fd = anonymous_file()
        self.page = memoryview(mmap.mmap(self._page_fd, pool.PAGE_BYTES))
        self.words = self.page[: pool.WORD_BYTES].cast("Q")
        self.channel, self._their_socket = make_pair(self.words)
        self.output = Output(log)

    @property
    def their_fds(self) -> tuple[int, ...]:
        """What goes with `pool.Fork`."""
        theirs = (self._their_socket.fileno(), self._page_fd, self._kept_fd, self.output.their_fd)
        return (*theirs, *self.output.captured)

    def handed_over(self) -> None:
        """The seed has its ends; close them here."""
        self._their_socket.close()
        os.close(self._page_fd)
        os.close(self.output.their_fd)

    def close(self) -> None:
        """Let go of everything."""
        self.channel.close()
        self.output.close()
        self.words.release()
        os.close(self._kept_fd)

    def kept(self) -> bytes:
        """What the worker has kept of calls of the chunk that it is or was at; mostly nothing."""
        size = os.fstat(self._kept_fd).st_size
        return kept.whole(os.pread(self._kept_fd, min(size, kept.CHUNK_BYTES), 0)) if size else b""


def _page_file() -> int:
    fd = anonymous_file(sealable=True)
    os.ftruncate(fd, pool.PAGE_BYTES)
    if hasattr(fcntl, "F_ADD_SEALS"):
        with contextlib.suppress(OSError):  # it is no memfd
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd

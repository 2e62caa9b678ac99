"""Reasons for a manager to end that come from outside: what it belongs to is gone, or a signal."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable

from fxhpc.hosts import is_alive
from fxhpc.protocol.pool import ManagerSpec

#: Where a process cannot be watched by a descriptor, it is looked for so often.
LOOK_S = 0.5

#: What `container.sh` writes into its pipe, and the signals that it stands for.
SIGNALS = {ord("T"): signal.SIGTERM, ord("D"): signal.SIGUSR1}


class Watch:
    """Watches a process and takes in signals."""

    def __init__(
        self, selector: selectors.BaseSelector, spec: ManagerSpec, end: Callable[[str, bool], None]
    ) -> None:
        self._selector = selector
        self._end = end
        self._pid = spec.watch_pid
        self._is_parent = self._pid == os.getppid()
        self._reason = ""
        self._signalled = False
        self.wait_s = 3600.0  #: a look is wanted after so many seconds
        # A signal has to end the loop's wait, and Python's handlers alone do not.
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        if self._pid:
            self._begin(spec)

    def look(self) -> None:
        """End the manager if there is a reason."""
        if not self._reason and self.wait_s == LOOK_S and not self._alive():
            self._gone()
        if self._reason:
            reason, self._reason = self._reason, ""
            self._end(reason, self._signalled)

    def ask_to_end(self, reason: str) -> None:
        """Give a reason, from a signal's handler."""
        self._reason, self._signalled = reason, True

    def hold(self, tie: str) -> None:
        """In a container: hold one end of a pipe whose other end is with what has started that.
        It is no parent of this process, and may be killed without it; its signals come by the pipe.

        Args:
            tie: the pipe's path, which is removed at once.
        """
        try:
            fd = os.open(tie, os.O_RDONLY | os.O_NONBLOCK)
            os.unlink(tie)
        except OSError:
            self._cut()  # whoever made it has removed it
            return
        self._selector.register(fd, selectors.EVENT_READ, lambda _: self._hear(fd))
        self._hear(fd)

    def _hear(self, fd: int) -> None:
        try:
            said = os.read(fd, 64)
        except BlockingIOError:
            return
        for letter in said:
            if letter in SIGNALS:
                os.kill(os.getpid(), SIGNALS[letter])
        if not said:
            self._selector.unregister(fd)
            os.close(fd)
            self._cut()

    def _cut(self) -> None:
        self.ask_to_end("what had started its container is gone")

    def _begin(self, spec: ManagerSpec) -> None:
        try:
            fd = os.pidfd_open(self._pid)
        except ProcessLookupError:
            self._gone()
            return
        except (AttributeError, OSError):
            self.wait_s = LOOK_S
        else:
            self._selector.register(fd, selectors.EVENT_READ, lambda _: self._gone())
        if not self._is_parent and not is_alive(self._pid, spec.watch_started):
            self._gone()  # or another process has this pid by now

    def _alive(self) -> bool:
        if self._is_parent:
            return os.getppid() == self._pid
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def _gone(self) -> None:
        self._reason = f"process {self._pid}, for which it worked, is gone"

    def _woken(self, _: int) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass

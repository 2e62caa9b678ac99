"""Reasons for a manager to end that come from outside: its client is gone, or a signal came."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable

from fxhpc.hosts import is_alive
from fxhpc.protocol.pool import ManagerSpec

#: Where a process cannot be watched by a descriptor, it is looked for so often.
LOOK_S = 0.5


class Watch:
    """Watches a process and takes in signals."""

    def __init__(
        self, selector: selectors.BaseSelector, spec: ManagerSpec, end: Callable[[str, bool], None]
    ) -> None:
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
            self._begin(selector, spec)

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

    def _begin(self, selector: selectors.BaseSelector, spec: ManagerSpec) -> None:
        try:
            fd = os.pidfd_open(self._pid)
        except ProcessLookupError:
            self._gone()
            return
        except (AttributeError, OSError):
            self.wait_s = LOOK_S
        else:
            selector.register(fd, selectors.EVENT_READ, lambda _: self._gone())
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

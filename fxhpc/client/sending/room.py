"""How much an executor has for its forwarder that is not accepted yet, and who waits for room."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: Bytes of arguments that are not accepted: beyond it, submissions wait.
ROOM_BYTES = 256 * 2**20

#: Seconds between two looks at what really waits.
_LOOK_S = 0.5


class Room:
    """Bytes that wait here or are under way.

    What is dropped unsent is not told of here: so `bytes` may be too high, until somebody waits
    and looks what there really is.

    Args:
        lock: the executor's; held for all but `wait`.
        waiting: counts the bytes that are not sent.
        is_over: whether nothing more is to be submitted, which ends every wait.
        limit: bytes that may be here before submissions wait.
    """

    def __init__(
        self,
        lock: threading.RLock,
        waiting: Callable[[], int],
        is_over: Callable[[], bool],
        limit: int = ROOM_BYTES,
    ) -> None:
        self.bytes = 0
        self.limit = limit
        self.under_way = 0  # of these; whoever sends some adds it
        self._waiting = waiting
        self._is_over = is_over
        self._lock = lock
        self._changed = threading.Condition(lock)  # not the futures': they would wake up, too

    def answered(self, size: int) -> None:
        """So much of what was under way is accepted, or refused."""
        self.under_way -= size
        self.bytes -= size
        self._changed.notify_all()

    def wait(self) -> None:
        """Return when there is room. Ctrl-C ends the wait.

        Threads of ours never wait: the one that calls users' callbacks has other futures to tell
        of. Nor does who has the lock already, as a signal's handler may.
        """
        if threading.current_thread().name.startswith("fxhpc-") or _is_owned(self._lock):
            return
        with self._lock:
            is_true = False
            while self.bytes > self.limit and not self._is_over():
                if not is_true:
                    self.bytes = self.under_way + self._waiting()
                    is_true = True
                else:
                    is_true = self._changed.wait(_LOOK_S)


def _is_owned(lock: threading.RLock) -> bool:
    """Whether this thread has the lock."""
    return bool(lock._is_owned())  # type: ignore[attr-defined]  # as threading.Condition asks

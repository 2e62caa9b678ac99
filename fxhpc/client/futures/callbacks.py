"""The thread that calls users' callbacks, so that no connection waits for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fxhpc.client.futures.conditions import Condition
from fxhpc.client.started import processes

if TYPE_CHECKING:
    from fxhpc.client.futures.futures import TaskFuture

log = logging.getLogger(__name__)


class Callbacks:
    """The thread that calls the users' callbacks, so that no connection waits for them.

    It is started with the first callback, and ends by itself when it has been idle.
    """

    IDLE_S = 10.0

    def __init__(self) -> None:
        self._queue: list[TaskFuture | Callable[[], object]] = []
        self._condition = Condition()
        self._thread: threading.Thread | None = None
        self._busy = False

    def add(self, future: TaskFuture) -> None:
        """Have the callbacks of a future that has ended called."""
        self._add(future)

    def call(self, job: Callable[[], object]) -> None:
        """Have something of our own called, in a thread that Ctrl-C does not reach.

        Ctrl-C may come in here: whether it is called is not known then.
        """
        self._add(job)

    def _add(self, item: TaskFuture | Callable[[], object]) -> None:
        with self._condition:
            self._queue.append(item)
            if self._thread is not None:
                self._condition.notify_all()
                return
            self._thread = threading.Thread(target=self._run, name="fxhpc-callbacks", daemon=True)
            try:
                self._thread.start()
                return
            except RuntimeError:
                self._thread = None
                futures, self._queue = self._queue, []
            except BaseException:
                self._thread = None  # if it was started all the same, it sees to that itself
                raise
        # No thread can be started now: rather in this one than never. When the process ends, nobody
        # waits for callbacks any more.
        is_exiting = processes.is_exiting()
        _call_all([item for item in futures if callable(item) or not is_exiting])

    def wait_until_idle(self, timeout: float | None) -> bool:
        """Whether all callbacks have returned within so many seconds."""
        if threading.current_thread() is self._thread:
            return False  # called by a callback
        with self._condition:
            return self._condition.wait_for(lambda: not self._queue and not self._busy, timeout)

    def abandon(self) -> None:
        """This is a forked child, where the thread does not exist."""
        self.__init__()  # type: ignore[misc]

    def _run(self) -> None:
        me = threading.current_thread()
        with self._condition:
            self._thread = self._thread or me
            if self._thread is not me:
                return  # another was started, since Ctrl-C came when this one was
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._queue, self.IDLE_S)
                if not self._queue:
                    self._thread = None
                    return
                futures, self._queue = self._queue, []
                self._busy = True
            _call_all(futures)
            del futures


def _call_all(items: list[TaskFuture | Callable[[], object]]) -> None:
    for item in items:
        if callable(item):
            call_back(lambda job: job(), item)
            continue
        for callback in item._done_callbacks:
            call_back(callback, item)
        item._done_callbacks.clear()


def call_back(callback: Callable[[Any], object], future: Any) -> None:
    """Call a user's callback. Not even SystemExit may end the thread that all others need."""
    try:
        callback(future)
    except BaseException:
        log.exception("a callback of %r raised", future)

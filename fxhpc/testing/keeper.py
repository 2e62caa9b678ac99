"""A thread that starts processes again when they have ended, as supervisors and blocks do."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

#: Seconds between two looks.
_EVERY_S = 0.2

#: The longest time in seconds until another try, where a start fails again and again.
_LONGEST_S = 2.0


class Keeper:
    """Looks for what has ended, and has it started again, until it is told to stop.

    Args:
        name: whose processes these are, for what it tells.
        again: starts all that has ended. What it raises is told on standard error, where pytest
            shows it with a test that fails; then it is tried again, later and later.
    """

    def __init__(self, name: str, again: Callable[[], None]) -> None:
        self._name = name
        self._again = again
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="fxhpc-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Start nothing any more; returns when nothing is being started."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        pause = _EVERY_S
        while not self._over.wait(pause):
            try:
                self._again()
                pause = _EVERY_S
            except Exception as error:  # a workload that waits for it is to learn why
                pause = min(2 * pause, _LONGEST_S)
                print(f"endpoint {self._name}, started again: {error}", file=sys.stderr)

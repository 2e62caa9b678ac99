"""Warnings that recur: a user's standard error shows one of them now and then."""

from __future__ import annotations

import logging
import time
from typing import Any


class SparingLog:
    """Logs a warning at most every so many seconds; those in between are for debugging."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last: float | None = None

    def warning(self, every_s: float, text: str, *args: Any) -> None:
        """Warn, if the last warning is at least so many seconds ago."""
        now = time.monotonic()
        due = self._last is None or now - self._last >= every_s
        if due:
            self._last = now
        self._log.log(logging.WARNING if due else logging.DEBUG, text, *args)

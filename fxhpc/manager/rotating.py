"""A manager's log file: it begins anew when it is full, and the one of before is kept."""

from __future__ import annotations

import os
from logging.handlers import RotatingFileHandler
from typing import Any


class Rotating(RotatingFileHandler):
    """Writes to a file of mode 0600, and follows no symbolic link to it."""

    def _open(self) -> Any:
        return open(
            self.baseFilename,
            self.mode,
            encoding="utf-8",
            errors="backslashreplace",
            opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600),
        )

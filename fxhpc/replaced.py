"""Whether the fxhpc on the disk is what this process runs, or an upgrade has replaced it."""

from __future__ import annotations

import os
import re

from fxhpc import version

_VERSION = re.compile(rb'^__version__ = "([^"\n]+)"', re.MULTILINE)


class Installation:
    """The files that this process was started from, as far as one of them tells: whatever installs
    a package writes each file anew.

    Args:
        path: the module that says which version it is.
    """

    def __init__(self, path: str = version.__file__) -> None:
        self._path = path
        self._first = self._last = self._stamp()

    def is_replaced(self) -> bool:
        """Whether others are in their place since, and were already at the last look: then whoever
        has put them there has done so a while ago. Costs one look at a file.
        """
        before, self._last = self._last, self._stamp()
        return self._last == before and self._last not in (self._first, None)

    def words(self) -> str:
        """What has happened to them, in words; for whom `is_replaced` has told."""
        return (
            f"fxhpc {self.version() or 'of another version'} was installed in the place of the "
            f"{version.__version__} that this process runs"
        )

    def version(self) -> str:
        """Which version lies there now; empty if that cannot be read."""
        try:
            with open(self._path, "rb") as file:
                found = _VERSION.search(file.read())
        except OSError:
            return ""
        return found[1].decode(errors="replace") if found else ""

    def _stamp(self) -> tuple[int, int, int] | None:
        # Not the device: that of a network file system may change.
        try:
            found = os.stat(self._path)
        except OSError:
            return None  # somebody is just replacing it, or has removed it
        return found.st_ino, found.st_mtime_ns, found.st_size

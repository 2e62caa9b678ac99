"""Room that a store keeps for itself, so that a full disk stops submissions and not results."""

from __future__ import annotations

import os

#: Bytes that are kept: enough for the results of some thousand tasks, or to forget many.
RESERVE_BYTES = 2 * 1024 * 1024


class Reserve:
    """A file of no content beside the store, given up when the disk is full."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.held = False  #: whether the room is set aside

    def hold(self) -> None:
        """Set room aside, unless it is scarce already: then what is there serves now."""
        if self.held:
            return
        try:
            if os.path.exists(self._path):  # a process that was killed has left it
                self.held = True
                return
            if self.room() < 2 * RESERVE_BYTES:
                return
            flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            self.held = True
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
                else:
                    os.write(descriptor, bytes(RESERVE_BYTES))
            finally:
                os.close(descriptor)
        except OSError:
            self.release()  # a quota that is nearly used up: without a reserve, then

    def room(self) -> int:
        """Bytes that are free on the file system."""
        found = os.statvfs(os.path.dirname(self._path))
        return found.f_bavail * found.f_frsize

    def release(self) -> bool:
        """Give the room up; returns whether there was any."""
        self.held = False
        try:
            os.unlink(self._path)
        except OSError:
            return False  # there was none, or the file system goes on refusing
        return True

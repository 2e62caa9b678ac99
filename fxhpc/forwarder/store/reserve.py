"""Room that a store keeps for itself: a full disk stops submissions, not results nor a purge."""

from __future__ import annotations

import contextlib
import os

#: Bytes that are kept, if that is at most a quarter of what is free at first; else a half of it, a
#: quarter and so on. Twice what the log may hold: to carry that into the database may take as much.
RESERVE_BYTES = 8 * 1024 * 1024

#: The last of it is for what makes room, and for nothing else. Less is no reserve.
LEAST_BYTES = 512 * 1024

#: What is left free when a store is opened: the files beside it need some.
BESIDE_BYTES = 512 * 1024

_STEP_BYTES = 64 * 1024


class Reserve:
    """A file of no content beside the store, cut when the disk is full. It outlives the process:
    whoever opens the store on a full disk needs it too."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.size = 0  #: bytes that are set aside
        with contextlib.suppress(OSError):
            self.size = os.lstat(path).st_size
        self.aim = max(self.size, LEAST_BYTES)  #: bytes that are to be

    @property
    def is_whole(self) -> bool:
        """Whether as much is set aside as there is to be."""
        return self.size >= self.aim

    def begin(self) -> None:
        """Find out how much suits the disk, and set it aside, or what there is."""
        with contextlib.suppress(OSError):
            suits, room, before = RESERVE_BYTES, self.room() + self.size, self.aim
            while suits > LEAST_BYTES and suits * 4 > room:
                suits //= 2
            self.aim = max(before, suits)
            while not self.hold(BESIDE_BYTES) and self.aim > max(self.size, before):
                self.aim //= 2  # a quota allows less, and nobody can ask how much that is
            self.aim = max(self.aim, self.size, before)

    def hold(self, beside: int = 0) -> bool:
        """Set aside what was given up, as far as there is room; returns whether it is whole.

        Args:
            beside: leave so many bytes free, if there are as many beside the last of the reserve.
        """
        with contextlib.suppress(OSError):
            room = self.room() + self.size
            wanted = min(self.aim, room, max(LEAST_BYTES, room - beside))
            while wanted > self.size and wanted >= LEAST_BYTES:
                if self._grow(wanted) or wanted - self.size < _STEP_BYTES:
                    break
                wanted = (wanted + self.size) // 2
        return self.is_whole

    def _grow(self, size: int) -> bool:
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.pwrite(descriptor, bytes(size - self.size), self.size)
        except OSError:
            os.ftruncate(descriptor, self.size)
            return False
        finally:
            os.close(descriptor)
        self.size = size
        return True

    def room(self) -> int:
        """Bytes that are free on the file system; none if it does not answer."""
        try:
            found = os.statvfs(os.path.dirname(self._path))
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize

    def give_half(self) -> bool:
        """Give half of the room up, but for the last of it; returns whether there was any."""
        left = max(LEAST_BYTES, self.size // 2)
        if left >= self.size:
            return False
        try:
            os.truncate(self._path, left)
        except OSError:
            return False
        self.size = left
        return True

    def release(self) -> bool:
        """Give all of the room up; returns whether there was any."""
        self.size = 0
        try:
            os.unlink(self._path)
        except OSError:
            return False  # there was none, or the file system goes on refusing
        return True

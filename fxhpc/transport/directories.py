"""Socket directories of processes that may be killed: each is locked, and those of the dead go."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

from fxhpc.errors import HomeError
from fxhpc.transport import ipc

_LOCK = "lock"

#: Seconds that the directory of a killed process is kept for its successor, if it may have one.
KEPT_S = 24 * 3600.0


class OwnedDirectory:
    """A private directory for sockets, owned by this process until `remove` or its end.

    Whoever makes one removes those whose owners were killed: their locks are free. Directories
    without a lock are of another kind, and left alone.

    Args:
        before: the directory of a process that this one succeeds: taken over if it is free, or
            made again if it is gone, so that whoever knows it finds the successor there.
        sockets: names in it that are removed when it is taken over.
        owner_file: the file that tells others of this directory. While it does, the directory is
            kept for a successor if this process is killed, for a day.
    """

    def __init__(
        self,
        before: str | None = None,
        sockets: tuple[str, ...] = (),
        owner_file: str = "",
    ) -> None:
        self._owner_file = owner_file
        if before is not None and self._take_over(before):
            for name in sockets:
                Path(before, name).unlink(missing_ok=True)
            return
        remove_abandoned()
        while True:
            self.path = ipc.make_ipc_directory()
            if self._own(os.O_CREAT | os.O_EXCL):
                return  # else another process took it for abandoned, in between

    def _take_over(self, path: str) -> bool:
        flags = 0
        if path.startswith(f"/tmp/fxhpc-{os.getuid()}-"):
            try:
                os.mkdir(path, 0o700)
                flags = os.O_CREAT | os.O_EXCL
            except OSError:
                pass  # it is there, as it should be
        try:
            ipc.check_private(path)
        except HomeError:
            return False
        self.path = path
        return self._own(flags)

    def _own(self, flags: int) -> bool:
        self._lock = _lock(Path(self.path, _LOCK), flags)
        if self._lock is None:
            return False
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, os.fsencode(self._owner_file), 0)
        return True

    def touch(self) -> None:
        """Say that this process lives. Also keeps cleaners of /tmp away from the directory."""
        if self._lock is not None:
            os.utime(self._lock)

    def remove(self) -> None:
        """Remove it with all that lies in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_abandoned() -> None:
    """Remove what processes that were killed have left."""
    for path in Path("/tmp").glob(f"fxhpc-{os.getuid()}-*"):
        try:
            ipc.check_private(str(path))
        except HomeError:
            continue  # somebody else's, or gone meanwhile
        # Looked at before it is locked: a successor that found it locked would go elsewhere.
        if _is_kept(path):
            continue
        lock = _lock(path / _LOCK, 0)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def is_abandoned(path: Path) -> bool:
    """Whether it is the directory of a process that was killed, and may be removed by anybody."""
    try:
        ipc.check_private(str(path))
    except HomeError:
        return False
    if _is_kept(path) or (lock := _lock(path / _LOCK, 0)) is None:
        return False
    os.close(lock)
    return True


def _is_kept(path: Path) -> bool:
    """Whether a successor may come for this directory: its owner's file still tells of it."""
    try:
        if time.time() - os.lstat(path / _LOCK).st_mtime > KEPT_S:
            return False
        owner_file = (path / _LOCK).read_bytes()
        return bool(owner_file) and os.fsencode(path) in Path(os.fsdecode(owner_file)).read_bytes()
    except (OSError, ValueError):
        return False


def _lock(path: Path, flags: int) -> int | None:
    """A locked descriptor of this file; None if it is not there, or another process has it."""
    try:
        # A lock of the open file, not of the process: a forked child keeps it for its parent.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    if not os.fstat(descriptor).st_nlink:
        os.close(descriptor)
        return None  # removed, before it was locked
    return descriptor

"""Socket directories of processes that may be killed: each is locked, and those of the dead go."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from fxhpc.errors import HomeError
from fxhpc.transport import ipc

_LOCK = "lock"


class OwnedDirectory:
    """A private directory for sockets, owned by this process until `remove` or its end.

    Whoever makes one removes those whose owners were killed: their locks are free. Directories
    without a lock are of another kind, and left alone.

    Args:
        before: the directory of a process that this one succeeds: taken over if it is free, so
            that whoever knows it finds the successor there.
        sockets: names in it that are removed when it is taken over.
    """

    def __init__(self, before: str | None = None, sockets: tuple[str, ...] = ()) -> None:
        if before is not None and self._take_over(before):
            for name in sockets:
                Path(before, name).unlink(missing_ok=True)
            return
        _remove_abandoned()
        while True:
            self.path = ipc.make_ipc_directory()
            self._lock = _lock(Path(self.path, _LOCK), os.O_CREAT | os.O_EXCL)
            if self._lock is not None:
                return  # else another process took it for abandoned, in between

    def _take_over(self, path: str) -> bool:
        try:
            ipc.check_private(path)
        except HomeError:
            return False
        self.path = path
        self._lock = _lock(Path(path, _LOCK), 0)
        return self._lock is not None

    def remove(self) -> None:
        """Remove it with all that lies in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_abandoned() -> None:
    for path in Path("/tmp").glob(f"fxhpc-{os.getuid()}-*"):
        try:
            ipc.check_private(str(path))
        except HomeError:
            continue  # somebody else's, or gone meanwhile
        lock = _lock(path / _LOCK, 0)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


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

"""Takes a home's store over from a forwarder on another host that may still live, cut off.

First its claim is taken away, see `claim`: one that still reaches the home's files ends by itself
within a second or two, and leaves word by removing its owner file. Of one that does not, nobody
knows what its host still wants to write: after a network was down, what hung then is written then.
So the store gets new files, which are copies of the old ones, and the lock a new one: what the old
forwarder has open is of the old files, whatever becomes of it.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import time
from pathlib import Path

from fxhpc.errors import HomeError
from fxhpc.forwarder.claim import Claim
from fxhpc.forwarder.home import Home
from fxhpc.forwarder.store.files import replace_directory
from fxhpc.units import format_bytes

#: Seconds that the forwarder before has to end by itself.
YIELD_S = 6.0

_LOOK_S = 0.05
_TRIES = 3
_SUFFIXES = ("-wal", "")  # the log first: if it is there, the database is read with it
_NOTES = (".acknowledged",)

log = logging.getLogger("fxhpc.forwarder")


def take_over(home: Home, claim: Claim, patience_s: float = YIELD_S) -> int | None:
    """The lock of the home, taken from whoever has it elsewhere; None: another was faster.

    Raises:
        HomeError: it cannot be done; the text says why.
    """
    before = home.read_owner()
    claim.make(sync=True)
    lock = None
    deadline = time.monotonic() + patience_s
    while True:
        lock = home.take_lock() if lock is None else lock
        if lock is not None and not home.owner.exists():
            return lock  # it has ended, and said so
        if time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_S)
    if lock is not None and before is not None and before.host == platform.node():
        return lock  # this very kernel has released it
    if lock is None:
        log.warning("the lock of %s is held elsewhere; it gets a new one", home.path)
        lock = home.break_lock()
        if lock is None:
            return None
    try:
        renew(home.store)
    except OSError as error:
        os.close(lock)
        raise HomeError(
            f"the store {home.store} cannot be taken over: {error.strerror} "
            f"({error.filename or home.path}); nothing was changed but the claim"
        ) from error
    return lock


def renew(store: Path) -> None:
    """Have other files in the place of a store's, which hold the same.

    Raises:
        HomeError: there is no room for them, or somebody writes to them all the time.
        OSError: a file cannot be read or written.
    """
    files = [Path(f"{store}{suffix}") for suffix in _SUFFIXES]
    files = [path for path in files if path.exists()]
    size = sum(path.stat().st_size for path in files)
    found = os.statvfs(store.parent)
    if found.f_bavail * found.f_frsize < size:
        raise HomeError(
            f"the store {store} can only be taken over with {format_bytes(size)} free beside it, "
            f"for a copy: what the forwarder before still writes goes into the old files. Make "
            f"room, or end that forwarder on its host"
        )
    for _ in range(_TRIES):
        state = _state(files)
        copies = [_copy(path) for path in files]
        if _state(files) == state:
            break
    else:
        for path in files:
            _draft(path).unlink(missing_ok=True)
        raise HomeError(
            f"the store {store} cannot be taken over: somebody writes to it all the time. End "
            f"the forwarder on its host"
        )
    for note in _NOTES:
        Path(f"{store}{note}").unlink(missing_ok=True)
    for path, copy in zip(files, copies, strict=True):
        os.replace(copy, path)
    replace_directory(os.fspath(store.parent / "payloads"))


def _state(files: list[Path]) -> list[tuple[int, int]]:
    return [(found.st_size, found.st_mtime_ns) for found in map(os.stat, files)]


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.taken-over")


def _copy(path: Path) -> Path:
    draft = _draft(path)
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with path.open("rb") as source, os.fdopen(os.open(draft, flags, 0o600), "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
    return draft

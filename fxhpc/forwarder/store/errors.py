"""What SQLite and the file system refuse, as errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import secrets
import shlex
import sqlite3

from fxhpc.errors import ForwarderError, FxhpcError, HomeError, StoreFull
from fxhpc.units import format_bytes

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: As much is written to find out why SQLite could not write: more than one message of tasks has, so
#: that what is left of a quota does not let it pass.
_PROBE_BYTES = 4 * 1024 * 1024


def is_damage(error: object) -> bool:
    """Whether SQLite has found its database damaged: only then it raises this very class."""
    return type(error) is sqlite3.DatabaseError


def explain(error: sqlite3.Error | OSError, path: str) -> FxhpcError:
    """The error to raise instead of `error`, which the store at `path` met."""
    text = str(error)
    if isinstance(error, OSError):
        return _refused(error, path)
    if is_damage(error):
        return ForwarderError(
            f"The store {path} is damaged on the disk ({text}). Its forwarder starts anew within "
            f"seconds, carries over what is whole, and tells what is missing: ask again then."
        )
    if "locked" in text:
        return HomeError(
            f"The store {path} is in use by another process. One forwarder owns a home at a time: "
            f"attach to that one, or end it first."
        )
    if "full" in text:
        return no_room(path, text)
    if "I/O error" in text:
        # SQLite does not tell a quota or a file system that has become read-only from a bad disk.
        refused = _probe(os.path.dirname(path))
        if refused is not None:
            return _refused(refused, path)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY:
            return no_room(path, f"the limit on the size of files, `ulimit -f`, is {limit} bytes")
    if "readonly" in text or "unable to open" in text:
        return HomeError(
            f"The store {path} cannot be opened for writing ({text}). Check that its directory "
            f"exists, belongs to you and is not mounted read-only."
        )
    return ForwarderError(
        f"The store {path} failed: {text}. Nothing of this request was stored; see that its file "
        f"system is well, and try again."
    )


def _refused(error: OSError, path: str) -> FxhpcError:
    """What the file system itself says."""
    if error.errno in _FULL:
        return no_room(path, error.strerror)
    if error.errno == errno.EROFS:
        return HomeError(
            f"The store {path} cannot be written: its file system is read-only now. Nothing of "
            f"this request was stored, running work goes on. Make it writable again (a disk with "
            f"errors is often mounted so), or use another home (FXHPC_HOME)."
        )
    return ForwarderError(
        f"The store {path} cannot be written: {error.strerror or error}. Nothing of this request "
        f"was stored, running work goes on; see that its file system is well, and try again."
    )


def no_room(path: str, detail: str | None) -> StoreFull:
    """The error for what cannot be stored any more."""
    return StoreFull(
        f"There is no room left for the store {path} ({detail}); nothing of this request was "
        f"stored, running work goes on. Free space or quota there (`fxhpc store purge` forgets "
        f"old results), or use a home on another file system (FXHPC_HOME)."
    )


def room_needed(path: str, done: str, needed: int, free: int) -> StoreFull:
    """The error for a store that cannot be opened or made smaller on a disk that is too full."""
    directory = os.path.dirname(path)
    return StoreFull(
        f"The store {path} cannot be {done} on a disk that is so full: about "
        f"{format_bytes(needed)} are needed on {directory}, {format_bytes(free)} are free. Make "
        f"room there: move something else to another disk (what is large: `du -xah "
        f"{shlex.quote(directory)} | sort -h | tail`), then do this again."
    )


def _probe(directory: str) -> OSError | None:
    """The error that writing a new file in the directory meets, if any."""
    path = os.path.join(directory, f".probe-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        return error
    part = bytes(64 * 1024)
    try:
        for _ in range(_PROBE_BYTES // len(part)):
            os.write(descriptor, part)
        os.fsync(descriptor)
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(path)
    return None

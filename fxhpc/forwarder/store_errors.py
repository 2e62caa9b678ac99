"""What SQLite and the file system refuse, as errors that say what to do."""

from __future__ import annotations

import errno
import os
import resource
import secrets
import sqlite3

from fxhpc.errors import ForwarderError, FxhpcError, HomeError, StoreFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_damage(error: object) -> bool:
    """Whether SQLite has found its database damaged: only then it raises this very class."""
    return type(error) is sqlite3.DatabaseError


def explain(error: sqlite3.Error | OSError, path: str) -> FxhpcError:
    """The error to raise instead of `error`, which the store at `path` met."""
    text = str(error)
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return _full(path, error.strerror)
        return ForwarderError(f"The store {path} cannot be written: {text}. Nothing was stored.")
    if "locked" in text:
        return HomeError(
            f"The store {path} is in use by another process. One forwarder owns a home at a time: "
            f"attach to that one, or end it first."
        )
    if "full" in text:
        return _full(path, text)
    if "I/O error" in text:
        # A quota or a limit on file sizes reaches SQLite as a plain I/O error.
        refused = _probe(os.path.dirname(path))
        if refused is not None and refused.errno in _FULL:
            return _full(path, refused.strerror)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY:
            return _full(path, f"the limit on the size of files, `ulimit -f`, is {limit} bytes")
    if "readonly" in text or "unable to open" in text:
        return HomeError(
            f"The store {path} cannot be opened for writing ({text}). Check that its directory "
            f"exists, belongs to you and is not mounted read-only."
        )
    return ForwarderError(
        f"The store {path} failed: {text}. Nothing of this request was stored; see that its file "
        f"system is well, and try again."
    )


def _full(path: str, detail: str | None) -> StoreFull:
    return StoreFull(
        f"There is no room left for the store {path} ({detail}); nothing of this request was "
        f"stored, running work goes on. Free space or quota there, or use a home "
        f"on another file system (FXHPC_HOME)."
    )


def _probe(directory: str) -> OSError | None:
    """The error that a write to a new file in the directory meets, if any."""
    path = os.path.join(directory, f".probe-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        return error
    try:
        os.write(descriptor, bytes(64 * 1024))
        os.fsync(descriptor)
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
        os.unlink(path)
    return None

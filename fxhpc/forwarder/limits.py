"""What a home's store may hold, and for how long: from a file of the home, or the environment."""

from __future__ import annotations

import contextlib
import os
from typing import Annotated

import msgspec

from fxhpc.durations import parse_duration
from fxhpc.errors import HomeError, UsageError
from fxhpc.forwarder.home import Home
from fxhpc.forwarder.store.reserve import RESERVE_BYTES
from fxhpc.protocol.keeping import MAX_BYTES, RETENTION_S
from fxhpc.units import format_bytes, parse_size

#: These say it for the forwarder that is started with them, whatever the file says.
MAX_BYTES_VARIABLE = "FXHPC_STORE_MAX_BYTES"
RETENTION_VARIABLE = "FXHPC_RETENTION"


#: Less than the store's reserve would limit nothing. SQLite's databases end at 16 TB.
MIN_BYTES, MOST_BYTES = RESERVE_BYTES, 16 * 2**40

#: What is too old is looked for once a minute. A hundred years are for ever.
MIN_RETENTION_S, MOST_RETENTION_S = 60.0, 36525 * 86400.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A store's limits."""

    max_bytes: Annotated[int, msgspec.Meta(gt=0)] = MAX_BYTES
    retention_s: Annotated[float, msgspec.Meta(ge=0.0)] = RETENTION_S
    groups: dict[str, float] = {}  # seconds that results of a task group are kept instead


def check_retention(retention_s: float, name: str) -> None:
    """Make sure that results can be kept for so long.

    Raises:
        ValueError: they cannot.
    """
    if not MIN_RETENTION_S <= retention_s <= MOST_RETENTION_S:
        raise ValueError(
            f"{name}: {retention_s:g} s are out of bounds: results are kept for "
            f"60 s at least, so that somebody can fetch them, and for 36525 days (a hundred years) "
            f"at most. Write for example 14d"
        )


def check_limits(limits: Limits, size_name: str, retention_name: str) -> None:
    """Make sure that a store can work within these.

    Raises:
        ValueError: it cannot; the text begins with the name of what is wrong, and has the bounds.
    """
    if not MIN_BYTES <= limits.max_bytes <= MOST_BYTES:
        raise ValueError(
            f"{size_name}: {limits.max_bytes} bytes are out of bounds: {format_bytes(MIN_BYTES)} "
            f"at least, which its reserve for a full disk takes alone, and 16 TB at most, where "
            f"its database ends. Write for example 20GB"
        )
    check_retention(limits.retention_s, retention_name)


def read_limits(home: Home) -> Limits:
    """The limits of a home as its file has them, or as they are by default.

    Raises:
        HomeError: the file is no such file.
    """
    try:
        found = msgspec.json.decode(home.limits.read_bytes(), type=Limits)
    except FileNotFoundError:
        return Limits()
    except (OSError, msgspec.DecodeError) as error:
        raise HomeError(
            f"{home.limits} cannot be read ({error}): write it anew with `fxhpc store set "
            f"--max-bytes 5GB --retention 14d`"
        ) from error
    return found


def write_limits(home: Home, limits: Limits) -> None:
    """Set the limits of a home; its forwarder sees it within a second.

    Raises:
        HomeError: the file cannot be written.
    """
    new = home.limits.with_name(f"{home.limits.name}.{os.getpid()}")
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(limits)))
        os.replace(new, home.limits)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise HomeError(
            f"{home.limits} cannot be written: {error.strerror}; free space there, or see that "
            f"the home is yours and writable"
        ) from error


def keep_group(home: Home, group: str, retention_s: float | None) -> None:
    """Keep a task group's results for so many seconds; None: as long as all others.

    Raises:
        HomeError: the file cannot be read or written.
        UsageError: nothing can be kept for so long.
    """
    if retention_s is not None:
        try:
            check_retention(retention_s, f"group {group}")
        except ValueError as error:
            raise UsageError(str(error)) from None
    found = read_limits(home)
    groups = {name: seconds for name, seconds in found.groups.items() if name != group}
    if retention_s is not None:
        groups[group] = retention_s
    write_limits(home, msgspec.structs.replace(found, groups=groups))


def limits_in_force(home: Home) -> Limits:
    """The limits that hold for a forwarder of this environment.

    Raises:
        HomeError: the file, or a variable, says nothing that can be understood.
    """
    found = read_limits(home)
    size, retention = (os.environ.get(v) for v in (MAX_BYTES_VARIABLE, RETENTION_VARIABLE))
    if not size and not retention:
        return found
    try:
        limits = Limits(
            parse_size(size) if size else MAX_BYTES,
            parse_duration(retention) if retention else RETENTION_S,
        )
        check_limits(limits, MAX_BYTES_VARIABLE, RETENTION_VARIABLE)
    except ValueError as error:
        raise HomeError(
            f"{MAX_BYTES_VARIABLE} or {RETENTION_VARIABLE} is set to what is none: {error}"
        ) from error
    return Limits(
        limits.max_bytes if size else found.max_bytes,
        limits.retention_s if retention else found.retention_s,
        found.groups,
    )


class WatchedLimits:
    """The limits of a home, read again when the file has changed."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stamp: tuple[int, int] | None = None
        self.current = limits_in_force(home)
        self._look()

    def changed(self) -> Limits | None:
        """The limits if they are others than before. An unreadable file changes nothing."""
        if not self._look():
            return None
        before = self.current
        with contextlib.suppress(HomeError):
            self.current = limits_in_force(self._home)
        return self.current if self.current != before else None

    def _look(self) -> bool:
        try:
            found = os.stat(self._home.limits)
            stamp = (found.st_mtime_ns, found.st_ino)
        except OSError:
            stamp = None
        changed, self._stamp = stamp != self._stamp, stamp
        return changed

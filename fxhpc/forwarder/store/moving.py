"""Moves a home's store to another directory, and back, while no forwarder has it.

A note in the home and in both directories says what is on the way. Whoever has the home's lock next
and finds it, a forwarder or another move, finishes what was killed: one of the two places has the
store, as `store.path` says, and what is in the other is removed.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from fxhpc.errors import ForwarderUnreachable, HomeError, UsageError
from fxhpc.forwarder.attach import find_forwarder
from fxhpc.forwarder.home import MOVE_NOTE, Home
from fxhpc.forwarder.restarting import END_S, end_forwarder
from fxhpc.interchange.directory import replace_file
from fxhpc.units import format_bytes


def move_store(home: Home, target: Path | None) -> Path:
    """Move the store's database and its files into a new directory; None: back into the home.

    The forwarder is ended; whoever needs it starts another. Nothing is removed before all is
    copied.

    Returns where it is now.

    Raises:
        UsageError: there is something in that directory, or the store is there already.
        HomeError: there is no room, or it cannot be written; the store is where it was.
        ForwarderUnreachable: the forwarder is on another host, or does not end.
    """
    place = home.path if target is None else Path(os.path.abspath(target))
    if (home.path / MOVE_NOTE).exists():
        with _alone(home):
            finish_move(home)
    before = home.store.parent
    if place == before:
        raise UsageError(f"the store is in {place} already")
    real = Path(os.path.realpath(place))
    for within in {home.path, before} if target is not None else ():
        if Path(os.path.realpath(within)) in (real, *real.parents):
            raise UsageError(f"{place} lies within {within}: name a directory outside of it")
    home.check_store()
    _make(home, place)
    with _alone(home) as lock:
        try:
            _write_notes(home, before, place)
            _copy(_names(before), before, place)
            if not home.is_locked_by(lock):
                _remove(_names(place), place)
                raise HomeError(
                    f"the store was not moved: a forwarder took the home {home.path} over meanwhile"
                )
            if place == home.path:
                home.store_place.unlink()
            else:
                replace_file(home.store_place, os.fsencode(place) + b"\n")
        except OSError as error:
            where = error.filename or place
            raise HomeError(
                f"the store was not moved, and is where it was, in {before}: {where}: "
                f"{error.strerror or error}"
            ) from error
        finally:
            finish_move(home)
    return place


def finish_move(home: Home) -> None:
    """Remove what a move has left in the place where the store is not, if one was begun. Whoever
    calls this has the home's lock.
    """
    note = home.path / MOVE_NOTE
    try:
        said = note.read_bytes()
    except OSError:
        return  # there is none
    here = Home(home.path).store.parent  # as the file says it now
    for text in said.split(b"\0")[1:]:
        place = Path(os.fsdecode(text))
        if place != here and _has_note(place, said):
            _remove([*_names(place), "store.db.reserve"], place)
        if place != home.path and _has_note(place, said):
            _remove([MOVE_NOTE], place)
    _remove([MOVE_NOTE], home.path)


def _write_notes(home: Home, before: Path, place: Path) -> None:
    """Say what is on the way: in the home first, for who finishes it finds the others by that."""
    said = b"\0".join([secrets.token_hex(16).encode(), os.fsencode(before), os.fsencode(place)])
    for path in dict.fromkeys((home.path, before, place)):
        replace_file(path / MOVE_NOTE, said)


def _has_note(place: Path, said: bytes) -> bool:
    """Whether a directory still is the one of this move: others may have made one of its name."""
    try:
        return (place / MOVE_NOTE).read_bytes() == said
    except OSError:
        return False


def _make(home: Home, place: Path) -> None:
    """Make the directory; the home itself must have no store."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.stat()
        is_free = not _names(place) if place == home.path else not any(place.iterdir())
    except OSError as error:
        raise HomeError(f"{place} cannot be used: {error.strerror}") from error
    if not is_free and place == home.path:
        raise UsageError(
            f"files of a store are in {place} already, which this home does not use "
            f"({', '.join(sorted(_names(place))[:3])}): move them away if you know what they are"
        )
    if not is_free:
        raise UsageError(f"{place} is there already, and not empty: name a new directory")
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UsageError(f"{place} must be yours alone: chmod 700 it, or name a new directory")


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[int]:
    """Have the home's lock, so that no forwarder begins."""
    deadline = time.monotonic() + END_S
    while True:
        owner = home.read_owner()
        if find_forwarder(home) is not None and owner is not None:
            if owner.host != platform.node():
                raise ForwarderUnreachable(
                    str(home.path),
                    f"its forwarder runs on host {owner.host}, pid {owner.pid}: move the store "
                    f"there: ssh {owner.host} fxhpc store move",
                )
            end_forwarder(home, owner)
        lock = home.take_lock()
        if lock is not None:
            break
        if time.monotonic() > deadline:
            raise ForwarderUnreachable(
                str(home.path), "somebody starts its forwarder again and again: end what uses it"
            )
    try:
        yield lock
    finally:
        os.close(lock)


def _names(place: Path) -> list[str]:
    """The files of a store, and its directories; but for the reserve, which is made anew."""
    found = [path.name for path in place.glob("store.db*") if path.name != "store.db.reserve"]
    if (place / "payloads").is_dir():
        found.append("payloads")
    return found


def _copy(names: list[str], before: Path, place: Path) -> None:
    size = sum(_size(before / name) for name in names)
    free = shutil.disk_usage(place).free
    if size > free:
        raise HomeError(
            f"the store was not moved: it has {format_bytes(size)}, and {format_bytes(free)} are "
            f"free at {place}"
        )
    for name in names:
        if (before / name).is_dir():
            shutil.copytree(before / name, place / name)
        else:
            shutil.copy2(before / name, place / name)
    os.sync()  # before what was there is removed


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _remove(names: list[str], place: Path) -> None:
    for name in names:
        path = place / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

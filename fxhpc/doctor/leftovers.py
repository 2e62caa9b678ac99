"""Keys that others could read, stores that grow full, and what killed processes have left."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fxhpc.doctor.store_size import sizes
from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding
from fxhpc.endpoint.leftovers import left_blocks
from fxhpc.endpoint.places import known_names, read_state_dir
from fxhpc.endpoint.private import is_abandoned
from fxhpc.endpoint.state import State
from fxhpc.endpoint.state import look as look_at_endpoint
from fxhpc.errors import HomeError
from fxhpc.forwarder.home import Home
from fxhpc.forwarder.limits import limits_in_force
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.transport.directories import is_abandoned as is_dead
from fxhpc.units import format_bytes

#: The part of its limit from which a store is nearly full.
NEARLY = 0.8

_SQLITE = b"SQLite format 3\0"


def look_at_keys(home: Home) -> Iterator[Finding]:
    """See that what is secret is its user's alone."""
    folders = [home.path]
    for name in known_names(home):
        folders += [home.endpoints / name]
        if state := read_state_dir(home.endpoints / name):
            folders.append(Path(state))
    seen = 0
    for folder in folders:
        for path in [*folder.glob("*.key"), *folder.glob("access.json")]:
            found = path.lstat()
            seen += 1
            if finding := key(path, found.st_uid, stat.S_IMODE(found.st_mode), os.getuid()):
                yield finding
    yield Finding(OK, "keys", f"{seen} were looked at")


def key(path: Path, owner: int, mode: int, own: int) -> Finding | None:
    """What is wrong with a key of this owner and mode."""
    if owner != own:
        hint = "move it away: another is made when it is needed"
        return Finding(PROBLEM, "keys", f"{path} belongs to user {owner}, not to you", hint)
    if mode & 0o077:
        hint = f"chmod 600 {path}; if others may have read it, remove it, and restart what uses it"
        return Finding(PROBLEM, "keys", f"{path} is open to others (mode {mode:o})", hint)
    return None


def look_at_store(home: Home) -> Iterator[Finding]:
    """See how full the store is."""
    if not home.store.exists():
        yield Finding(OK, "store", "there is none yet")
        return
    try:
        most = limits_in_force(home).max_bytes
    except HomeError as error:
        yield Finding(PROBLEM, "store", str(error))
        return
    if finding := database(home.store):
        yield finding
    found = sizes(home)
    yield fullness(found.used, most)
    if found.aside:
        text = f"{format_bytes(found.aside)} beside it: {', '.join(found.names[:3])}"
        hint = "copies of damaged or older stores: remove them when nothing of them is missing"
        yield Finding(WARNING, "store", text, hint)


def database(path: Path) -> Finding | None:
    """What is wrong with the file of a store, as far as its first bytes tell."""
    if not path.is_file():
        hint = "move it away; if you know where the store went, put that in its place"
        return Finding(PROBLEM, "store", f"{path} is no file", hint)
    with path.open("rb") as file:
        head = file.read(len(_SQLITE))
    if head in (_SQLITE, b""):
        return None
    hint = "the next forwarder sets it aside, and carries over what is whole"
    return Finding(PROBLEM, "store", f"{path} is damaged: it does not begin as a database", hint)


def fullness(used: int, most: int) -> Finding:
    """What is to be said of a store that takes so many bytes."""
    text = f"its files take {format_bytes(used)}; {format_bytes(most)} are allowed (max_bytes)"
    if used < NEARLY * most:
        return Finding(OK, "store", text)
    hint = "see: fxhpc store du; make room: fxhpc store purge --older-than 7d; keep what you need "
    hint += "before: fxhpc store export"
    return Finding(WARNING, "store", text, hint)


def look_at_leftovers(home: Home) -> Iterator[Finding]:
    """Look for what processes have left that were killed."""
    dead = [path for path in Path("/tmp").glob(f"fxhpc-{os.getuid()}-*") if is_dead(path)]
    if dead:
        text = f"{_many(len(dead), 'socket directory', 'socket directories')} in /tmp"
        yield Finding(OK, "leftovers", f"{text}; the next process removes them: {dead[0]}")
    executors = home.path / "executors"
    private = [path for path in executors.glob("*") if is_abandoned(path)]
    if private:
        text = f"{_many(len(private), 'executor')} with nodes of its own, whose process was killed"
        hint = f"the next Executor(config=...) cancels its jobs and removes it: {private[0]}"
        yield Finding(WARNING, "leftovers", text, hint)
    jobs = 0
    for name in known_names(home):
        directory = EndpointDirectory(home.endpoints / name)
        if look_at_endpoint(directory).state not in (State.STOPPED, State.FAILED):
            continue
        for block in left_blocks(directory):
            jobs += 1
            text = f"{block} of endpoint {name}, of which nothing runs"
            hint = f"cancel it: fxhpc endpoint stop {name}; or go on with it: fxhpc endpoint start "
            yield Finding(WARNING, "leftovers", text, hint + name)
    if not private and not jobs and not dead:
        yield Finding(OK, "leftovers", "none")


def _many(count: int, one: str, several: str = "") -> str:
    return f"1 {one}" if count == 1 else f"{count} {several or one + 's'}"

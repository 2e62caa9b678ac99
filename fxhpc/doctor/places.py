"""Where a home, /tmp and what nodes see of endpoints lie: file system, room, clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding
from fxhpc.endpoint.places import known_names, read_state_dir
from fxhpc.errors import HomeError
from fxhpc.forwarder.filesystems import network_type
from fxhpc.forwarder.home import Home
from fxhpc.units import format_bytes, format_duration

#: Room below which little can be stored, and below which next to nothing can.
_LITTLE_ROOM, _NO_ROOM = 1024 * 2**20, 64 * 2**20
_FEW_INODES = 1000
#: Seconds that a file server's clock may be off; certificates and `make` mind sooner.
_CLOCK_S = 5.0
_QUOTA_S = 2.0


def look_at_home(home: Home) -> Iterator[Finding]:
    """Look at the directory of a home, or at the one in which it would be made."""
    if home.path.exists():
        try:
            home.check()
        except HomeError as error:
            yield Finding(PROBLEM, "home", str(error))
            return
    yield from _place("home", home.path, "home")
    if (place := home.store.parent) != home.path:
        try:
            home.check_store()
        except HomeError as error:
            yield Finding(PROBLEM, "store", str(error))
            return
        yield from _place("store", place, "home")


def look_at_tmp() -> Iterator[Finding]:
    """Look at /tmp, where sockets are."""
    yield from _place("/tmp", Path("/tmp"), "sockets")


def look_at_states(home: Home) -> Iterator[Finding]:
    """Look at the directories that nodes see of endpoints (`state_dir`)."""
    for name in known_names(home):
        path = read_state_dir(home.endpoints / name)
        if path:
            yield from _place(f"state_dir of {name}", Path(path), "state_dir")


def look_at_quota() -> Iterator[Finding]:
    """Ask whether this user is over a quota, where somebody knows that."""
    command = shutil.which("quota")
    if command is None:
        return
    try:
        done = subprocess.run(
            [command, "-q"], capture_output=True, text=True, timeout=_QUOTA_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    lines = done.stdout.strip().splitlines()
    if lines:
        text = f"the command `quota` says: {'; '.join(line.strip() for line in lines[:3])}"
        yield Finding(WARNING, "quota", text, "remove what you do not need: nothing is stored then")
    else:
        yield Finding(OK, "quota", "none is exceeded, as far as the command `quota` knows")


def file_system(what: str, path: Path, kind: str, use: str) -> Finding:
    """What it means that a path lies on a file system of this network kind; "": on a local one."""
    if not kind:
        return Finding(OK, what, f"{path} is on a file system of this host")
    if use == "sockets":
        text = f"{path} is on {kind}, where sockets mostly do not work"
        return Finding(WARNING, what, text, "have a file system of this host mounted on /tmp")
    if use == "state_dir":
        return Finding(OK, what, f"{path} is on {kind}, which nodes can see")
    text = f"{path} is on {kind}: every commit is synchronised, so that what was stored stays"
    return Finding(OK, what, text)


def room(what: str, path: Path, free: int, inodes: int, total_inodes: int) -> Finding:
    """Whether there is room. `free` counts bytes; a file system without inodes has none in all."""
    text = f"{format_bytes(free)} free at {path}"
    if total_inodes and inodes < _FEW_INODES:
        hint = "nothing can be stored when they are used up: remove small files"
        return Finding(PROBLEM, what, f"{text}, but room for {inodes:,} files only", hint)
    if free >= _LITTLE_ROOM:
        return Finding(OK, what, text)
    hint = "make some: fxhpc store purge --older-than 7d, or remove other files"
    return Finding(PROBLEM if free < _NO_ROOM else WARNING, what, text, hint)


def clock(what: str, path: Path, ahead_s: float) -> Finding:
    """How far the clock of who keeps the files is ahead of this host's."""
    if abs(ahead_s) <= _CLOCK_S:
        return Finding(OK, what, f"this host's and that of {path} agree")
    off = format_duration(abs(ahead_s))
    way = "ahead of" if ahead_s > 0 else "behind"
    hint = "another host may look dead, or alive, that is not: have the clocks set (ntp, chrony)"
    return Finding(WARNING, what, f"that of {path} is {off} {way} this host's", hint)


def _place(what: str, path: Path, use: str) -> Iterator[Finding]:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    yield file_system(what, path, network_type(os.fspath(path)), use)
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            before = time.time()
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            written, after = os.fstat(file.fileno()).st_mtime, time.time()
    except OSError as error:
        hint = "make it writable, free space there, or name another one"
        yield Finding(PROBLEM, what, f"{path} cannot be written: {error.strerror}", hint)
        return
    ahead = written - after if written > after else min(0.0, written - before)
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    yield room(f"room at {what}", path, free, found.f_favail, found.f_files)
    yield clock(f"clock at {what}", path, ahead)

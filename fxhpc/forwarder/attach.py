"""Finds a home's forwarder, or starts it: whoever is first does, all others attach."""

from __future__ import annotations

import errno
import os
import platform
import select
import site
import subprocess
import sys
import time
from pathlib import Path

from fxhpc import forks
from fxhpc.errors import ForwarderUnreachable, HomeError
from fxhpc.forwarder.claim import TAKE_OVER
from fxhpc.forwarder.home import ForwarderAddress, Home
from fxhpc.hosts import boot_id, is_alive

#: Seconds that a forwarder may take to be ready.
READY_S = 20.0

#: Forwarders in a row that may die as they start.
STARTS = 3

_DISK_ERRORS = frozenset({errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT})

#: Seconds that one which takes over may take: it may copy the store.
_TAKE_OVER_S = 600.0

_POLL_S = 0.02
_LOG_BYTES = 5 * 2**20

_children: set[int] = set()  # forwarders that this process started, and has not waited for


def find_forwarder(home: Home) -> ForwarderAddress | None:
    """The home's forwarder, if one is alive: on this host, or on another that answers.

    Raises:
        ForwarderUnreachable: one may be alive on another host.
    """
    address = home.read_owner()
    if address is None:
        return None
    if address.host != platform.node():
        with forks.none:  # a child that was forked meanwhile would find the import half done
            from fxhpc.forwarder.elsewhere import find_elsewhere

        return find_elsewhere(home, address)
    if address.boot != boot_id() or not is_alive(address.pid, address.started):
        return None
    return address


def ensure_forwarder(
    path: str | os.PathLike[str] | None = None, *, take_over: bool = False
) -> ForwarderAddress:
    """The home's forwarder, started if there is none. May take a few hundred milliseconds.

    Args:
        take_over: start one here though another may be alive on another host. That one writes
            nothing any more, and ends as soon as it can see that.

    Raises:
        HomeError: the home cannot be used; the text says why and what to do.
        ForwarderUnreachable: there is none and it cannot be started, or it is elsewhere.
    """
    _bury_children()
    home = Home(path)
    home.create()
    deadline = time.monotonic() + READY_S
    died = 0
    while True:
        before = home.read_owner()
        if take_over and before is not None and before.host != platform.node():
            address = None
        else:
            address = find_forwarder(home)
        if address is not None:
            return address
        if take_over:
            said = _start(home, _TAKE_OVER_S, TAKE_OVER)
        else:
            said = _start(home, max(1.0, deadline - time.monotonic()))
        if said == "ready":
            continue
        if not said and (died := died + 1) < STARTS:
            continue  # killed while it started, which says nothing about the next one
        if said != "busy":
            said = said or f"it dies as it starts; {last_words(home.path)}"
            raise ForwarderUnreachable(str(home.path), said)
        if time.monotonic() > deadline:
            if before is not None and before.host != platform.node():
                with forks.none:
                    from fxhpc.forwarder.elsewhere import lock_is_held

                raise lock_is_held(home, before)
            raise ForwarderUnreachable(
                str(home.path),
                f"another process holds {home.lock}, and does not become ready: it is stopped or "
                f"waits for the disk. Find it (`pgrep -af 'fxhpc.*forwarder'`), end it, and try "
                f"again; forwarder.log there says more",
            )
        time.sleep(_POLL_S)  # another process starts one, or the last one is about to end


def module_environment() -> dict[str, str]:
    """The environment in which `python -m fxhpc...` finds this very fxhpc."""
    environment = dict(os.environ)
    root = os.path.realpath(Path(__file__).parents[2])
    found_anyway = [*site.getsitepackages(), site.getusersitepackages()]
    if root not in map(os.path.realpath, found_anyway):
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = root + (os.pathsep + inherited if inherited else "")
    return environment


def _start(home: Home, patience: float, *arguments: str) -> str:
    """Start a forwarder: "ready", "busy" if there is one already, "" if it died, or an error."""
    with forks.none:  # a child would keep the pipe open, whose end is waited for
        process, reader = _launch(home, arguments)
    try:
        said = _read_line(reader, patience)
    finally:
        os.close(reader)
    if said == "busy":
        process.wait()
    else:
        process.returncode = 0  # it outlives the object, which is not to wait for it
        _children.add(process.pid)
    return said


def _launch(home: Home, arguments: tuple[str, ...]) -> tuple[subprocess.Popen[bytes], int]:
    """Start one; and the end of a pipe, to be closed, where it says how it is."""
    reader, writer = os.pipe()
    try:
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            log = os.open(home.log, flags, 0o600)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            # A disk with errors may be well again soon; until then the forwarder says what it is.
            log = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.fstat(log).st_size > _LOG_BYTES:
                os.ftruncate(log, 0)
            process = subprocess.Popen(
                [sys.executable, "-m", "fxhpc.forwarder", str(home.path), str(writer), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # nothing in the user's directory must stand before a module
                env=module_environment(),
                pass_fds=(writer,),
                start_new_session=True,
            )
        finally:
            os.close(log)
    except OSError as error:
        os.close(reader)
        raise HomeError(f"no forwarder can be started for {home.path}: {error.strerror}") from error
    finally:
        os.close(writer)
    return process, reader


def _bury_children() -> None:
    """Those that this process started and that have ended must not stay as zombies."""
    for pid in list(_children):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            ended = True  # another thread's wait got it, or it is the child of this fork's parent
        if ended:
            _children.discard(pid)


def _read_line(reader: int, patience: float) -> str:
    deadline = time.monotonic() + patience
    text = b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return f"it was not ready after {patience:.0f} s"
        part = os.read(reader, 4096)
        if not part:
            return text.decode(errors="replace").strip()
        text += part


def last_words(path: str | os.PathLike[str] | None = None) -> str:
    """What the home's forwarders logged last, for an error's text."""
    log = Home(path).log
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"{log} says last: {lines[-1]}" if lines else f"{log} says nothing"

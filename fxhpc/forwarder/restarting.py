"""Puts another forwarder in the place of a home's: after an upgrade, or when somebody wants it."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time

from fxhpc.errors import ForwarderUnreachable
from fxhpc.forwarder.attach import ensure_forwarder, find_forwarder
from fxhpc.forwarder.home import ForwarderAddress, Home
from fxhpc.hosts import is_alive

#: Seconds that the one before may take to end: it writes what it has to the store.
END_S = 30.0

_POLL_S = 0.01


def restart_forwarder(home: Home) -> tuple[ForwarderAddress | None, ForwarderAddress]:
    """End the home's forwarder, if there is one, and start another: the one before, and the new.

    Clients attach again by themselves, and tasks run on meanwhile: nothing is lost.

    Raises:
        ForwarderUnreachable: it is on another host, or does not end.
        HomeError: the home cannot be used.
    """
    owner = home.read_owner()
    before = owner if find_forwarder(home) is not None else None
    if before is not None and before.host != platform.node():
        raise ForwarderUnreachable(
            str(home.path),
            f"its forwarder runs on host {before.host}, pid {before.pid}: restart it there, by "
            f"ssh {before.host} fxhpc forwarder restart",
        )
    if before is not None:
        end_forwarder(home, before)
    return before, ensure_forwarder(home.path)


def end_forwarder(home: Home, before: ForwarderAddress) -> None:
    """End a home's forwarder, which is on this host.

    Raises:
        ForwarderUnreachable: it does not end.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(before.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_S
    while is_alive(before.pid, before.started):
        if time.monotonic() > deadline:
            raise ForwarderUnreachable(
                str(home.path),
                f"its forwarder, pid {before.pid}, was told to end and has not after {END_S:.0f} "
                f"s: if it was stopped, `kill -CONT {before.pid}` lets it go on; if it hangs, "
                f"`kill -9 {before.pid}`, and nothing is lost",
            )
        time.sleep(_POLL_S)

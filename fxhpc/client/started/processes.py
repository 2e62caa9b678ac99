"""What becomes of clients when their process forks or ends: two hooks for all of them."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from typing import Any, Protocol, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that the end of the interpreter may take on our account.
EXIT_LIMIT_S = 2.0


class Resident(Protocol):
    """Something with threads, sockets or processes of its own."""

    #: Lower ranks leave first: executors, then connections.
    exit_rank: int

    def leave(self, deadline: float) -> None:
        """The interpreter ends: give up what is held, by this monotonic time."""

    def abandon(self) -> None:
        """This is a forked child: forget what belongs to the parent, touching none of it."""


_residents: weakref.WeakSet[Any] = weakref.WeakSet()
_graveyard: list[Any] = []  # the parent's objects, kept so that no finalizer of theirs runs here
_exiting = False
_hooked = False


def add_resident(resident: Resident) -> None:
    """Let a resident know when the process forks or ends. It is referred to weakly."""
    global _hooked
    if not _hooked:
        _hooked = True
        _register_at_exit()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_abandon_all)
    _residents.add(resident)


def residents(kind: type[T]) -> list[T]:
    """Those of this kind that are there."""
    return [resident for resident in list(_residents) if isinstance(resident, kind)]


def is_exiting() -> bool:
    """Whether the interpreter has begun to end."""
    return _exiting


def bury(*things: Any) -> None:
    """Keep a parent's objects alive for ever: closing them here would disturb the parent."""
    _graveyard.extend(things)


def _register_at_exit() -> None:
    # Before the interpreter joins its threads, as concurrent.futures does: a user's thread that
    # waits for one of our futures would otherwise never be joined. The name is private to
    # CPython, so its absence must do no more harm than a later clean-up.
    register = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(_leave_all)
    except RuntimeError:
        pass  # the interpreter ends already: children watch this process, and end with it


def _leave_all() -> None:
    global _exiting
    _exiting = True
    deadline = time.monotonic() + EXIT_LIMIT_S
    for resident in sorted(_residents, key=lambda resident: resident.exit_rank):
        try:
            resident.leave(deadline)
        except Exception:
            log.exception("leaving %r failed", resident)


def _abandon_all() -> None:
    for resident in list(_residents):
        _graveyard.append(resident)
        try:
            resident.abandon()
        except Exception:
            log.exception("abandoning %r in a forked child failed", resident)

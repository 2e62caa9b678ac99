"""All processes that a command has started, wherever they went: found in /proc, and ended.

A process belongs to a command if it descends from the command's shell, is in its session, or has
the command's mark in its environment, which it inherits: so one that has called setsid, and whose
own parent has ended, is found too.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Mapping
from typing import NamedTuple

#: The variable with the mark; of a command that is started by another one's, with both marks.
MARK_VARIABLE = "FXHPC_SHELL_ID"

#: Seconds from SIGTERM to SIGKILL, and from there until nobody waits any more: a process in an
#: uninterruptible call dies when the call is over.
GRACE_S = 2.0
KILL_S = 1.0

_PROC = "/proc"


class _Status(NamedTuple):
    parent: int
    session: int
    started: int  # in ticks since the host was booted
    is_alive: bool


class Mark:
    """What all processes of one command have in their environment."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(12)
        self._encoded = self._mark.encode()

    def added_to(self, environ: Mapping[str, str]) -> dict[str, str]:
        """This environment, with the mark."""
        outer = environ.get(MARK_VARIABLE, "")
        return {**environ, MARK_VARIABLE: f"{outer} {self._mark}".lstrip()}

    def is_on(self, pid: int) -> bool:
        """Whether a process has it; False where that cannot be read."""
        try:
            with open(f"{_PROC}/{pid}/environ", "rb") as file:
                return self._encoded in file.read()
        except OSError:
            return False


class Tree:
    """The processes of one command.

    Args:
        pid: its shell, the leader of a session. Nobody has asked how it ended, so that no other
            process has its number.
    """

    def __init__(self, pid: int, mark: Mark) -> None:
        self.pid = pid
        self._mark = mark
        shell = _status(pid)
        self._began = shell.started if shell is not None else 0

    def living(self) -> set[int]:
        """Those that have not ended; this process is never one of them."""
        if self._began == 0:  # no /proc
            return {self.pid} if _has_session(self.pid) else set()
        statuses = _statuses()
        children: dict[int, list[int]] = {}
        for pid, status in statuses.items():
            children.setdefault(status.parent, []).append(pid)
        found: set[int] = set()
        waiting = [
            pid
            for pid, status in statuses.items()
            if pid == self.pid or (status.started >= self._began and self._has(pid, status))
        ]
        while waiting:
            pid = waiting.pop()
            if pid not in found:
                found.add(pid)
                waiting += children.get(pid, ())
        return {pid for pid in found if statuses[pid].is_alive} - {os.getpid()}

    def _has(self, pid: int, status: _Status) -> bool:
        return status.session == self.pid or (status.is_alive and self._mark.is_on(pid))

    def signal(self, pids: set[int], number: int) -> None:
        """Send some of them a signal."""
        for pid in pids:
            try:
                if self._began:
                    os.kill(pid, number)
                else:
                    os.killpg(pid, number)
            except (ProcessLookupError, PermissionError):  # gone; another user's, as by sudo
                pass


def end(tree: Tree) -> None:
    """End all processes of a command: SIGTERM, some time to tidy up, SIGKILL.

    Those that this process has inherited from their parents are waited for, but for the shell.
    """
    told: set[int] = set()
    ended = _until_gone(tree, (signal.SIGTERM, signal.SIGCONT), GRACE_S, told)
    if not ended:
        _until_gone(tree, (signal.SIGKILL,), KILL_S, told)
    for pid in told - {tree.pid}:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass  # somebody else's child


def _until_gone(tree: Tree, signals: tuple[int, ...], within_s: float, told: set[int]) -> bool:
    """Send these signals, once to each process, until there is none; False: there still is one."""
    sent: set[int] = set()
    until, pause_s = time.monotonic() + within_s, 0.002
    while found := tree.living():
        for number in signals:
            tree.signal(found - sent, number)
        sent |= found
        told |= found
        if time.monotonic() >= until:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.05)
    return True


def _statuses() -> dict[int, _Status]:
    """All processes of this host that can be seen."""
    found: dict[int, _Status] = {}
    for name in os.listdir(_PROC):
        if name.isdecimal() and (status := _status(int(name))) is not None:
            found[int(name)] = status
    return found


def _status(pid: int) -> _Status | None:
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as file:
            # The name of the program is in parentheses, and may have any character.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None  # it has ended; or there is no /proc
    state, threads = fields[0], int(fields[17])
    # The first thread of a process may have ended before the others.
    is_alive = state not in (b"Z", b"X", b"x") or threads > 1
    return _Status(int(fields[1]), int(fields[3]), int(fields[19]), is_alive)


def _has_session(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except OSError:
        return False
    return True

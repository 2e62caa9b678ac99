"""Which processes of fxhpc belong to a home, or to a process: for chaos, which must hit no others.

A title alone proves nothing: many a user of a machine has workers. So a process belongs to a home
if the home's files name it by pid and start, if it descends from one of those or from a job script
of the home's endpoints, or if it descends from a process that is named as a root.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fxhpc import hosts

#: What can be killed, as the processes' titles call it: `fxhpc: KIND ...`.
KINDS = (
    "worker",
    "seed",
    "manager",
    "interchange",
    "provisioner",
    "forwarder",
    "supervisor",
)

#: A worker has forked nobody's `fxhpc: worker` but a task's own: the parents that make one real.
_PARENTS = {"worker": "seed", "seed": "manager"}

#: Each has its files in a home, and those say which home it belongs to.
_NAMED = ("forwarder", "supervisor", "interchange")

#: What keeps the endpoints with a name, and those of executors, in a home.
_FOLDERS = ("endpoints", "executors")


class _Record(msgspec.Struct):
    """What the files of a home say of a process."""

    pid: int
    started: float


@dataclass(frozen=True)
class Process:
    """One process, named so that no other can be meant.

    Attributes:
        kind: one of `KINDS`, or "client".
        pid: its number.
        started: as `fxhpc.hosts.start_time` has it.
        parent: its parent's pid.
    """

    kind: str
    pid: int
    started: float
    parent: int = 0

    def is_alive(self) -> bool:
        """Whether it still is there, and no zombie."""
        return hosts.is_alive(self.pid, self.started)

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; False if it has ended. Another process with its pid never gets it."""
        open_pidfd = getattr(os, "pidfd_open", None)
        if open_pidfd is None:
            if not self.is_alive():
                return False
            with contextlib.suppress(OSError):
                os.kill(self.pid, number)
                return True
            return False
        try:
            descriptor = open_pidfd(self.pid)
        except OSError:
            return False
        try:
            if not self.is_alive():  # the descriptor may be that of a process with the same pid
                return False
            signal.pidfd_send_signal(descriptor, number)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


class Victims:
    """Finds what belongs to a home, and to what descends from some processes.

    Args:
        home: the home's directory, if there is one.
        roots: pids; what they have started belongs, they themselves do not.
    """

    def __init__(self, home: str | os.PathLike[str] | None, roots: Iterable[int] = ()) -> None:
        self._home = None if home is None else Path(os.path.abspath(home))
        self.roots = set(roots)

    def find(self, kinds: Iterable[str] = KINDS) -> list[Process]:
        """Those of some kinds that live now, sorted by kind and pid."""
        wanted = set(kinds)
        table = _table()
        own = self._named(table)
        found = []
        for pid, (parent, title) in table.items():
            kind = _kind(title)
            if kind not in wanted:
                continue
            expected = _PARENTS.get(kind)
            if expected and _kind(table.get(parent, (0, ""))[1]) != expected:
                continue
            if not self._belongs(pid, table, own):
                continue
            started = hosts.start_time(pid)
            if started:
                found.append(Process(kind, pid, started, parent))
        return sorted(found, key=lambda one: (one.kind, one.pid))

    def _belongs(self, pid: int, table: dict[int, tuple[int, str]], own: set[int]) -> bool:
        """Whether it, or somebody it descends from, is the home's or a root."""
        at = pid
        for _ in range(64):
            parent, command = table[at]
            if at in own or (at in self.roots and at != pid) or self._is_job(command):
                return True
            if self._home is not None and _kind(command) in _NAMED:
                return False  # another home's
            at = parent
            if at not in table:
                return False
        return False

    def _is_job(self, command: str) -> bool:
        """Whether this is the script of a block of one of the home's endpoints."""
        if self._home is None or command.startswith("fxhpc: "):
            return False
        return any(
            f"{self._home}/{name}/" in command and "/blocks/" in command for name in _FOLDERS
        )

    def _named(self, table: dict[int, tuple[int, str]]) -> set[int]:
        """The pids of this host that the files of the home name."""
        if self._home is None:
            return set()
        files = [self._home / "forwarder.json"]
        for folder in _FOLDERS:
            for name in ("supervisor.json", "interchange.json"):
                files += sorted((self._home / folder).glob(f"*/{name}"))
        found = set()
        for file in files:
            with contextlib.suppress(OSError, msgspec.DecodeError):
                record = msgspec.json.decode(file.read_bytes(), type=_Record)
                is_ours = _kind(table.get(record.pid, (0, ""))[1]) in KINDS
                if is_ours and hosts.is_alive(record.pid, record.started):
                    found.add(record.pid)
        return found


def client(pid: int) -> Process:
    """A client of a home, or any process that is to be killed as one.

    Raises:
        ProcessLookupError: it is not there.
    """
    started = hosts.start_time(pid)
    if not started:
        raise ProcessLookupError(f"there is no process {pid}")
    return Process("client", pid, started)


def parent_of(pid: int) -> int:
    """A process's parent; 0 if it is not there."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat[stat.rindex(b")") + 1 :].split()[1])
    return 0


def _kind(title: str) -> str:
    words = title.split()
    return words[1] if len(words) > 1 and words[0] == "fxhpc:" else ""


def _table() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process of this user."""
    found = {}
    me = os.getuid()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if entry.stat().st_uid != me:
                continue
            command = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ")
            parent = parent_of(int(entry.name))
            found[int(entry.name)] = (parent, command.decode(errors="replace").strip())
    return found

"""Nodes that are to blame themselves: where no worker starts, or where everything is lost.

Such a manager is *set aside*: it gets no more work and is let go, and its block with it where it
is the only one there. Only if somebody else can do the work: the last one is never set aside for
what is lost there, and where nobody else can come, tasks end with the reason instead.

A host is to blame for deaths if several different tasks in a row lost their workers there, none
ended well in between, and these very tasks have ended well elsewhere. So tasks that kill their
workers wherever they run set no host aside, however many they are.
"""

from __future__ import annotations

from fxhpc.interchange.blocks.allocating import Allocating
from fxhpc.interchange.held import Manager, Task, in_block
from fxhpc.interchange.state import State
from fxhpc.protocol.outcome import Loss
from fxhpc.units import format_duration

#: So many different tasks in a row that were lost on a host, and ended well on others.
ROW = 3

#: A host with so many in its row gets none of them back while there are other hosts.
DOUBTFUL = 2

#: Seconds until a host that was set aside is tried again, by a new block.
ASIDE_S = 3600.0

#: Hosts that a report names.
NAMED = 20


class BadNodes:
    """Finds them, and sets their managers aside."""

    def __init__(self, state: State, allocating: Allocating | None) -> None:
        self._state = state
        self._allocating = allocating
        self._rows: dict[str, dict[Task, bool]] = {}  # by host; whether it ended well elsewhere
        self._last_words: dict[str, str] = {}  # by host: what a worker wrote last
        self._aside: dict[str, tuple[float, str]] = {}  # by host: until when, and why

    def __bool__(self) -> bool:
        """Whether any host is being watched."""
        return bool(self._rows)

    def is_doubtful(self, host: str) -> bool:
        """Whether everything may be lost there."""
        return len(self._rows.get(host, ())) >= DOUBTFUL

    def is_aside(self, host: str) -> bool:
        """Whether it gets no work."""
        return self._state.now < self._aside.get(host, (0.0, ""))[0]

    # --- no worker starts -----------------------------------------------------------------------

    def cannot_start(self, manager: Manager, loss: Loss) -> bool:
        """A manager cannot start workers; whether its tasks can go to others."""
        if manager.draining:
            return True  # it was set aside, and has told of tasks that were on their way
        others = self._others(manager)
        if not others and not self._more_may_come():
            return False
        how = (
            f"were killed by signal {loss.signal}"
            if loss.signal
            else f"exited with code {loss.exit_code}"
        )
        said = _last_line(loss.stderr)
        why = f"its workers {how} before they could run anything" + f": {said}" * bool(said)
        # If nobody works anywhere, it need not be the host that is to blame.
        is_host = manager.host and not any(other.host == manager.host for other in others)
        if is_host and any(other.ended for other in others):
            self._aside[manager.host] = (self._state.now + ASIDE_S, why)
        self._set_aside(manager, why)
        return True

    # --- everything is lost ---------------------------------------------------------------------

    def worker_died(self, manager: Manager, task: Task, loss: Loss) -> None:
        """A task lost its worker there."""
        host = loss.host or manager.host
        if host:
            self._rows.setdefault(host, {}).setdefault(task, False)
            self._last_words[host] = loss.stderr

    def ended_well(self, host: str, task: Task, lost_on: frozenset[str]) -> None:
        """A task has ended on a host; before that, it was lost on others."""
        if self._rows.pop(host, None) is not None:
            self._last_words.pop(host, None)
        for other in lost_on:
            if other != host and task in self._rows.get(other, ()):
                self._rows[other][task] = True
                if sum(self._rows[other].values()) >= ROW:
                    self._convict(other)

    def forget(self, task: Task) -> None:
        """A task has ended, and not well: it tells nothing of hosts."""
        for host in [host for host, row in self._rows.items() if row.get(task) is False]:
            del self._rows[host][task]
            if not self._rows[host]:
                del self._rows[host]
                self._last_words.pop(host, None)

    def _convict(self, host: str) -> None:
        managers = [one for one in self._state.managers.values() if one.host == host]
        others = (one for one in self._state.managers.values() if one.host != host)
        if not any(one.takes_work for one in others):
            return
        row = self._rows.pop(host)
        said = _last_line(self._last_words.pop(host, ""))
        why = (
            f"{len(row)} tasks in a row lost their workers there, and "
            f"{sum(row.values())} of them have ended well on other hosts since"
        ) + f"; the last worker said: {said}" * bool(said)
        for task in row:
            self._state.histories.take_charges(task, host)
        self._aside[host] = (self._state.now + ASIDE_S, why)
        for manager in managers:
            self._set_aside(manager, why)

    # --- set aside ------------------------------------------------------------------------------

    def registered(self, manager: Manager) -> None:
        """A manager has greeted. A new block may have got a host that was set aside."""
        until, why = self._aside.get(manager.host, (0.0, ""))
        if not why or manager.draining:
            return
        if self._state.now >= until:
            del self._aside[manager.host]
        elif manager.block and self._others(manager):
            self._set_aside(manager, why)

    def reports(self) -> list[str]:
        """The hosts that are set aside, and why."""
        now = self._state.now
        return [
            f"{host} is set aside for {format_duration(-(-(until - now) // 60) * 60)}: {why}"
            for host, (until, why) in list(self._aside.items())[:NAMED]
            if until > now
        ]

    def _set_aside(self, manager: Manager, why: str) -> None:
        where = f"manager {manager.name} on {manager.host}{in_block(manager)}"
        self._state.note(f"{where} is set aside, and gets no more work: {why}", "error")
        if not manager.draining:
            self._state.drain(manager)
        if self._allocating is not None:
            self._allocating.set_aside(manager, why, self._state.now)

    def _others(self, manager: Manager) -> list[Manager]:
        return [
            other
            for other in self._state.managers.values()
            if other is not manager and other.takes_work
        ]

    def _more_may_come(self) -> bool:
        """Whether blocks bring managers, now or when scaling goes on."""
        if self._allocating is None:
            return False
        policy = self._allocating.policy
        return policy.max_blocks > 0 and (policy.scale or policy.min_blocks > 0)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[-300:] if lines else ""

"""Which managers have room, the least loaded first. No event looks at all managers for that.

Managers that have changed are noted (`Manager.touch`), and looked at once, when somebody wants to
know. So what a task costs here does not grow with the number of managers.
"""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush

from fxhpc.interchange.held import Manager

_Known = tuple[bool, bool, bool, int, int, str]  # has room, idle, rich, credit, where it takes work
_NOTHING: _Known = (False, False, False, 0, 0, "")

#: Of several that would do, so many are compared.
COMPARED = 32


class Roster:
    """All managers, by what they have room for.

    Attributes:
        changed: managers to be looked at again.
        hosts: how many managers take work, by host.
        credit_tasks, credit_bytes: of all managers together.
        idle: those with a worker that has nothing to do.
    """

    def __init__(self, managers: dict[bytes, Manager]) -> None:
        self._managers = managers  # by connection
        self.changed: list[Manager] = []
        self.hosts: Counter[str] = Counter()
        self.credit_tasks = 0
        self.credit_bytes = 0
        self.idle: dict[Manager, None] = {}
        self._ready: dict[Manager, int] = {}  # with room; and the number of the entry that counts
        self._idle_ready = 0
        self._unsuspecting: dict[Manager, None] = {}  # with room, and no suspect
        self._rich: dict[Manager, None] = {}  # with tasks that wait there for a worker
        self._known: dict[Manager, _Known] = {}
        self._heap: list[tuple[float, int, Manager]] = []
        self._entries = 0

    def refresh(self) -> None:
        """Look at those that have changed."""
        changed = self.changed
        if not changed:
            return
        for manager in changed:
            manager.is_changed = False
            self._look(manager)
        changed.clear()
        if len(self._heap) > 64 + 4 * len(self._ready):
            self._heap = [(one.load, number, one) for one, number in self._ready.items()]
            heapify(self._heap)

    @property
    def ready(self) -> int:
        """How many have room; if some of them have idle workers, how many these are."""
        return self._idle_ready or len(self._ready)

    def take(self) -> Manager | None:
        """The least loaded that has room. It is not found again until it was touched."""
        while self._heap:
            _, number, manager = heappop(self._heap)
            if self._ready.get(manager) == number:
                self._drop_ready(manager, self._known[manager][1])
                return manager
        return None

    def without_suspect(self) -> list[Manager]:
        """Some that have room and no suspect, the least loaded first."""
        some = [one for one, _ in zip(self._unsuspecting, range(COMPARED), strict=False)]
        some.sort(key=lambda manager: manager.load)
        return some

    def richest(self) -> Manager | None:
        """One with many tasks that wait for its workers; None: nobody has any."""
        some = [one for one, _ in zip(self._rich, range(COMPARED), strict=False)]
        return max(some, key=lambda manager: manager.held_tasks - manager.slots, default=None)

    def others_than(self, hosts: frozenset[str]) -> bool:
        """Whether a manager on another host takes work."""
        return any(
            host not in hosts for host, _ in zip(self.hosts, range(len(hosts) + 1), strict=False)
        )

    def _look(self, manager: Manager) -> None:
        before = self._known.pop(manager, _NOTHING)
        free = 0
        if self._managers.get(manager.peer) is not manager:
            now = _NOTHING
        else:
            takes, free = manager.takes_work, manager.free
            now = (
                _is_worth_a_message(manager, free),
                manager.held_tasks < manager.slots and takes and not manager.is_reserved,
                manager.held_tasks > manager.slots
                and not manager.asked_back
                and takes
                and not manager.is_emptied,
                0 if manager.draining else manager.credit_tasks,
                0 if manager.draining else manager.credit_bytes,
                manager.host or manager.name if takes else "",
            )
            self._known[manager] = now
        if now[5] != before[5]:
            self._count_host(before[5], -1)
            self._count_host(now[5], 1)
        self.credit_tasks += now[3] - before[3]
        self.credit_bytes += now[4] - before[4]
        _put(self.idle, manager, now[1])
        _put(self._rich, manager, now[2])
        _put(self._unsuspecting, manager, free > 0 and manager.suspect is None)
        if manager in self._ready:
            self._drop_ready(manager, before[1])
        if now[0]:
            self._entries += 1
            self._ready[manager] = self._entries
            self._idle_ready += now[1]
            heappush(self._heap, (manager.load, self._entries, manager))

    def _drop_ready(self, manager: Manager, was_idle: bool) -> None:
        del self._ready[manager]
        self._idle_ready -= was_idle

    def _count_host(self, host: str, change: int) -> None:
        if host:
            self.hosts[host] += change
            if not self.hosts[host]:
                del self.hosts[host]


def _is_worth_a_message(manager: Manager, free: int) -> bool:
    """Whether a manager with room for so many more is sent some now: if a worker has nothing to do,
    or when half of what it holds ahead has ended. Each one by itself would cost two messages.
    """
    if free <= 0:
        return False
    ahead = manager.held_tasks - manager.slots
    return ahead < 0 or free >= ahead


def _put(group: dict[Manager, None], manager: Manager, belongs: bool) -> None:
    if belongs:
        group[manager] = None
    else:
        group.pop(manager, None)

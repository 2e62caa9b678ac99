"""Which cores each worker of a node gets for itself: `cpu_affinity`, as Parsl's HTEX has it; and
which of these a lease of some of them gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fxhpc.errors import FxhpcError
from fxhpc.protocol.needs import UNIT, Lease

_STRATEGIES = ("none", "block", "block-reverse", "alternating")
_LIST = "list:"


class Unfit(FxhpcError):
    """This node cannot do what its endpoint's configuration asks for; another cannot either."""


def listed_cores(affinity: str) -> list[list[int]]:
    """The cores of `list:0-3:4,6`, a list for each worker; empty: the affinity is no list.

    Raises:
        Unfit: it is neither that nor the name of a strategy.
    """
    if affinity in ("", *_STRATEGIES):
        return []
    if not affinity.startswith(_LIST):
        raise Unfit(
            f"cpu_affinity is {affinity!r}; it is one of {', '.join(_STRATEGIES)}, or "
            f"list:CORES:CORES:... with the cores of each worker, as in list:0-3:4-7"
        )
    return [_cores(text, affinity) for text in affinity[len(_LIST) :].split(":")]


def core_sets(affinity: str, allowed: Sequence[int], workers: int) -> list[list[int]]:
    """For each worker the cores that it is bound to; empty: none is bound.

    Args:
        allowed: the numbers of the cores that this process may run on, ascending.

    With fewer cores than workers, `block` and the like bind nobody.

    Raises:
        Unfit: the list is wrong, too short, or names cores that this process was not given.
    """
    if listed := listed_cores(affinity):
        return _checked(listed, affinity, allowed, workers)
    each = len(allowed) // workers
    if affinity in ("", "none") or each == 0:
        return []
    if affinity == "alternating":
        return [list(allowed[worker::workers]) for worker in range(workers)]
    order = range(workers) if affinity == "block" else reversed(range(workers))
    return [list(allowed[place * each : (place + 1) * each]) for place in order]


def seats(claims: Sequence[int], allowed: Sequence[int]) -> list[dict[int, int]]:
    """Cores for each cell, and thousandths of them, end to end; empty: there are not enough.

    Args:
        claims: thousandths of cores that each cell has.
        allowed: the numbers of the cores that there are, ascending.
    """
    if sum(claims) > len(allowed) * UNIT:
        return []
    found: list[dict[int, int]] = []
    begin = 0
    for claim in claims:
        end, seat = begin + claim, dict[int, int]()
        while begin < end:
            part = min(end, (begin // UNIT + 1) * UNIT) - begin
            seat[allowed[begin // UNIT]] = part
            begin += part
        found.append(seat)
    return found


class Seats:
    """Which of the cores of their cells those have who have leases.

    Args:
        cells: the cores of each cell, and thousandths of them; if there are none, those who have
            leases there are bound to none.
    """

    def __init__(self, cells: Sequence[Mapping[int, int]]) -> None:
        self._left = [dict(seat) for seat in cells]
        self._taken: dict[int, list[tuple[int, int, int]]] = {}  # cell, core, part of it

    def take(self, worker: int, lease: Lease) -> list[int]:
        """The cores of a lease, ascending: whole ones, and of one that others use too the rest."""
        taken = self._taken[worker] = []
        cores: set[int] = set()
        for cell, part in lease.cores:
            left = self._left[cell]
            while part > 0 and any(left.values()):
                # A whole one; else the one that has the least left and yet enough; else the most.
                wanted = min(part, UNIT)
                core = min(
                    (core for core in left if left[core]),
                    key=lambda core: (left[core] < wanted, abs(left[core] - wanted), core),
                )
                used = min(wanted, left[core])
                left[core] -= used
                part -= used
                taken.append((cell, core, used))
                cores.add(core)
            if part > 0:  # a worker that was given up has some of them still
                cores.update(left)
        return sorted(cores)

    def give_back(self, worker: int) -> None:
        """A worker is gone."""
        for cell, core, used in self._taken.pop(worker, []):
            self._left[cell][core] += used


def _checked(
    listed: list[list[int]], affinity: str, allowed: Sequence[int], workers: int
) -> list[list[int]]:
    if len(listed) < workers:
        raise Unfit(f"cpu_affinity {affinity!r} names cores for {len(listed)} of {workers} workers")
    if missing := sorted({core for cores in listed for core in cores} - set(allowed)):
        raise Unfit(
            f"cpu_affinity {affinity!r} names the cores {_told(missing)}, and this job may use "
            f"{_told(allowed)}: a job that does not get whole nodes is better served by `block`"
        )
    return listed[:workers]


def _cores(text: str, affinity: str) -> list[int]:
    cores: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise Unfit(f"cpu_affinity {affinity!r}: {part!r} is neither a core nor cores as 4-7")
        cores += range(int(first), int(last or first) + 1)
    if not cores:
        raise Unfit(f"cpu_affinity {affinity!r}: {text!r} names no core")
    return cores


def _told(cores: Sequence[int]) -> str:
    shown = ",".join(map(str, cores[:16]))
    return shown if len(cores) <= 16 else f"{shown},..."

"""Marks that tasks leave in files: what ran, how often, and who lived meanwhile.

`marked` is the task; `read` and `account` tell what became of many. Each task has a file of its
own, and every mark is one short write at its end: marks of two runs do not mix.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from fxhpc import hosts
from fxhpc.testing.victims import parent_of

if TYPE_CHECKING:
    from fxhpc.testing.chaos import Hit

#: Seconds that a worker may take to die after its manager, as promised; see docs/reliability.md.
_DYING_S = 1.0


def marked(directory: str, index: int, seconds: float = 0.0) -> tuple[int, str]:
    """A task that sleeps, and marks its begin and its end; returns its index and its run's name.

    If another run of it has begun, has not ended, and its process lives, that is marked too, with
    the seconds until it was gone.
    """
    path = os.path.join(directory, str(index))
    me, now = os.getpid(), time.monotonic()
    run = f"{me}-{hosts.start_time(me):.2f}-{time.monotonic_ns()}"
    seed = os.getppid()
    manager = parent_of(seed)
    _mark(path, f"begin {run} {now:.6f} {me} {seed} {manager} {parent_of(manager)}")
    for other in _open_runs(path, run):
        pid, started = int(other.split("-")[0]), float(other.split("-")[1])
        if pid == me or not hosts.is_alive(pid, started):
            continue
        until = time.monotonic() + _DYING_S
        while hosts.is_alive(pid, started) and time.monotonic() < until:
            time.sleep(0.001)  # the figure is how long it lived
        is_gone = not hosts.is_alive(pid, started)
        _mark(path, f"beside {run} {time.monotonic() - now:.6f} {other} {int(is_gone)}")
    time.sleep(seconds)
    _mark(path, f"end {run} {time.monotonic():.6f}")
    return index, run


@dataclass
class Run:
    """One run of a task.

    Attributes:
        name: what its value has too.
        began, ended: of `time.monotonic()`; `ended` is 0 if it never did.
        chain: the pids of its worker, seed and manager, and of what had started that (0: unknown).
        beside: seconds for which another run of the task lived on after this one had begun; and
            whether it then was gone.
    """

    name: str
    began: float
    chain: tuple[int, ...]
    ended: float = 0.0
    beside: list[tuple[float, bool]] = field(default_factory=list)


def read(directory: str | os.PathLike[str]) -> dict[int, list[Run]]:
    """The runs of every task that has begun, in the order in which they began."""
    found: dict[int, list[Run]] = {}
    for path in Path(directory).iterdir():
        runs: dict[str, Run] = {}
        for line in path.read_text().splitlines():
            kind, name, *rest = line.split()
            if kind == "begin":
                runs[name] = Run(name, float(rest[0]), tuple(map(int, rest[1:])))
            elif kind == "end":
                runs[name].ended = float(rest[0])
            else:
                runs[name].beside.append((float(rest[0]), rest[2] == "1"))
        found[int(path.name)] = sorted(runs.values(), key=lambda run: run.began)
    return found


@dataclass
class Account:
    """What became of a workload's tasks.

    Attributes:
        submitted: those whose ids, or futures, were given out.
        ended: with a value, of a run that had marked its end.
        lost: ended as lost, with what was told.
        failed: ended in another error, or with a value that is not theirs.
        hung: had not ended when the patience was at its end.
        runs: how often tasks were begun.
        again: further runs of tasks whose earlier run, or its result, a hit had taken along.
        twice: tasks that ran while an earlier run of them lived.
        dying_s: for how long workers lived on that were dying with their manager while their task
            ran again already; not counted as `twice`.
        unexplained: further runs for which no hit tells why.
    """

    submitted: int = 0
    ended: int = 0
    lost: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    hung: list[int] = field(default_factory=list)
    runs: int = 0
    again: int = 0
    twice: list[str] = field(default_factory=list)
    dying_s: list[float] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)

    def is_clean(self) -> bool:
        """Whether everything ended once, with its value, and every further run had a cause."""
        wrong = (self.lost, self.failed, self.hung, self.twice, self.unexplained)
        return self.ended == self.submitted > 0 and not any(wrong)

    def tell(self) -> str:
        """All of it, in lines."""
        lines = [
            f"submitted {self.submitted}, ended {self.ended}, lost {len(self.lost)}, "
            f"failed {len(self.failed)}, hung {len(self.hung)}, run twice {len(self.twice)}, "
            f"run again {self.again}, unexplained {len(self.unexplained)}"
        ]
        parts: list[tuple[str, Iterable[object]]] = [
            ("lost", self.lost),
            ("failed", self.failed),
            ("hung", self.hung),
            ("twice", self.twice),
            ("unexplained", self.unexplained),
        ]
        for name, found in parts:
            lines += [f"{name}: {one}" for one in list(found)[:10]]
        return "\n".join(lines)


def account(
    directory: str | os.PathLike[str],
    outcomes: Mapping[int, object],
    submitted: Iterable[int],
    story: Iterable[Hit],
) -> Account:
    """Compare what was submitted with what ended and what ran.

    Args:
        directory: where the marks are.
        outcomes: by index: the value, or the error as an exception. What is not there hangs.
        submitted: the indices that were submitted.
        story: of the chaos.
    """
    from fxhpc.errors import TaskLost

    found = Account()
    runs = read(directory)
    hits = [hit for hit in story if hit.is_deadly]
    for index in submitted:
        found.submitted += 1
        names = {run.name for run in runs.get(index, []) if run.ended}
        if index not in outcomes:
            found.hung.append(index)
            continue
        outcome = outcomes[index]
        if isinstance(outcome, TaskLost):
            found.lost.append(f"{index}: {outcome}")
        elif isinstance(outcome, (tuple, list)) and outcome[0] == index and outcome[1] in names:
            found.ended += 1
        else:
            found.failed.append(f"{index}: {outcome!r}; runs that have ended: {sorted(names)}")
    _name_managers(runs)
    for index, those in runs.items():
        found.runs += len(those)
        _look_at(found, index, those, hits)
    return found


def _name_managers(runs: dict[int, list[Run]]) -> None:
    """A task that began when its manager had just died does not know who that was, or under whom it
    was: the first of the same seed does.
    """
    managers: dict[int, tuple[int, ...]] = {}
    for run in sorted(itertools.chain.from_iterable(runs.values()), key=lambda run: run.began):
        if run.chain[3]:
            managers.setdefault(run.chain[1], run.chain[2:])
    for those in runs.values():
        for run in those:
            run.chain = (*run.chain[:2], *managers.get(run.chain[1], run.chain[2:]))


def _look_at(found: Account, index: int, runs: list[Run], hits: list[Hit]) -> None:
    """The further runs of one task."""
    for before, run in pairwise(runs):
        causes = [
            hit
            for hit in hits
            if _is_of(hit, before) and before.began - _DYING_S <= hit.clock <= run.began + _DYING_S
        ]
        story = f"task {index}: {_told(before)}; again {_told(run)}"
        if before.ended > run.began:
            found.twice.append(story)
        elif not causes:
            found.unexplained.append(story)
        else:
            found.again += 1
        for seconds, is_gone in run.beside:
            if is_gone and any(hit.pid in before.chain[:3] for hit in causes):
                found.dying_s.append(seconds)
            else:
                found.twice.append(f"{story}; lived beside it for {seconds:.3f} s")


def _is_of(hit: Hit, run: Run) -> bool:
    """Whether a hit was on one of those that a task ran under. What was the first task of its seed,
    and began when its manager had just died, cannot say who that was: any manager, then.
    """
    return hit.pid in run.chain or (not run.chain[3] and hit.kind == "manager")


def _told(run: Run) -> str:
    names = ("worker", "seed", "manager", "under")
    who = ", ".join(f"{name} {pid}" for name, pid in zip(names, run.chain, strict=False))
    end = f"to {run.ended:.3f}" if run.ended else "and did not end"
    return f"ran from {run.began:.3f} {end} ({who})"


def _open_runs(path: str, own: str) -> list[str]:
    """The runs that have begun and not ended, but one."""
    counts: Counter[str] = Counter()
    with open(path) as file:
        for line in file:
            kind, name = line.split()[:2]
            counts[name] += {"begin": 1, "end": -1}.get(kind, 0)
    return [name for name, count in counts.items() if count > 0 and name != own]


def _mark(path: str, line: str) -> None:
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)

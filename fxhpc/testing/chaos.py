"""Random kills of fxhpc's processes while a workload runs: seeded, counted, with a story.

    with chaos(client, kill={"worker", "manager", "forwarder"}, every_s=2.0, seed=7) as c:
        ...  # any work of that client, or of its home
    assert c.counts["worker"]

Only processes that belong to what was named are hit: see `fxhpc.testing.victims`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from fxhpc.testing import chaos_arguments as check
from fxhpc.testing.victims import KINDS, Process, Victims, client

#: What is killed if nothing else is said: nobody starts a supervisor again, nor a client.
USUAL = frozenset(KINDS) - {"supervisor"}

#: SIGTERM asks an interchange, or a supervisor, to stop the endpoint: no fault, but an order.
_TERMINATE = frozenset({"worker", "seed", "manager", "provisioner", "forwarder", "client"})


@dataclass(frozen=True)
class Hit:
    """One thing that was done to one process.

    Attributes:
        at_s: seconds since the chaos began.
        kind: of the process, as in its title; empty if nobody was there.
        pid: its number; 0 if nobody was there.
        how: "SIGKILL", "SIGTERM", or "SIGSTOP for 0.8 s"; empty if nobody was there.
        clock: `time.monotonic()` when the signal had been sent.
    """

    at_s: float
    kind: str
    pid: int
    how: str
    clock: float = 0.0

    @property
    def is_deadly(self) -> bool:
        """Whether the process was to end by it."""
        return bool(self.pid) and not self.how.startswith("SIGSTOP")

    def __str__(self) -> str:
        what = f"{self.kind} {self.pid}: {self.how}" if self.pid else "nobody was there"
        return f"{self.at_s:8.3f} s  {what}"


class Chaos:
    """Random kills while a workload runs: a context manager, usually made by its name `chaos`.

    Each hit picks one of the kinds of which there is somebody at that moment, and one of these.

    Args:
        where: a home's directory, a FuncXClient, or an Executor. What this process has started
            belongs to it in any case, so that nothing is needed for an embedded Executor.
        kill: which kinds of processes; "client" hits those in `clients` alone.
        every_s: seconds between two kills on average; their intervals are exponential.
        seed: of all draws; a random one, told with the story, if there is none.
        clients: pids of other processes that use the home.
        stop_s: the shortest and the longest time in seconds that a stopped process stands still.
        shares: of the hits that are SIGSTOP and later SIGCONT, and that are SIGTERM (never for an
            interchange, which would take it for an order). The rest is SIGKILL.

    Attributes:
        seed: what all draws come from.
        story: every hit, in order.
        clients: pids of processes that "client" in `kill` may hit; what they have started belongs
            to the workload in any case. May be changed at any time.

    Raises:
        TypeError, ValueError: an argument cannot be meant so.
    """

    def __init__(
        self,
        where: Any = None,
        kill: Collection[str] = USUAL,
        every_s: float = 2.0,
        seed: int | None = None,
        *,
        clients: Iterable[int] = (),
        stop_s: tuple[float, float] = (0.1, 2.0),
        shares: tuple[float, float] = (0.1, 0.1),
    ) -> None:
        self._kill = check.kinds(kill)
        self._every_s = check.interval(every_s)
        self._stop_s = check.stops(stop_s)
        self._shares = check.shares(shares)
        self.clients = check.pids(clients)
        self.seed = check.seed(seed)
        self._victims = Victims(home_of(where))
        self.story: list[Hit] = []
        self._random = random.Random(self.seed)
        self._over = threading.Event()
        self._stopped: list[tuple[float, Process]] = []  # when to let each go on
        self._thread: threading.Thread | None = None
        self._began = time.monotonic()
        self._failure = ""

    def __enter__(self) -> Chaos:
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="fxhpc-chaos", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.stop()
        if error is not None:
            print(self.tell(), file=sys.stderr)

    @property
    def counts(self) -> Counter[str]:
        """How many processes of each kind were hit."""
        return Counter(hit.kind for hit in self.story if hit.pid)

    @property
    def deaths(self) -> Counter[str]:
        """How many of each kind were to end by it."""
        return Counter(hit.kind for hit in self.story if hit.is_deadly)

    @property
    def misses(self) -> int:
        """How often it was time for a hit, and nobody was there."""
        return sum(not hit.pid for hit in self.story)

    def stop(self) -> None:
        """No more kills; what was stopped goes on. The workload may then come to its end.

        Raises:
            RuntimeError: the chaos itself has failed.
        """
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure:
            raise RuntimeError(f"the chaos ended before its time: {self._failure}")

    def tell(self) -> str:
        """The story: what it takes to have the same draws again, counts, and every hit."""
        kill = "{" + ", ".join(map(repr, self._kill)) + "}"
        signals = Counter(hit.how.split()[0] for hit in self.story if hit.pid)
        first = f"chaos: seed={self.seed}, every_s={self._every_s}, kill={kill}"
        second = f"hit: {_counted(self.counts)}"
        if signals:
            second += f" ({_counted(signals)})"
        if self.misses:
            second += f"; {self.misses} times nobody was there"
        return "\n".join([first, second, *map(str, self.story)])

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            at = time.monotonic() + self._random.expovariate(1 / self._every_s)
            while not self._over.wait(max(0.0, self._next(at) - time.monotonic())):
                self._let_go_on(time.monotonic())
                if time.monotonic() >= at:
                    self._hit()
                    at += self._random.expovariate(1 / self._every_s)
        except Exception as error:  # told by `stop`: a workload without kills proves nothing
            self._failure = f"{type(error).__name__}: {error}"
        finally:
            self._let_go_on(float("inf"))

    def _next(self, at: float) -> float:
        return min([at, *(when for when, _ in self._stopped)])

    def _hit(self) -> None:
        # Always as many draws, whoever is there: so that a seed tells the same story.
        among, which, how, length = (self._random.random() for _ in range(4))
        at, found = time.monotonic(), self._find()
        while found:
            victim = _choose(found, among, which)
            number = self._signal(victim.kind, how)
            if victim.send(number):
                break
            found.remove(victim)  # it has just ended
        else:
            self.story.append(Hit(at - self._began, "", 0, ""))
            return
        words = number.name
        if number == signal.SIGSTOP:
            seconds = self._stop_s[0] + length * (self._stop_s[1] - self._stop_s[0])
            self._stopped.append((time.monotonic() + seconds, victim))
            words += f" for {seconds:.1f} s"
        hit = Hit(at - self._began, victim.kind, victim.pid, words, time.monotonic())
        self.story.append(hit)

    def _signal(self, kind: str, how: float) -> signal.Signals:
        stops, terminates = self._shares
        if how < stops:
            return signal.SIGSTOP
        is_term = how < stops + terminates and kind in _TERMINATE
        return signal.SIGTERM if is_term else signal.SIGKILL

    def _find(self) -> list[Process]:
        """All that may be hit now."""
        self._victims.roots = {os.getpid(), *self.clients}
        found = self._victims.find(self._kill)
        if "client" in self._kill:
            for pid in sorted(self.clients):
                with contextlib.suppress(ProcessLookupError):
                    found.append(client(pid))
        return found

    def _let_go_on(self, now: float) -> None:
        for when, victim in list(self._stopped):
            if when <= now:
                self._stopped.remove((when, victim))
                victim.send(signal.SIGCONT)


#: As it is used: `with chaos(...) as c`.
chaos = Chaos


def home_of(where: Any) -> str | None:
    """The home of a directory, a client or an executor; None where there is none.

    Raises:
        TypeError, ValueError: it is none of these, or a file.
    """
    if where is None:
        return None
    if isinstance(where, str | os.PathLike):
        path = os.fspath(where)
        if not path or (os.path.exists(path) and not os.path.isdir(path)):
            raise ValueError(f"where={path!r}: this is not the directory of a home")
        return path
    for name in ("path", "_home"):
        if hasattr(where, name):
            found = getattr(where, name)
            return None if found is None else os.fspath(found)
    raise TypeError(
        f"where={where!r}: it is a home's directory, a FuncXClient or an Executor of one, or None "
        f"for what this process has started"
    )


def _choose(found: list[Process], among: float, which: float) -> Process:
    """One of these by two draws from 0 to 1: the kind first, so that many workers are no shield."""
    kinds = sorted({process.kind for process in found})
    kind = kinds[int(among * len(kinds))]
    those = [process for process in found if process.kind == kind]
    return those[int(which * len(those))]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing"

"""Random kills of fxhpc's processes while a workload runs: seeded, counted, with a story.

    with chaos(client, kill={"worker", "manager", "forwarder"}, every_s=2.0, seed=7) as c:
        ...  # any work of that client, or of its home
    assert c.counts["worker"]

Only processes that belong to what was named are hit: see `fxhpc.testing.victims`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

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
        kind: of the process, as in its title.
        pid: its number; 0 if there was none of this kind to hit.
        how: "SIGKILL", "SIGTERM", or "SIGSTOP for 0.8 s".
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
        whom = f"{self.kind} {self.pid}" if self.pid else f"no {self.kind} was there"
        return (
            f"{self.at_s:8.3f} s  {whom}: {self.how}" if self.pid else f"{self.at_s:8.3f} s  {whom}"
        )


class Chaos:
    """Kills at random until it is left; see `chaos`.

    Attributes:
        seed: what all draws come from.
        story: every hit, in order.
        clients: pids of processes that "client" in `kill` may hit; what they have started belongs
            to the workload in any case. May be added to at any time.
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
        unknown = set(kill) - set(KINDS) - {"client"}
        if unknown:
            known = ", ".join((*KINDS, "client"))
            raise ValueError(f"kill: there is no {', '.join(sorted(unknown))}; there are {known}")
        if every_s <= 0:
            raise ValueError(f"every_s must be more than 0 seconds, not {every_s}")
        self.seed = random.SystemRandom().randrange(10**6) if seed is None else seed
        self.clients = set(clients)
        self.story: list[Hit] = []
        self._kill = tuple(sorted(kill))
        self._every_s = every_s
        self._stop_s = stop_s
        self._shares = shares
        self._victims = Victims(home_of(where))
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        """The story, with what it takes to have the same draws again."""
        counts = ", ".join(f"{kind} {n}" for kind, n in sorted(self.counts.items())) or "nothing"
        kill = "{" + ", ".join(map(repr, self._kill)) + "}"
        first = f"chaos: seed={self.seed}, every_s={self._every_s}, kill={kill}; hit: {counts}"
        return "\n".join([first, *map(str, self.story)])

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
        # Always the same draws, whoever is there: so that a seed tells the same story.
        kind = self._random.choice(self._kill)
        which, how, length = self._random.random(), self._random.random(), self._random.random()
        found = self._find(kind)
        now = time.monotonic()
        victim = found[int(which * len(found))] if found else None
        number, words = signal.SIGKILL, "SIGKILL"
        stops, terminates = self._shares
        if how < stops:
            seconds = self._stop_s[0] + length * (self._stop_s[1] - self._stop_s[0])
            number, words = signal.SIGSTOP, f"SIGSTOP for {seconds:.1f} s"
        elif how < stops + terminates and kind in _TERMINATE:
            number, words = signal.SIGTERM, "SIGTERM"
        if victim is None or not victim.send(number):
            self.story.append(Hit(now - self._began, kind, 0, words))
            return
        if number == signal.SIGSTOP:
            self._stopped.append((now + seconds, victim))
        hit = Hit(now - self._began, kind, victim.pid, words, time.monotonic())
        self.story.append(hit)

    def _find(self, kind: str) -> list[Process]:
        if kind == "client":
            return [client(pid) for pid in sorted(self.clients) if _is_there(pid)]
        self._victims.roots = {os.getpid(), *self.clients}
        return self._victims.find([kind])

    def _let_go_on(self, now: float) -> None:
        for when, victim in list(self._stopped):
            if when <= now:
                self._stopped.remove((when, victim))
                victim.send(signal.SIGCONT)


def chaos(
    where: Any = None,
    kill: Collection[str] = USUAL,
    every_s: float = 2.0,
    seed: int | None = None,
    *,
    clients: Iterable[int] = (),
    stop_s: tuple[float, float] = (0.1, 2.0),
    shares: tuple[float, float] = (0.1, 0.1),
) -> Chaos:
    """Random kills while a workload runs: a context manager.

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

    Raises:
        ValueError: there is no such kind, or `every_s` is not more than 0.
    """
    return Chaos(where, kill, every_s, seed, clients=clients, stop_s=stop_s, shares=shares)


def home_of(where: Any) -> str | None:
    """The home of a directory, a client or an executor; None where there is none."""
    if where is None or isinstance(where, str):
        return where
    found = where if isinstance(where, os.PathLike) else getattr(where, "path", None)
    if found is None:
        found = getattr(where, "_home", None)
    return None if found is None else os.fspath(found)


def _is_there(pid: int) -> bool:
    try:
        return bool(client(pid))
    except ProcessLookupError:
        return False

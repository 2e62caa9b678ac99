"""What a chaos may be told: nonsense is refused before anything is hit."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable
from typing import Any

from fxhpc.testing.victims import KINDS


def kinds(kill: Collection[str]) -> tuple[str, ...]:
    """Which kinds of processes, sorted.

    Raises:
        TypeError: it is no collection of names.
        ValueError: it is empty, or there is no such kind.
    """
    known = ", ".join((*KINDS, "client"))
    if isinstance(kill, str | bytes) or not isinstance(kill, Collection):
        raise TypeError(f"kill={kill!r}: it is a set of kinds, such as {{'worker'}}; of {known}")
    if not kill:
        raise ValueError(f"kill is empty: name some of {known}; without chaos, use no chaos")
    unknown = sorted(map(str, set(kill) - {*KINDS, "client"}))
    if unknown:
        raise ValueError(f"kill: there is no {', '.join(unknown)}; there are {known}")
    return tuple(sorted(set(kill)))


def interval(every_s: float) -> float:
    """Seconds between two kills.

    Raises:
        TypeError, ValueError: it is no number, or not more than 0.
    """
    if _number("every_s", every_s) <= 0:
        raise ValueError(f"every_s must be more than 0 seconds, not {every_s!r}")
    return float(every_s)


def stops(stop_s: tuple[float, float]) -> tuple[float, float]:
    """How long what is stopped stands still: at least and at most.

    Raises:
        TypeError, ValueError: it is no pair of seconds in this order.
    """
    shortest, longest = _pair("stop_s", stop_s, "the shortest and the longest time in seconds")
    if not 0 <= shortest <= longest:
        raise ValueError(
            f"stop_s={stop_s!r}: the shortest and the longest time, in this order, of 0 s or more"
        )
    return shortest, longest


def shares(given: tuple[float, float]) -> tuple[float, float]:
    """How much of the hits is SIGSTOP, and SIGTERM.

    Raises:
        TypeError, ValueError: these are no parts of a whole.
    """
    stop, terminate = _pair("shares", given, "the parts of the hits that are SIGSTOP and SIGTERM")
    if stop < 0 or terminate < 0 or stop + terminate > 1:
        raise ValueError(
            f"shares={given!r}: parts of the hits, each from 0 to 1 and not more than 1 together"
        )
    return stop, terminate


def pids(clients: Iterable[int]) -> set[int]:
    """Processes that are clients.

    Raises:
        TypeError, ValueError: these are no pids.
    """
    if isinstance(clients, str | bytes) or not isinstance(clients, Iterable):
        raise TypeError(f"clients={clients!r}: pids of processes, for example [process.pid]")
    found = set(clients)
    for pid in found:
        if not isinstance(pid, int) or isinstance(pid, bool):
            raise TypeError(f"clients: {pid!r} is no pid; give process.pid")
        if pid <= 0:  # signals to these would hit a whole group
            raise ValueError(f"clients: {pid} is no pid of a process")
    return found


def seed(given: int | None) -> int:
    """The seed of all draws; a random one if there is none.

    Raises:
        TypeError: it is no whole number.
    """
    if given is None:
        return random.SystemRandom().randrange(10**6)
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"seed={given!r}: it is a whole number, or None for a random one")
    return given


def _pair(name: str, given: Any, what: str) -> tuple[float, float]:
    if isinstance(given, str | bytes) or not isinstance(given, Collection) or len(given) != 2:
        raise TypeError(f"{name}={given!r}: it is two numbers, {what}")
    first, second = given
    return _number(name, first), _number(name, second)


def _number(name: str, given: Any) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise TypeError(f"{name}: {given!r} is no number")
    if not math.isfinite(given):
        raise ValueError(f"{name}: {given!r} is no finite number")
    return float(given)

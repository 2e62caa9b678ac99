"""How many of some tasks have ended: of futures, of ids, of a group."""

from __future__ import annotations

import concurrent.futures as cf
import threading
from collections.abc import Iterable
from typing import Any, Protocol

from fxhpc.client.futures.ending import has_failed
from fxhpc.client.results import Results
from fxhpc.client.selection import Selection
from fxhpc.client.shown.progress_lines import PENDING, Counts
from fxhpc.client.task_group import TaskGroup
from fxhpc.protocol import states

#: A look at many ids takes time of the forwarder: so many seconds lie between two for each id.
_PER_ID_S = 5e-6


class Source(Protocol):
    """Tasks that are watched."""

    def look(self, wait_s: float) -> Counts:
        """How many are in which state when all have ended, or after so many seconds."""


class Futures:
    """Futures of any executor. For these it is what `concurrent.futures` calls a waiter."""

    def __init__(self, futures: Iterable[cf.Future[Any]]) -> None:
        self._condition = threading.Condition()
        self._counts = {states.SUCCESS: 0, states.FAILED: 0, states.CANCELLED: 0}
        self._waiting: dict[Any, None] = dict.fromkeys(futures)
        self._total = len(self._waiting)
        for future in list(self._waiting):
            with future._condition:
                is_over = future.done()
                if not is_over:
                    future._waiters.append(self)
            if is_over:
                self._note(future, _state_of(future))

    def look(self, wait_s: float) -> Counts:
        """How many have ended, and how, when all have or after so many seconds."""
        with self._condition:
            self._condition.wait_for(lambda: not self._waiting, wait_s)
            return {**self._counts, PENDING: len(self._waiting)}

    def forget(self) -> None:
        """Nobody looks any more."""
        for future in list(self._waiting):
            with future._condition:
                if self in future._waiters:
                    future._waiters.remove(self)

    # What futures call: in any thread, with their condition held.

    def add_result(self, future: cf.Future[Any]) -> None:
        """A future has ended with a value."""
        self._note(future, states.SUCCESS)

    def add_exception(self, future: cf.Future[Any]) -> None:
        """A future has ended without one."""
        self._note(future, states.FAILED)

    def add_cancelled(self, future: cf.Future[Any]) -> None:
        """A future was cancelled."""
        self._note(future, states.CANCELLED)

    def _note(self, future: cf.Future[Any], state: str) -> None:
        with self._condition:
            if future in self._waiting:
                del self._waiting[future]
                self._counts[state] += 1
                if not self._waiting:
                    self._condition.notify_all()


def _state_of(future: cf.Future[Any]) -> str:
    if future.cancelled():
        return states.CANCELLED
    return states.FAILED if has_failed(future) else states.SUCCESS


class Ids:
    """Tasks by their ids.

    Args:
        results: of the client that asks.
    """

    def __init__(self, results: Results, selection: Selection) -> None:
        self._results = results
        self._places = selection.piece(range(len(selection)))
        self._rest = selection.by_stream()
        self._counts: dict[str, int] = {PENDING: len(selection)}

    def look(self, wait_s: float) -> Counts:
        """How many have ended, and how, when all have or after so many seconds."""
        count = sum(map(len, self._rest.values()))
        wait_s = max(wait_s, count * _PER_ID_S) if wait_s else 0.0
        reader = self._results.reader
        self._rest, found = reader.pending(self._rest, wait_s=wait_s, need=count)
        for stream, known in found.items():
            for index, state in known.items():
                named = len(self._places[stream].pop(index, ()))
                self._counts[state.status] = self._counts.get(state.status, 0) + named
                self._counts[PENDING] -= named
        self._results._check_local(self._rest)
        return self._counts


class Group:
    """The tasks of a group, also those that are submitted meanwhile."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group

    def look(self, wait_s: float) -> Counts:
        """How many are in which state when all have ended, or after so many seconds."""
        if wait_s:
            self._group.wait(wait_s)
        return self._group.counts()

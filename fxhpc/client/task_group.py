"""The tasks of one group, in whatever process they were submitted: ids, counts, results."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fxhpc import errors, ids
from fxhpc.client import calls, outcomes, tasks
from fxhpc.client.declared import arguments
from fxhpc.client.futures.completions import Completions
from fxhpc.client.results import Results
from fxhpc.client.selection import Selection
from fxhpc.client.sending.chunk_sizes import ChunkSizes
from fxhpc.client.task_group_ended import GroupEnded
from fxhpc.protocol import service
from fxhpc.protocol.service import GroupStream

Ask = Callable[[Any], Any]

#: Results that are asked for at a time.
_PIECE = 2000

#: While tasks are pending, the forwarder is asked when one of so many of them has ended; of a
#: larger group also after so many seconds, since another one may have ended.
_SAMPLE, _OTHERS_S = 500, 0.5

#: Seconds in which others may end that are told of together; and how much longer that is at least
#: than it takes to ask for the group, which may be of very many batches.
_COMPANY_S, _COMPANY_TIMES = 0.05, 10


def streams_of(ask: Ask, group: str) -> Iterator[GroupStream]:
    """The streams of a group as they are now.

    Raises:
        TaskGroupNotFound: nobody knows it.
    """
    after = b""
    while True:
        answer: service.GroupState = ask(service.GroupTasks(0, group, after))
        yield from answer.tasks
        if not answer.more:
            return
        after = answer.tasks[-1].summary.stream


class TaskGroup:
    """The tasks of a group, whoever submitted them, as they are when something is asked.

    Args:
        group: its id.
        ask: makes a call, and returns its answer.
        results: waits for tasks, in the name of a client.
        cancel: see `cancel`.
        is_own: it is that client's own, in which nothing may have been submitted yet.
        home: where its tasks are stored, if that is a directory of this host.

    Attributes:
        task_group_id: its id, a UUID string.
    """

    def __init__(
        self,
        group: str,
        ask: Ask,
        results: Callable[[], Results],
        cancel: Callable[[bool], dict[str, bool]],
        is_own: bool,
        home: Path | None = None,
    ) -> None:
        self.task_group_id = group
        self._ask = ask
        self._results = results
        self._cancel = cancel
        self._is_own = is_own
        self._home = home

    def __repr__(self) -> str:
        return f"<TaskGroup {self.task_group_id}>"

    def _repr_html_(self) -> str:
        from fxhpc.client.shown import notebooks

        return notebooks.of_group(self.task_group_id)

    @property
    def task_ids(self) -> list[str]:
        """The ids of its tasks by batch, those of the calls of chunks among them.

        Raises:
            TaskGroupNotFound: nobody knows it.
        """
        found: list[str] = []
        for part in sorted(self._streams(), key=lambda part: part.summary.created):
            found += task_ids_of(part)
        return found

    def __len__(self) -> int:
        return sum(
            part.count if sizes is None else sum(sizes[index] for index in range(part.count))
            for part in self._streams()
            for sizes in [_sizes(part)]
        )

    def __bool__(self) -> bool:
        return True

    def counts(self) -> dict[str, int]:
        """How many of its tasks are in which state; the calls of a chunk are in that of the chunk.

        Raises:
            TaskGroupNotFound: nobody knows it.
        """
        found: dict[str, int] = {}
        for part in self._streams():
            for state, count in part.summary.counts.items():
                found[state] = found.get(state, 0) + count
        return found

    def results(self, timeout: float | None = None) -> Completions[tuple[str, dict[str, Any]]]:
        """Its results in the order in which they come, for `for` and for `async for`.

        Each is an id and what `get_batch_result` tells of it: `["result"]`, or `["exception"]`.
        What is submitted in the group meanwhile comes too, also while the last one is looked at.
        It ends when all have ended.

        Raises:
            UsageError: timeout is no number of seconds.
            TaskGroupNotFound: nobody knows it.

        Raises (the iterator does):
            TimeoutError: not all have ended within so many seconds.
        """
        deadline = tasks.deadline_of(arguments.timeout(timeout))
        first = self._streams()
        return Completions(
            self._read(GroupEnded(), first, deadline), lambda: self._pumped(first, deadline)
        )

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all its tasks have ended; whether they have.

        Raises:
            UsageError: timeout is no number of seconds.
            TaskGroupNotFound: nobody knows it.
        """
        deadline = tasks.deadline_of(arguments.timeout(timeout))
        try:
            for _ in self._ended(GroupEnded(), self._streams(), deadline):
                pass
        except cf.TimeoutError:
            return False
        return True

    def keep_for(self, days: float | None) -> None:
        """Keep its results for so many days after they have ended, or were last asked for; None: as
        long as all others.

        Raises:
            UsageError: this is no number of days, or the store is another process's or host's.
            HomeError: the home cannot be written.
        """
        from fxhpc.forwarder.home import Home
        from fxhpc.forwarder.limits import keep_group

        if self._home is None:
            raise errors.UsageError(
                "keep_for: the store is that of this process alone, or of a home on another host; "
                "there, say: fxhpc store keep GROUP --days N"
            )
        kept_s = None if days is None else 86400.0 * arguments.seconds("days", days, unit="days")
        keep_group(Home(self._home), self.task_group_id, kept_s)

    def cancel(self, interrupt: bool = False) -> dict[str, bool]:
        """Cancel its tasks that have not begun; with `interrupt`, end those that run. Returns, as
        `FuncXClient.cancel` does, of each whether it is cancelled.

        Raises:
            TaskGroupNotFound: nobody knows it.
        """
        return self._cancel(interrupt)

    # --- how it is read -------------------------------------------------------------------------

    def _streams(self) -> list[GroupStream]:
        try:
            return list(streams_of(self._ask, self.task_group_id))
        except errors.TaskGroupNotFound:
            if not self._is_own:
                raise
            return []  # nothing was submitted in it yet, which is no mistake

    async def _pumped(
        self, parts: list[GroupStream], deadline: float | None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """What a loop of asyncio reads. A thread reads ahead of it: when that has come to the end,
        and the loop too, something else may have been submitted meanwhile."""
        from fxhpc.client.futures.pumping import pumped  # asyncio takes time to import

        group, is_over = GroupEnded(), False
        while not is_over:
            is_over = True
            async with contextlib.aclosing(pumped(self._read(group, parts, deadline))) as told:
                async for one in told:
                    is_over = False
                    yield one
            parts = []

    def _read(
        self, group: GroupEnded, parts: list[GroupStream], deadline: float | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for known, ended in self._ended(group, parts, deadline):
            names = _names(ended, known)
            while piece := list(itertools.islice(names, _PIECE)):
                yield from self._tell(piece)

    def _tell(self, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What is told of tasks that have ended."""
        selection = Selection(names)
        for answer in self._results().reader.read(selection):
            for positions, state in answer:
                told_of = [selection.names[position] for position in positions]
                if selection.call(positions[0]) >= 0:
                    told = calls.task_dicts(state, selection.calls(positions), told_of)
                    yield from zip(told_of, told, strict=True)
                else:
                    yield told_of[0], outcomes.task_dict_in_batch(state, told_of[0])

    def _ended(
        self, group: GroupEnded, parts: list[GroupStream], deadline: float | None
    ) -> Iterator[tuple[list[GroupStream], dict[bytes, list[int]]]]:
        """The group as it is, and which of its tasks have ended since the step before.

        Args:
            group: what was told before.
            parts: the group as it was a moment ago, if anybody has asked.

        Raises:
            TimeoutError: not all have ended by the deadline (monotonic).
        """
        took = 0.0
        try:
            parts = parts or self._streams()
            while True:
                if ended := group.take(parts):
                    yield parts, ended
                if pending := group.pending:
                    left = tasks.left(deadline)
                    if left <= 0:
                        raise cf.TimeoutError(f"{pending} tasks of the group have not ended")
                    self._wait(group, pending, left, max(_COMPANY_S, took * _COMPANY_TIMES))
                elif not ended:
                    return
                # Also when all have ended: whoever took them may have submitted others meanwhile.
                begun = time.monotonic()
                parts = self._streams()
                took = time.monotonic() - begun
        except KeyboardInterrupt:
            self._results().interrupt(Selection(_names(group.first_pending(group.pending), parts)))
            raise

    def _wait(self, group: GroupEnded, pending: int, left: float, company_s: float) -> None:
        """Return when some more have ended, or after a while.

        Args:
            pending: how many have not ended.
            left: seconds at most.
            company_s: seconds for others to end, when one has.
        """
        results = self._results()
        sample = group.first_pending(_SAMPLE)
        wait_s = min(left, tasks.SLICE_S if pending <= _SAMPLE else _OTHERS_S)
        begun = time.monotonic()
        # This begins, too, what lies there for a `local` that is gone.
        deadline = begun + left
        try:
            rest, _ = results.reader.pending(sample, wait_s=wait_s, need=1, deadline=deadline)
        except TimeoutError:
            raise cf.TimeoutError(f"{pending} tasks have not ended: {tasks.NO_ANSWER}") from None
        results._check_local(rest)
        company_s = min(company_s, wait_s - (time.monotonic() - begun))
        if rest and company_s > 0:
            results.reader.pending(rest, wait_s=company_s, need=sum(map(len, rest.values())))


def task_ids_of(part: GroupStream) -> list[str]:
    """The ids of a stream's tasks, or of the calls of its chunks."""
    return list(_names({part.summary.stream: range(part.count)}, [part]))


def _sizes(part: GroupStream) -> ChunkSizes | None:
    """How many calls the tasks of a stream have; None: each is one."""
    stream = part.summary.stream
    return ChunkSizes(stream, part.summary.sizes) if ids.calls_of(stream) else None


def _calls(stream: bytes, index: int, sizes: ChunkSizes) -> list[str]:
    """The ids of a chunk's calls."""
    return [ids.task_id(stream, index, call) for call in range(sizes[index])]


def _names(tasks_of: Mapping[bytes, Sequence[int]], parts: list[GroupStream]) -> Iterator[str]:
    """The ids of tasks, those of the calls of chunks among them."""
    sizes_of = {part.summary.stream: _sizes(part) for part in parts}
    for stream, indices in tasks_of.items():
        sizes = sizes_of[stream]
        if sizes is None:
            yield from ids.task_ids(stream, indices)
            continue
        for index in indices:
            yield from _calls(stream, index, sizes)

"""Reading tasks back: states and outcomes of many tasks, and waiting for them."""

from __future__ import annotations

import concurrent.futures as cf
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fxhpc import errors, ids
from fxhpc.client.connection import Connection, Reply
from fxhpc.client.names import task_name
from fxhpc.protocol import service, states
from fxhpc.protocol.service import TaskState

#: Seconds that one question waits for its answer at the forwarder.
SLICE_S = 5.0

#: Tasks in one question for outcomes, and questions that are asked ahead of their answers.
_PIECE = 2000
_AHEAD = 3

#: How often at most progress of many tasks is asked for, in seconds.
_PROGRESS_S = 0.1


class Selection:
    """Tasks that somebody asks for, by the ids that were given, in that order.

    Args:
        task_ids: what was given.
        call: to which call, for an error's text.

    Raises:
        NotAList: it is one id, or nothing that has elements.
        InvalidUUID: one is not a UUID.
    """

    def __init__(self, task_ids: Iterable[Any], call: str = "get_batch_result") -> None:
        if isinstance(task_ids, str | bytes | uuid.UUID | dict) or not isinstance(
            task_ids, Iterable
        ):
            raise errors.NotAList(type(task_ids).__name__, call)
        self.names: list[str] = []
        self.places: list[tuple[bytes, int]] = []
        prefixes: dict[str, bytes] = {}  # most ids share theirs: they are taken apart by slicing
        for given in task_ids:
            text = given if type(given) is str else str(given)
            stream = prefixes.get(text[:28]) if len(text) == 36 else None
            if stream is None:
                stream, index = task_name(given)
                prefixes[text[:28]] = stream
            else:
                try:
                    index = int(text[28:], 16)
                except ValueError:
                    raise errors.InvalidUUID(repr(given)) from None
            self.names.append(text)
            self.places.append((stream, index))

    def add(self, parts: Iterable[service.StreamRanges]) -> None:
        """Add tasks, as messages name them, that are not among these yet."""
        known = set(self.places)
        for part in parts:
            for index in ids.from_ranges(part.ranges):
                if (part.stream, index) not in known:
                    self.names.append(ids.task_id(part.stream, index))
                    self.places.append((part.stream, index))

    def by_stream(self) -> dict[bytes, list[int]]:
        """The indices asked for, of each stream."""
        found: dict[bytes, list[int]] = {}
        for stream, index in self.places:
            found.setdefault(stream, []).append(index)
        return found

    def ranges(self) -> list[service.StreamRanges]:
        """The tasks as messages name them."""
        return to_ranges(self.by_stream())


def to_ranges(tasks: dict[bytes, list[int]]) -> list[service.StreamRanges]:
    """Tasks of some streams as messages name them."""
    return [
        service.StreamRanges(stream, ids.to_ranges(set(indices)))
        for stream, indices in tasks.items()
        if indices
    ]


def _pieces(asked: list[service.StreamRanges]) -> Iterator[list[service.StreamRanges]]:
    """The same tasks in questions of a limited size, so that one is answered while one is read."""
    question: list[service.StreamRanges] = []
    room = _PIECE
    for part in asked:
        ranges: list[int] = []
        for start, number in zip(part.ranges[::2], part.ranges[1::2], strict=True):
            first, count = start, number
            while count:
                size = min(count, room)
                ranges += (first, size)
                first, count, room = first + size, count - size, room - size
                if not room:
                    question.append(service.StreamRanges(part.stream, ranges))
                    yield question
                    question, ranges, room = [], [], _PIECE
        if ranges:
            question.append(service.StreamRanges(part.stream, ranges))
    if question:
        yield question


def _without(
    asked: list[service.StreamRanges], found: dict[bytes, dict[int, TaskState]]
) -> list[service.StreamRanges]:
    """What is still missing of a question's tasks."""
    return to_ranges(
        {
            part.stream: [i for i in ids.from_ranges(part.ranges) if i not in found[part.stream]]
            for part in asked
        }
    )


class Reader:
    """Asks a forwarder for tasks.

    Args:
        connection: to the forwarder.
        check: called with the streams of pending tasks between two questions; what it raises ends
            the wait.
    """

    def __init__(
        self, connection: Connection, check: Callable[[Iterable[bytes]], None] | None = None
    ) -> None:
        self._connection = connection
        self._check = check
        self.created: dict[bytes, float] = {}  # when streams of others were opened, wall clock
        self.summaries: dict[bytes, service.StreamSummary] = {}  # if details were asked for

    def fetch(
        self,
        tasks: dict[bytes, list[int]],
        *,
        wait_s: float = 0.0,
        need: int = 0,
        outcomes: bool = True,
        adopt: bool = True,
        details: bool = False,
    ) -> dict[bytes, dict[int, TaskState]]:
        """The states of tasks, when `need` of them have ended or after `wait_s` seconds."""
        found: dict[bytes, dict[int, TaskState]] = {stream: {} for stream in tasks}
        asked = to_ranges(tasks)
        questions = deque(_pieces(asked) if outcomes and not wait_s else [asked])
        replies: deque[tuple[list[service.StreamRanges], Reply]] = deque()
        while questions or replies:
            while questions and len(replies) < _AHEAD:
                asked = questions.popleft()
                question = service.Fetch(0, asked, wait_s, need, outcomes, adopt, details)
                replies.append((asked, self._connection.call(question)))
            asked, reply = replies.popleft()
            answer: service.States = reply.wait()
            for part in answer.streams:
                found[part.stream].update([(state.index, state) for state in part.states])
                if part.created:
                    self.created[part.stream] = part.created
                if part.summary is not None:
                    self.summaries[part.stream] = part.summary
            if answer.more and any(part.states for part in answer.streams):
                wait_s, need = 0.0, 0
                # In pieces: comparing all that is missing with each answer would cost the square.
                questions.extendleft(reversed(list(_pieces(_without(asked, found)))))
        return found

    def pending(
        self, tasks: dict[bytes, list[int]], *, wait_s: float = 0.0, need: int = 0
    ) -> tuple[dict[bytes, list[int]], dict[bytes, dict[int, TaskState]]]:
        """The tasks that have not ended, and the states of those that have."""
        found = self.fetch(tasks, wait_s=wait_s, need=need, outcomes=False)
        rest: dict[bytes, list[int]] = {}
        ended: dict[bytes, dict[int, TaskState]] = {}
        for stream, indices in tasks.items():
            known = found[stream]
            for index in indices:
                state = known.get(index)
                if state is None or state.status in states.PENDING:
                    rest.setdefault(stream, []).append(index)
                else:
                    ended.setdefault(stream, {})[index] = state
        return rest, ended

    def progress(
        self, tasks: dict[bytes, list[int]], deadline: float | None, *, in_steps: bool = True
    ) -> Iterator[dict[bytes, dict[int, TaskState]]]:
        """Those of the tasks that have ended since the last step, until all have.

        Ends early, with an empty step, at the deadline (monotonic). Whoever wants all or nothing
        spares the forwarder steps that tell of a part.
        """
        rest = {stream: list(dict.fromkeys(indices)) for stream, indices in tasks.items()}
        wait_s = 0.0
        while True:
            count = sum(map(len, rest.values()))
            # Each answer tells of every task asked for: with many of them, questions that wait
            # for one alone would cost the square of their number.
            need = max(1, count // 8) if in_steps else count
            rest, ended = self.pending(rest, wait_s=wait_s, need=need)
            if ended:
                yield ended
            if not rest:
                return
            if self._check is not None:
                self._check(rest)
            wait_s = SLICE_S
            if in_steps and count >= 16:
                wait_s = _PROGRESS_S * max(1.0, count / 10_000)
            if deadline is not None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    yield {}
                    return
                wait_s = min(wait_s, remaining)


def as_completed(reader: Reader, selection: Selection, timeout: float | None) -> Iterator[str]:
    """The ids as their tasks end.

    Raises:
        TimeoutError: not all have ended within so many seconds.
    """
    names = dict(zip(selection.places, selection.names, strict=True))
    deadline = None if timeout is None else time.monotonic() + timeout
    count = len(names)
    for ended in reader.progress(selection.by_stream(), deadline):
        if not ended:
            raise cf.TimeoutError(f"{len(names)} (of {count}) tasks have not ended")
        for stream, found in ended.items():
            for index in found:
                name = names.pop((stream, index), None)
                if name is not None:
                    yield name


def wait(
    reader: Reader, selection: Selection, timeout: float | None, return_when: str
) -> tuple[list[str], list[str]]:
    """The ids of tasks that have ended and of those that have not, each in the order given."""
    if return_when not in (cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION, cf.ALL_COMPLETED):
        raise ValueError(f"Invalid return condition: {return_when!r}")
    deadline = None if timeout is None else time.monotonic() + timeout
    done: set[tuple[bytes, int]] = set()
    in_steps = return_when != cf.ALL_COMPLETED
    for ended in reader.progress(selection.by_stream(), deadline, in_steps=in_steps):
        failed = False
        for stream, found in ended.items():
            done.update((stream, index) for index in found)
            failed = failed or any(s.status != states.SUCCESS for s in found.values())
        if return_when == cf.FIRST_COMPLETED and done:
            break
        if return_when == cf.FIRST_EXCEPTION and failed:
            break
    pairs = list(zip(selection.places, selection.names, strict=True))
    return (
        [name for place, name in pairs if place in done],
        [name for place, name in pairs if place not in done],
    )

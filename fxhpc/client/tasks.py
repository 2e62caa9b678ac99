"""Reading tasks back: states and outcomes of many tasks, and waiting for them."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from fxhpc import ids
from fxhpc.client.collector import MANY, without_collecting
from fxhpc.client.connection.connection import Connection, Reply
from fxhpc.client.selection import Piece, Selection, to_ranges
from fxhpc.protocol import service, states
from fxhpc.protocol.service import TaskState

#: Seconds that one question waits for its answer at the forwarder.
SLICE_S = 5.0

#: Seconds beyond a time limit after which an answer is given up that should have come: its home
#: cannot be reached, or hangs. Whoever named a limit does not sit and wait until that is certain.
ANSWER_S = 5.0

#: What is told of a task then.
NO_ANSWER = "its home gives no answer now: the connection is lost, perhaps, or the forwarder hangs"

#: Tasks in one question for outcomes, and questions that are asked ahead of their answers.
_PIECE = 2000
_AHEAD = 3

#: How often at most progress of many tasks is asked for, in seconds.
_PROGRESS_S = 0.1


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


def _pop_told(
    asked: dict[int, list[int]], told: list[TaskState]
) -> list[tuple[list[int], TaskState]]:
    """The positions of those that are told of, by their indices, and their states."""
    return [(asked.pop(state.index), state) for state in told if state.index in asked]


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
        ended: bool = False,
        deadline: float | None = None,
    ) -> dict[bytes, dict[int, TaskState]]:
        """The states of tasks, when `need` of them have ended or after `wait_s` seconds.

        Args:
            ended: of those alone that have ended, or that nobody knows.
            deadline: until when somebody waits (monotonic).

        Raises:
            TimeoutError: there is no answer by the deadline, nor soon after.
        """
        found: dict[bytes, dict[int, TaskState]] = {stream: {} for stream in tasks}
        asked = to_ranges(tasks)
        questions = deque(_pieces(asked) if outcomes and not wait_s else [asked])
        replies: deque[tuple[list[service.StreamRanges], Reply]] = deque()
        while questions or replies:
            while questions and len(replies) < _AHEAD:
                asked = questions.popleft()
                question = service.Fetch(0, asked, wait_s, need, outcomes, adopt, details, ended)
                replies.append((asked, self._connection.call(question)))
            asked, reply = replies.popleft()
            answer: service.States = reply.wait(_limit(deadline))
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

    def read(
        self,
        selection: Selection,
        deadline: float | None = None,
        *,
        outcomes: bool = True,
        adopt: bool = False,
    ) -> Iterator[list[tuple[list[int], TaskState]]]:
        """The states of many tasks, an answer after the other: positions in the selection, state.

        No more than a few answers are here at a time. Those that are not answered by the deadline,
        nor soon after, are told of as pending.

        Args:
            deadline: wait for each to end, until then (monotonic); None tells how it is now.
            adopt: have all begin at once that is to run here now, not what is asked for first.
        """
        order = selection.in_order()
        if adopt and len(order) > _AHEAD * _PIECE:
            self._connection.call(service.Fetch(0, selection.ranges(), outcomes=False))
        parts = selection.parts(order, _PIECE)
        piece_of, pop_told = selection.piece, _pop_told
        if len(order) > MANY:
            piece_of = functools.partial(without_collecting, selection.piece)
            pop_told = functools.partial(without_collecting, _pop_told)
        replies: deque[tuple[Piece, Reply]] = deque()
        while True:
            for positions in itertools.islice(parts, _AHEAD - len(replies)):
                piece = piece_of(positions)
                replies.append((piece, self._question(piece, deadline, outcomes)))
            if not replies:
                return
            piece, reply = replies.popleft()
            try:
                answer: service.States = reply.wait(_limit(deadline))
            except TimeoutError:
                pieces = itertools.chain([piece], (one for one, _ in replies), map(piece_of, parts))
                for piece in pieces:
                    yield from map(_unanswered, piece.values())
                return
            waits = deadline is not None and time.monotonic() < deadline
            any_pending = any_told = False
            for part in answer.streams:
                asked = piece.get(part.stream, {})
                told = part.states
                if waits:
                    told = [state for state in told if state.status not in states.PENDING]
                    any_pending = any_pending or len(told) < len(part.states)
                any_told = any_told or bool(told)
                yield pop_told(asked, told)
            rest = {stream: asked for stream, asked in piece.items() if asked}
            if any_pending and self._check is not None:
                self._check(rest)
            if rest and (waits or (answer.more and any_told)):
                replies.appendleft((rest, self._question(rest, deadline, outcomes)))

    def _question(self, piece: Piece, deadline: float | None, outcomes: bool) -> Reply:
        """Ask for these: with a deadline for all of them, or what there is after a while."""
        wait_s = 0.0
        if deadline is not None:
            wait_s = max(0.0, min(SLICE_S, deadline - time.monotonic()))
        asked = [service.StreamRanges(name, ids.to_ranges(there)) for name, there in piece.items()]
        return self._connection.call(service.Fetch(0, asked, wait_s, outcomes=outcomes))

    def pending(
        self,
        tasks: dict[bytes, list[int]],
        *,
        wait_s: float = 0.0,
        need: int = 0,
        deadline: float | None = None,
    ) -> tuple[dict[bytes, list[int]], dict[bytes, dict[int, TaskState]]]:
        """The tasks that have not ended, and the states of those that have.

        Raises:
            TimeoutError: there is no answer by the deadline (monotonic), nor soon after.
        """
        found = self.fetch(
            tasks, wait_s=wait_s, need=need, outcomes=False, ended=True, deadline=deadline
        )
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
        self, tasks: dict[bytes, list[int]], deadline: float | None
    ) -> Iterator[dict[bytes, dict[int, TaskState]]]:
        """Those of the tasks that have ended since the last step, until all have.

        Ends early, with an empty step, at the deadline (monotonic). Whoever wants all or nothing
        had better `read`.
        """
        rest = {stream: list(dict.fromkeys(indices)) for stream, indices in tasks.items()}
        wait_s = 0.0
        while True:
            count = sum(map(len, rest.values()))
            # Each answer tells of every task asked for: with many of them, questions that wait
            # for one alone would cost the square of their number.
            need = max(1, count // 8)
            try:
                rest, ended = self.pending(rest, wait_s=wait_s, need=need, deadline=deadline)
            except TimeoutError:
                yield {}
                return
            if ended:
                yield ended
            if not rest:
                return
            if self._check is not None:
                self._check(rest)
            wait_s = SLICE_S
            if count >= 16:
                wait_s = _PROGRESS_S * max(1.0, count / 10_000)
            if deadline is not None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    yield {}
                    return
                wait_s = min(wait_s, remaining)


def _limit(deadline: float | None) -> float | None:
    """Seconds to wait for an answer that is due by then; None: for ever."""
    return None if deadline is None else left(deadline) + ANSWER_S


def _unanswered(asked: dict[int, list[int]]) -> list[tuple[list[int], TaskState]]:
    """What is told of tasks whose home gives no answer: their positions, by index, and states."""
    return [(positions, unanswered(index)) for index, positions in asked.items()]


def unanswered(index: int) -> TaskState:
    """What is told of a task whose home gives no answer."""
    return TaskState(index, states.WAITING_FOR_ENDPOINT, NO_ANSWER)


def as_completed(reader: Reader, selection: Selection, timeout: float | None) -> Iterator[str]:
    """The ids as their tasks end.

    Raises:
        TimeoutError: not all have ended within so many seconds.
    """
    places = selection.piece(range(len(selection)))
    names = selection.names
    deadline = deadline_of(timeout)
    count = left = len(set(names))
    for ended in reader.progress(selection.by_stream(), deadline):
        if not ended:
            raise cf.TimeoutError(f"{left} (of {count}) tasks have not ended")
        for stream, found in ended.items():
            for index in found:
                here = dict.fromkeys(names[at] for at in places[stream].pop(index, ()))
                left -= len(here)
                yield from here


def wait(
    reader: Reader,
    selection: Selection,
    timeout: float | None,
    return_when: str,
    *,
    adopt: bool = False,
) -> tuple[list[str], list[str]]:
    """The ids of tasks that have ended and of those that have not, each in the order given.

    Args:
        adopt: some may be older work of a `local`, which is to begin now.
    """
    if return_when not in (cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION, cf.ALL_COMPLETED):
        raise ValueError(f"Invalid return condition: {return_when!r}")
    ended = bytearray(len(selection))
    if return_when == cf.ALL_COMPLETED:
        deadline = deadline_of(math.inf if timeout is None else timeout)
        for told in reader.read(selection, deadline, outcomes=False, adopt=adopt):
            for positions, state in told:
                for position in positions:
                    ended[position] = state.status not in states.PENDING
    else:
        places = selection.piece(selection.in_order())
        for found in reader.progress(selection.by_stream(), deadline_of(timeout)):
            failed = False
            for stream, known in found.items():
                for index, state in known.items():
                    failed = failed or state.status != states.SUCCESS
                    for position in places[stream][index]:
                        ended[position] = True
            if return_when == cf.FIRST_COMPLETED and found:
                break
            if return_when == cf.FIRST_EXCEPTION and failed:
                break
    names = selection.names
    return (
        [name for name, has_ended in zip(names, ended, strict=True) if has_ended],
        [name for name, has_ended in zip(names, ended, strict=True) if not has_ended],
    )


def left(deadline: float | None) -> float:
    """Seconds until then, to wait for; without an end if there is none."""
    return math.inf if deadline is None else max(0.0, deadline - time.monotonic())


def deadline_of(timeout: float | None) -> float | None:
    """The monotonic time when so many seconds have passed."""
    return None if timeout is None else time.monotonic() + timeout

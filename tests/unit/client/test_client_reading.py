"""Reading very many tasks: a few answers at a time, until all have ended."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fxhpc import ids
from fxhpc.client import tasks
from fxhpc.client.connection.connection import Reply
from fxhpc.client.selection import Selection
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import Outcome
from fxhpc.protocol.service import StreamRanges, StreamStates, TaskState

A, B = ids.new_stream(), ids.new_stream()


class Forwarder:
    """Answers questions when they are waited for: some tasks at a time, some of them later.

    Args:
        room: states in an answer.
        late: tasks that have ended only when they are asked for again.
    """

    def __init__(self, room: int = 10**9, late: set[int] | None = None) -> None:
        self.asked: list[service.Fetch] = []
        self.open = self.most_open = 0
        self._room = room
        self._late = set(late or ())

    def call(self, message: service.Fetch) -> Reply:
        self.asked.append(message)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        forwarder = self

        class Answer(Reply):
            def wait(self, timeout: float | None = None) -> Any:
                forwarder.open -= 1
                return forwarder._answer(message)

        return Answer()

    def _answer(self, message: service.Fetch) -> service.States:
        room = self._room
        parts = []
        for part in message.tasks:
            found = [self._state(part, index) for index in ids.from_ranges(part.ranges)[:room]]
            room -= len(found)
            parts.append(StreamStates(part.stream, found))
        count = sum(sum(part.ranges[1::2]) for part in message.tasks)
        return service.States(message.call, parts, more=count > self._room)

    def _state(self, part: StreamRanges, index: int) -> TaskState:
        if index in self._late:
            self._late.discard(index)
            return TaskState(index, states.WAITING_FOR_NODES)
        return TaskState(index, states.SUCCESS, outcome=Outcome(index, 0, part.stream))


def names(stream: bytes, *indices: int) -> list[str]:
    return ids.task_ids(stream, indices)


def read(forwarder: Forwarder, selection: Selection, **options: Any) -> dict[str, TaskState]:
    reader = tasks.Reader(forwarder)  # type: ignore[arg-type]
    found = {}
    for answer in reader.read(selection, **options):
        for positions, state in answer:
            found.update((selection.names[position], state) for position in positions)
    return found


def later() -> float:
    return time.monotonic() + 60


def test_all_are_told_by_a_few_questions_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_PIECE", 10)
    forwarder = Forwarder(room=4)
    given = [*names(A, *range(55)), *names(B, *range(45))]
    found = read(forwarder, Selection(given), deadline=later())
    assert set(found) == set(given)
    assert {state.status for state in found.values()} == {states.SUCCESS}
    assert found[given[70]].outcome == Outcome(15, 0, B)
    assert forwarder.most_open == 3  # and so many answers are held at the most
    assert max(sum(part.ranges[1] for part in fetch.tasks) for fetch in forwarder.asked) == 10


def test_a_question_ends_where_a_chunk_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_PIECE", 10)
    chunks = ids.new_stream(7)
    given = [*names(A, *range(8)), *names(chunks, *range(33)), *names(B, *range(11))]
    for asked in (given, [*reversed(given)]):
        selection = Selection(asked)
        reader = tasks.Reader(Forwarder())  # type: ignore[arg-type]
        told = [at for answer in reader.read(selection, later()) for at, _ in answer]
        of_chunks = [sorted(selection.names[at] for at in some) for some in told if len(some) > 1]
        assert sorted(of_chunks) == [given[8:][first : first + 7] for first in (0, 7, 14, 21)] + [
            given[36:41]
        ]
        assert len(told) == 8 + 5 + 11


def test_ids_in_any_order_and_spelling_are_asked_for_in_theirs() -> None:
    forwarder = Forwarder()
    one, two = names(A, 7)[0], names(A, 7)[0].upper()
    given = [*names(B, 3), one, *names(B, 2), two, *names(A, 6), one]
    found = read(forwarder, Selection(given))
    assert set(found) == set(given)
    assert found[one] is found[two]
    (question,) = forwarder.asked
    assert {part.stream: part.ranges for part in question.tasks} == {A: [6, 2], B: [2, 2]}


def test_what_is_pending_is_asked_for_again_until_the_deadline() -> None:
    forwarder = Forwarder(late={2, 4})
    found = read(forwarder, Selection(names(A, *range(6))), deadline=later())
    assert {state.status for state in found.values()} == {states.SUCCESS}
    assert [fetch.tasks[0].ranges for fetch in forwarder.asked] == [[0, 6], [2, 1, 4, 1]]
    for deadline in (None, 0.0):  # now
        found = read(Forwarder(late={2}), Selection(names(A, 1, 2)), deadline=deadline)
        assert [state.status for state in found.values()] == [
            states.SUCCESS,
            states.WAITING_FOR_NODES,
        ]


def test_a_local_that_cannot_start_ends_the_wait_for_what_is_pending() -> None:
    def check(streams: Any) -> None:
        raise RuntimeError(f"{len(list(streams))} cannot run")

    selection = Selection(names(A, 1, 2))
    ended = tasks.Reader(Forwarder(), check)  # type: ignore[arg-type]
    assert len(list(ended.read(selection, later()))) == 1
    reader = tasks.Reader(Forwarder(late={2}), check)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="1 cannot run"):
        list(reader.read(selection, later()))


def test_older_work_of_a_local_begins_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_PIECE", 1)
    forwarder = Forwarder()
    read(forwarder, Selection(names(A, *range(5))), deadline=later(), adopt=True)
    assert forwarder.asked[0].adopt
    assert forwarder.asked[0].tasks[0].ranges == [0, 5]


def test_what_waits_tells_which_have_ended_by_position() -> None:
    given = [*names(A, 3, 1, 2), names(A, 2)[0].upper()]
    for condition in ("ALL_COMPLETED", "FIRST_COMPLETED"):
        reader = tasks.Reader(Forwarder(late={2}))  # type: ignore[arg-type]
        done, rest = tasks.wait(reader, Selection(given), 0.0, condition)
        assert (done, rest) == (given[:2], given[2:])

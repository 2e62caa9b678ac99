"""Asking for what becomes of kept tasks: what comes later waits behind nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fxhpc import ids
from fxhpc.client.futures.following import Following
from fxhpc.client.sending.groups import Group
from fxhpc.errors import ForwarderError, TaskNotFound
from fxhpc.protocol import service, states
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome
from fxhpc.protocol.service import StreamStates, TaskState

A = b"a" * 12


class Stage:
    """A group with so many stored tasks, and the questions that are asked for them."""

    def __init__(self, count: int) -> None:
        self.asked: list[tuple[service.Fetch, Callable[[Any], None]]] = []
        lock = threading.RLock()
        self.condition = threading.Condition(lock)
        submitter: Any = SimpleNamespace(
            lock=lock,
            condition=self.condition,
            callbacks=None,
            pid=0,
            cancelled={},
            open=0,
            ended=lambda group, count: None,
        )
        self.group = Group(submitter, StreamInfo(A, "", b"", keep=True), ("", b"", 0, None, 0))  # type: ignore[arg-type]
        attachment: Any = SimpleNamespace(connection=self, usable=True)
        self.following = Following(
            self.condition, lambda: [self.group], lambda: attachment, lambda group: None
        )
        self.store(count)

    def call(self, message: service.Fetch, then: Callable[[Any], None]) -> None:
        self.asked.append((message, then))

    def store(self, count: int) -> None:
        from fxhpc.client.futures.futures import TaskFuture

        for index in range(self.group.stored, self.group.stored + count):
            self.group.futures[index] = TaskFuture(self.group, index)
        self.group.stored += count
        with self.condition:
            self.following.ask()

    def indices(self, question: int = -1) -> list[int]:
        (part,) = self.asked[question][0].tasks
        return ids.from_ranges(part.ranges)

    def answer(self, *ended: int, question: int = 0, status: str = states.SUCCESS) -> None:
        _, then = self.asked.pop(question)
        known = status != states.UNKNOWN
        told = [
            TaskState(index, status, outcome=Outcome(index, 0, b"") if known else None)
            for index in ended
        ]
        then(service.States(0, [StreamStates(A, told)]))


def test_what_comes_later_is_asked_for_at_once() -> None:
    stage = Stage(1)
    assert stage.indices() == [0]
    stage.store(1)
    assert stage.indices() == [1]
    assert [fetch.wait_s for fetch, _ in stage.asked] == [30, 7.5]
    assert all(fetch.ended and fetch.need == 1 for fetch, _ in stage.asked)


def test_few_questions_wait_at_a_time_and_what_is_left_goes_together() -> None:
    stage = Stage(1)
    for _ in range(9):
        stage.store(1)
    assert len(stage.asked) == 5
    stage.answer(question=4)  # after the shortest of waits
    assert stage.indices() == [4, 5, 6, 7, 8, 9]
    stage.answer(0)
    assert len(stage.asked) == 4
    assert 0 not in stage.group.futures


def test_very_many_are_asked_for_in_turn() -> None:
    stage = Stage(100_000)
    seen: set[int] = set()
    for _ in range(20):
        indices = stage.indices(0)
        assert len(indices) <= 8192
        seen.update(indices)
        stage.answer()
    assert seen == set(range(100_000))
    assert len(stage.asked) == 5


def test_one_that_was_cancelled_here_is_asked_for_no_more() -> None:
    stage = Stage(2)
    del stage.group.futures[0]
    stage.answer()
    assert stage.indices() == [1]
    stage.answer(1)
    assert not stage.asked


def test_one_that_nobody_knows_is_not_waited_for() -> None:
    stage = Stage(2)
    future = stage.group.futures[1]
    stage.answer(1, status=states.UNKNOWN)
    assert stage.indices() == [0]
    assert isinstance(future._exception, TaskNotFound)


def test_what_is_refused_is_asked_again_and_fails_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "Timer", lambda seconds, job: SimpleNamespace(start=job))
    stage = Stage(1)
    future = stage.group.futures[0]
    for _ in range(10):
        assert not future.done()
        stage.asked.pop()[1](ForwarderError("the store cannot be read"))
    assert isinstance(future._exception, ForwarderError)
    assert not stage.asked

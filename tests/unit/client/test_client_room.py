"""Submissions wait while too much is not accepted: who does, who does not, and what ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fxhpc import errors
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.sending.submitter import Submitter
from fxhpc.protocol import service
from fxhpc.serialize import PackedFunction
from tests.waiting import eventually

MB = b"\0" * 2**20
FUNCTION = PackedFunction(body=b"f", digest=b"d" * 32, name="f", source="")


class Connection:
    """Takes calls, and answers them when it is told to."""

    def __init__(self) -> None:
        self.submits: list[tuple[service.Submit, Callable[[Any], None]]] = []
        self.bodies: dict[bytes, int] = {}

    def call(self, message: Any, then: Callable[[Any], None] | None = None) -> None:
        if isinstance(message, service.Submit) and then is not None:
            self.submits.append((message, then))

    def add_sink(self, *_: Any) -> None:
        pass

    remove_sink = post = add_sink

    def answer(self, answer: Any = None) -> None:
        """Accept what came first, or refuse it."""
        _, then = self.submits.pop(0)
        then(service.Done(0) if answer is None else answer)


class Stage:
    """An executor's submitter whose room is 4 MB, and threads that submit."""

    def __init__(self) -> None:
        self.connection = Connection()
        attachment: Any = type("Attached", (), {"private": None, "listeners": [], "holders": 2})()
        attachment.connection = self.connection
        options = {"keep": False, "group": "", "retries": 2, "result_limit": 10**7}
        self.submitter = Submitter(lambda: _given(attachment), "e" * 8, options)
        self.submitter._room.limit = 4 * 2**20
        self.threads: list[threading.Thread] = []

    def submit(self, count: int = 1) -> None:
        for _ in range(count):
            self.submitter.submit(FUNCTION, MB)

    def aside(self, name: str = "user", job: Callable[[], Any] | None = None) -> threading.Thread:
        thread = threading.Thread(target=job or self.submit, name=name)
        self.threads.append(thread)
        thread.start()
        return thread

    @property
    def numbered(self) -> int:
        return sum(group.next for group in self.submitter.groups.by_stream.values())

    def waits(self, thread: threading.Thread) -> bool:
        """Whether a thread waits for room."""
        return thread.is_alive() and bool(self.submitter._room._changed._waiters)  # type: ignore[attr-defined]


def _given(attachment: Any) -> Attachment:
    return attachment  # type: ignore[no-any-return]


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.submitter.shut(cancel=True)
    for thread in stage.threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_submission_waits_until_enough_is_accepted(stage: Stage) -> None:
    stage.submit(5)
    thread = stage.aside()
    eventually(lambda: stage.waits(thread), 10)
    assert stage.numbered == 5
    stage.connection.answer()
    thread.join(10)
    assert stage.numbered == 6


def test_many_at_once_wait_for_room_and_then_go_together(stage: Stage) -> None:
    stage.submit(5)
    thread = stage.aside(job=lambda: stage.submitter.submit_many(FUNCTION, [MB] * 3))
    eventually(lambda: stage.waits(thread), 10)
    stage.connection.answer()
    thread.join(10)
    assert stage.numbered == 8


def test_threads_of_ours_never_wait(stage: Stage) -> None:
    stage.submit(5)
    stage.aside("fxhpc-callbacks").join(10)
    assert stage.numbered == 6
    with stage.submitter.lock:  # as a signal's handler may have it
        stage.submit()
    assert stage.numbered == 7


def test_an_error_makes_room_and_reaches_the_futures(stage: Stage) -> None:
    futures = [stage.submitter.submit(FUNCTION, MB) for _ in range(5)]
    thread = stage.aside()
    eventually(lambda: stage.waits(thread), 10)
    stage.connection.answer(errors.ForwarderUnreachable("home", "it is gone"))
    thread.join(10)
    assert isinstance(futures[0].exception(10), errors.ForwarderUnreachable)
    assert isinstance(futures[-1].exception(10), errors.ForwarderUnreachable)


def test_what_was_cancelled_unsent_makes_room(stage: Stage) -> None:
    futures = [stage.submitter.submit(FUNCTION, MB) for _ in range(5)]
    for future in futures[2:]:  # two are under way, each in a message of its own
        assert future.cancel()
    stage.submit(3)
    assert stage.numbered == 8


def test_shutting_the_executor_ends_the_wait(stage: Stage) -> None:
    stage.submit(5)
    raised: list[BaseException] = []

    def submit() -> None:
        with pytest.raises(RuntimeError) as caught:
            stage.submit()
        raised.append(caught.value)

    thread = stage.aside(job=submit)
    eventually(lambda: stage.waits(thread), 10)
    stage.submitter.shut(cancel=False)
    thread.join(10)
    assert "after shutdown" in str(raised[0])

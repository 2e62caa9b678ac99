"""The writer commits in groups, answers in order, and lets one failure be one failure."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fxhpc.errors import ForwarderError
from fxhpc.forwarder.store.operations import AddBody, AddStream, AddSubmission, Operation
from fxhpc.forwarder.store.store import MEMORY, Store
from fxhpc.forwarder.store.writer import AnyWriter, Completion, DirectWriter, Writer
from fxhpc.ids import new_id, new_stream
from fxhpc.protocol.messages import StreamInfo

STREAM = new_stream()


class Loop:
    """What a shell does with a writer: wait to be woken, then look."""

    def __init__(self, make: Callable[[Callable[[], None]], AnyWriter]) -> None:
        self._woken = threading.Event()
        self.writer = make(self._woken.set)

    def wait(self, count: int) -> list[Completion]:
        done = self.writer.completed()
        while len(done) < count:
            assert self._woken.wait(10), f"{len(done)} of {count} completed"
            self._woken.clear()
            done += self.writer.completed()
        return done


@pytest.fixture(params=["thread", "direct"])
def loop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Loop]:
    store = Store(str(tmp_path / "store.db") if request.param == "thread" else MEMORY)
    store.apply([AddStream(StreamInfo(STREAM, new_id(), b"f" * 32))])
    loop = Loop(
        lambda wake: Writer(store, wake) if request.param == "thread" else DirectWriter(store)
    )
    yield loop
    loop.writer.close()


def task(row: int) -> list[Operation]:
    return [AddSubmission(row, STREAM, row, [b"%d" % row])]


def test_requests_are_answered_in_order(loop: Loop) -> None:
    for row in range(1, 2001):
        loop.writer.submit(row, task(row))
        if row % 100 == 0:
            loop.writer.read(("read", row), "load_submission", row)
    done = loop.wait(2020)
    tokens = [token for token, _ in done if isinstance(token, int)]
    assert tokens == list(range(1, 2001))
    for at, (token, answer) in enumerate(done):
        if isinstance(token, tuple):
            assert done[at - 1] == (token[1], None)
            assert answer == ([b"%d" % token[1]], [])
        else:
            assert answer is None


def test_one_failure_takes_no_other_with_it(loop: Loop) -> None:
    for row in (1, 2, 2, 3):
        loop.writer.submit(row, task(row))
    loop.writer.read("rows", "recover")
    done = loop.wait(5)
    assert [type(answer) for _, answer in done[:4]] == [
        type(None),
        type(None),
        ForwarderError,
        type(None),
    ]
    recovered = done[4][1]
    assert [row.row for row in recovered.submissions] == [1, 2, 3]  # type: ignore[attr-defined]


def test_a_question_that_fails_is_completed_with_its_error(loop: Loop) -> None:
    loop.writer.read(1, "load_submission", 99)
    loop.writer.read(2, "no_such_method")
    (_, first), (_, second) = loop.wait(2)
    assert isinstance(first, KeyError)
    assert isinstance(second, AttributeError)


def test_what_waits_is_done_before_the_end(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    store = Store(path)
    writer = Writer(store, lambda: None)
    for row in range(1, 3001):
        writer.submit(row, task(row))
    writer.close()
    writer.close()
    assert len(writer.completed()) == 3000
    store = Store(path)
    assert len(store.recover().submissions) == 3000
    store.close()


def test_what_is_small_is_done_at_once_where_that_is_wanted(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    loop = Loop(lambda wake: Writer(Store(path), wake, inline=True))
    try:
        loop.writer.submit("small", [AddBody(b"d" * 32, b"body")])
        assert loop.writer.completed() == [("small", None)]
        loop.writer.submit("large", [AddBody(b"e" * 32, bytes(100_000))])
        loop.writer.submit("behind it", [AddBody(b"f" * 32, b"body")])
        assert sorted(loop.wait(2)) == [("behind it", None), ("large", None)]
    finally:
        loop.writer.close()


def test_the_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    loop = Loop(lambda wake: Writer(Store(str(path)), wake, inline=True))
    try:
        for number in range(3000):
            loop.writer.submit(number, [AddBody(number.to_bytes(32, "big"), bytes(12_000))])
            loop.wait(1)
        assert (tmp_path / "store.db-wal").stat().st_size < 24 * 2**20  # of 36 MB in all
    finally:
        loop.writer.close()


def test_what_lies_in_files_does_not_fill_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that the log is emptied the disk is synchronised, more than once."""
    emptied: list[int] = []
    checkpoint = Store.checkpoint
    monkeypatch.setattr(Store, "checkpoint", lambda s: (emptied.append(1), checkpoint(s))[1])
    loop = Loop(lambda wake: Writer(Store(str(tmp_path / "store.db")), wake, inline=True))
    try:
        for row, size in enumerate([5 * 2**20] * 4 + [200 * 2**10] * 25):
            loop.writer.submit(row, [AddSubmission(row + 1, STREAM, row, [bytes(size)])])
            if row == 3:
                loop.writer.read("in files", "sizes")
                loop.wait(5)
                assert not emptied
        loop.wait(25)
    finally:
        loop.writer.close()
    assert len(emptied) == 1


def test_damage_that_a_question_meets_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def malformed(self: Store, row: int) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(Store, "load_submission", malformed)
    store = Store(str(tmp_path / "store.db"))
    loop = Loop(lambda wake: Writer(store, wake))
    try:
        loop.writer.read("question", "load_submission", 1)
        ((_, error),) = loop.wait(1)
        assert isinstance(error, ForwarderError)
        assert "carries over what is whole" in str(error)
        assert store.damage
    finally:
        loop.writer.close()


def test_a_slow_disk_is_told_of_before_memory_is_full(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store.db"))
    may_go_on, apply = threading.Event(), store.apply

    def slowly(operations: Sequence[Operation]) -> None:
        assert may_go_on.wait(10)
        apply(operations)

    store.apply = slowly  # type: ignore[method-assign]
    loop = Loop(lambda wake: Writer(store, wake, waiting_bytes=10_000))
    assert isinstance(loop.writer, Writer)
    for number in range(3):
        loop.writer.submit(number, [AddBody(bytes([number]) * 32, b"x" * 5_000)])
        assert loop.writer.is_full() == (number == 2)
    may_go_on.set()
    assert len(loop.wait(3)) == 3
    assert not loop.writer.is_full()  # it is said before the loop is woken
    loop.writer.close()

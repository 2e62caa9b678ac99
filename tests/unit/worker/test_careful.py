"""A chunk that runs again in a worker: each call that ends is kept where its manager finds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fxhpc import ids, serialize
from fxhpc.message_files import anonymous_file
from fxhpc.protocol import kept
from fxhpc.protocol.messages import GivenUp
from fxhpc.protocol.outcome import Output
from fxhpc.protocol.pool import CALL, NO_CALL, WORD_BYTES, WorkRun
from fxhpc.serialize import Chunk, pack_arguments, pack_calls, pack_result, rows_of, unpack_chunk
from fxhpc.serialize.bodies import Bodies
from fxhpc.serialize.exceptions import pack_exception
from fxhpc.worker.calls import CallMaker
from fxhpc.worker.run import ERROR, VALUE, Runner

LIMIT = 10_000


class Worker:
    """What makes calls in a worker, with a page, but in this process."""

    def __init__(self) -> None:
        serializer: Any = SimpleNamespace(**vars(serialize))
        serializer.Loader = lambda: SimpleNamespace(bodies=Bodies(), load_arguments=None)
        self.fd = anonymous_file()
        self.words = memoryview(bytearray(WORD_BYTES)).cast("Q")
        self._calls = CallMaker(Runner(serializer), self.words, self.fd)

    def run(
        self,
        function: Callable[..., Any],
        *values: Any,
        earlier: bytes = b"",
        given_up: tuple[int, ...] = (),
        spill: tuple[str, bytes, int] | None = None,
        enter: Callable[[int], None] | None = None,
    ) -> tuple[int, Chunk]:
        ((data, _),) = pack_calls(rows_of(values), {}, pack_arguments, LIMIT)
        losses = [GivenUp(call, b"its story") for call in given_up]
        again = WorkRun(b"", 0, b"", [], result_limit=LIMIT, kept=earlier)
        kind, ended = self._calls.run(function, data, LIMIT, losses, spill, enter, again)
        assert self.words[CALL] == NO_CALL
        return kind, unpack_chunk(ended)

    def kept(self) -> list[tuple[int, int, bytes]]:
        """What the manager would find if the worker died now."""
        size = os.fstat(self.fd).st_size
        return list(kept.records(os.pread(self.fd, size, 0)))


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    os.close(worker.fd)


def value(call: int, of: Any) -> bytes:
    return kept.record(call, kept.VALUE, bytes(pack_result(of, LIMIT)))


def failure(call: int, error: BaseException) -> bytes:
    return kept.record(call, kept.ERROR, pack_exception(error, LIMIT))


def suspects(*calls: int) -> bytes:
    return b"".join(kept.record(call, kept.SUSPECT, b"") for call in calls)


def values(chunk: Chunk) -> list[Any]:
    return [None if chunk.has_failed(call) else chunk.value(call) for call in range(len(chunk))]


@pytest.mark.parametrize("arguments", [(10, 11, 12), ([10], [11], [12])])
def test_how_a_call_ends_is_there_when_the_next_begins(
    worker: Worker, arguments: tuple[Any, ...]
) -> None:
    found: list[list[tuple[int, int]]] = []

    def call(x: Any) -> Any:
        found.append([(place, kind) for place, kind, _ in worker.kept()])
        if worker.words[CALL] == 1:
            raise ValueError("no")
        return x

    kind, chunk = worker.run(call, *arguments)
    assert found == [[], [(0, kept.VALUE)], [(0, kept.VALUE), (1, kept.ERROR)]]
    assert (kind, values(chunk)) == (ERROR, [arguments[0], None, arguments[2]])
    with pytest.raises(ValueError, match="no"):
        chunk.failure(1).reraise()
    assert os.fstat(worker.fd).st_size == 0


def test_what_has_ended_is_not_made_again(worker: Worker) -> None:
    made: list[int] = []
    earlier = value(1, "one") + failure(2, KeyError("two"))
    kind, chunk = worker.run(lambda x: made.append(x) or [x], 0, 1, 2, 3, earlier=earlier)
    assert (kind, made, values(chunk)) == (ERROR, [0, 3], [[0], "one", None, [3]])
    with pytest.raises(KeyError, match="two"):
        chunk.failure(2).reraise()
    kind, chunk = worker.run(lambda x: x, 5, 6, earlier=value(0, 7) + value(1, 8))
    assert (kind, values(chunk)) == (VALUE, [7, 8])


def test_the_next_worker_finds_all_that_this_one_was_given(worker: Worker) -> None:
    found: list[list[tuple[int, int, bytes]]] = []
    earlier = value(2, "two")
    worker.run(lambda x: found.append(worker.kept()), 0, 1, 2, earlier=earlier)
    assert found[0] == list(kept.records(earlier))
    assert [place for place, _, _ in found[1]] == [2, 0]


def test_calls_that_workers_died_at_are_made_first(worker: Worker) -> None:
    made: list[int] = []
    earlier = value(1, "one") + suspects(3, 1, 4, 9)
    kind, chunk = worker.run(
        lambda x: made.append(int(worker.words[CALL])), *range(6), earlier=earlier, given_up=(4,)
    )
    assert (kind, made) == (ERROR, [3, 0, 2, 5])
    assert chunk.losses == {4: b"its story"}
    assert chunk.value(1) == "one"


def test_a_call_that_had_ended_has_its_value_though_it_was_given_up(worker: Worker) -> None:
    kind, chunk = worker.run(lambda x: x, 5, 6, earlier=value(0, 7), given_up=(0,))
    assert (kind, values(chunk), chunk.losses) == (VALUE, [7, 6], {})


def test_what_is_kept_of_a_call_that_is_none_of_the_chunk_is_passed_over(worker: Worker) -> None:
    kind, chunk = worker.run(lambda x: x, 5, earlier=value(1, 7) + suspects(2) + b"half a record")
    assert (kind, values(chunk), len(chunk)) == (VALUE, [5], 1)


def test_each_call_that_is_made_is_entered(worker: Worker) -> None:
    entered: list[int] = []

    def enter(call: int) -> None:
        entered.append(call)
        if call == 2:
            raise OSError("no room for its directory")

    _, chunk = worker.run(lambda x: x, 5, 6, 7, earlier=value(0, 5), enter=enter)
    assert (entered, values(chunk)) == ([1, 2], [5, 6, None])


def test_a_value_that_is_too_large_fails_alone_or_goes_to_a_file(
    worker: Worker, tmp_path: Path
) -> None:
    kind, chunk = worker.run(bytes, 5, LIMIT + 1)
    assert (kind, values(chunk)) == (ERROR, [bytes(5), None])
    spill = (str(tmp_path), ids.new_stream(2), 0)
    kind, chunk = worker.run(bytes, 5, LIMIT + 1, spill=spill)
    assert (kind, values(chunk)) == (VALUE, [bytes(5), bytes(LIMIT + 1)])


class Exited(BaseException):
    """In the place of the process's end."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise Exited(code)

    monkeypatch.setattr(os, "_exit", leave)


@pytest.mark.usefixtures("exits")
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("how", ["closed", "another", "cut"])
def test_a_call_that_closes_or_cuts_the_file_ends_its_worker(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str, at: int
) -> None:
    worker, path = Worker(), tmp_path / "a task's own"
    managers = os.dup(worker.fd)
    others = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(others, bytes(1000))
    made: list[int] = []

    def call(x: int) -> int:
        made.append(x)
        if x == at and how == "cut":
            os.ftruncate(worker.fd, 0)
        elif x == at:
            os.close(worker.fd)
            if how == "another":
                os.dup2(others, worker.fd)
        return x

    earlier = value(2, "two")  # else there is nothing to be cut
    with pytest.raises(Exited):
        worker.run(call, 0, 1, 2, 3, earlier=earlier)
    assert made == [*range(at + 1)]
    assert worker.words[CALL] == at
    assert "has closed a file descriptor that is not its own" in capfd.readouterr().err
    assert path.read_bytes() == bytes(1000)
    if how != "cut":
        found = list(kept.records(os.pread(managers, 10_000, 0)))
        assert [place for place, _, _ in found] == [2, 0][: at + 1]
    for fd in (managers, others, *([] if how == "closed" else [worker.fd])):
        os.close(fd)


@pytest.mark.usefixtures("exits")
def test_what_closes_the_file_when_all_have_returned_takes_none_along(worker: Worker) -> None:
    files = [worker._calls._file]
    made: list[int] = []

    def call(x: int) -> int:
        made.append(x)
        return x

    serializer: Any = worker._calls._runner.serializer
    ends = serializer.KeptEnds

    class Late(ends):  # type: ignore[misc]
        def chunk(self, *args: Any) -> Any:
            files[0]._id = (0, 1)  # a thread has closed it
            return super().chunk(*args)

    serializer.KeptEnds = Late
    with pytest.raises(Exited):
        worker.run(call, 0, 1, 2, earlier=value(0, 7))
    assert (made, worker.words[CALL]) == ([1, 2], 2)


def test_a_worker_whose_file_an_earlier_task_has_closed_makes_all_calls() -> None:
    worker = Worker()
    os.close(worker.fd)
    kind, chunk = worker.run(lambda x: x, 0, 1, 2, earlier=value(0, 7))
    assert (kind, values(chunk)) == (VALUE, [7, 1, 2])


def test_without_a_file_all_is_kept_here() -> None:
    worker = Worker()
    calls = CallMaker(worker._calls._runner, worker.words)
    os.close(worker.fd)
    worker._calls = calls
    assert values(worker.run(lambda x: x, 0, 1, 2, earlier=value(1, "one"))[1]) == [0, "one", 2]


def test_what_earlier_calls_printed_is_printed_again(
    worker: Worker, capfd: pytest.CaptureFixture[str]
) -> None:
    packed = msgspec.msgpack.encode(Output(b"at 0\n", b"oh\n", 5, 3))
    earlier = value(0, 1) + kept.record(0, kept.PRINTED, packed)
    worker.run(lambda x: os.write(1, b"at 1\n"), 0, 1, earlier=earlier)
    assert capfd.readouterr() == ("at 0\nat 1\n", "oh\n")
    worker.run(lambda x: x, 0, earlier=kept.record(0, kept.PRINTED, b"nonsense"))
    assert capfd.readouterr() == ("", "")


def test_a_child_without_pythons_notice_writes_nothing(worker: Worker) -> None:
    worker._calls._file._pid -= 1
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            worker.run(lambda x: x, 0)
            code = 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert worker.kept() == []

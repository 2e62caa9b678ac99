"""The calls of a chunk in a worker: each ends on its own, and the page says which one it is at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fxhpc import errors, ids, serialize
from fxhpc.protocol.messages import GivenUp
from fxhpc.protocol.pool import CALL, NO_CALL, WORD_BYTES
from fxhpc.serialize import Chunk, pack_arguments, pack_calls, rows_of, unpack_chunk
from fxhpc.serialize.bodies import Bodies
from fxhpc.worker import forks
from fxhpc.worker.calls import CallMaker
from fxhpc.worker.run import ERROR, VALUE, Runner

LIMIT = 10_000
Function = Callable[..., Any]


class Worker:
    """What makes calls in a worker, but in this process, whose modules are let alone."""

    def __init__(self) -> None:
        serializer: Any = SimpleNamespace(**vars(serialize))
        serializer.Loader = lambda: SimpleNamespace(bodies=Bodies(), load_arguments=None)
        self.words = memoryview(bytearray(WORD_BYTES)).cast("Q")
        self._calls = CallMaker(Runner(serializer), self.words)

    def run(
        self,
        function: Function,
        *values: Any,
        given_up: tuple[int, ...] = (),
        spill: tuple[str, bytes, int] | None = None,
        enter: Callable[[int], None] | None = None,
        **kwargs: Any,
    ) -> tuple[int, Chunk]:
        ((data, _),) = pack_calls(rows_of(values), kwargs, pack_arguments, LIMIT)
        losses = [GivenUp(call, b"its story") for call in given_up]
        kind, ended = self._calls.run(function, data, LIMIT, losses, spill, enter)
        assert self.words[CALL] == NO_CALL
        return kind, unpack_chunk(ended)

    def at(self) -> int:
        return int(self.words[CALL])


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


#: Arguments of both kinds: packed at once, and each.
KINDS = [(10, 11, 12), ([[10]], [[11]], [[12]])]


@pytest.mark.parametrize("values", KINDS)
def test_each_call_is_on_the_page(values: tuple[Any, ...]) -> None:
    worker = Worker()
    kind, chunk = worker.run(lambda _: worker.at(), *values)
    assert (kind, chunk.values()) == (VALUE, [0, 1, 2])


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize("error", [ValueError("so"), SystemExit(3), KeyboardInterrupt()])
def test_a_call_that_raises_fails_alone(values: tuple[Any, ...], error: BaseException) -> None:
    worker = Worker()

    def call(x: Any) -> Any:
        if worker.at() == 1:
            raise error
        return x

    kind, chunk = worker.run(call, *values)
    assert kind == ERROR
    assert (chunk.value(0), chunk.value(2)) == (values[0], values[2])
    expected = {SystemExit: errors.TaskExited, KeyboardInterrupt: errors.TaskInterrupted}
    with pytest.raises(expected.get(type(error), type(error))):
        chunk.failure(1).reraise()


@pytest.mark.parametrize("values", KINDS)
def test_calls_that_were_given_up_are_not_made(values: tuple[Any, ...]) -> None:
    worker = Worker()
    made: list[int] = []
    kind, chunk = worker.run(lambda x: made.append(worker.at()), *values, given_up=(0, 2))
    assert (kind, made) == (ERROR, [1])
    assert chunk.losses == {0: b"its story", 2: b"its story"}
    assert [chunk.has_failed(call) for call in range(3)] == [True, False, True]
    assert chunk.value(1) is None


def test_keywords_are_those_of_every_call() -> None:
    worker = Worker()
    assert worker.run(pow, 2, 3, exp=2)[1].values() == [4, 9]
    kept: list[Any] = []

    def change(x: int, options: list[int]) -> int:
        kept.append(options)
        options.append(x)
        return len(options)

    assert worker.run(change, 2, 3, options=[])[1].values() == [1, 1]
    assert kept == [[2], [3]]


def test_arguments_that_cannot_be_unpacked_fail_their_call_alone() -> None:
    kind, chunk = Worker().run(lambda x: x, [1], Unloadable(), 3)
    assert (kind, chunk.value(0), chunk.value(2)) == (ERROR, [1], 3)
    with pytest.raises(errors.SerializationError, match="no number"):
        chunk.failure(1).reraise()


def test_what_cannot_be_taken_apart_fails_all() -> None:
    worker = Worker()
    kind, ended = worker._calls.run(abs, b"nonsense", LIMIT, [], None)
    chunk = unpack_chunk(ended)
    assert (kind, chunk.has_failed(7)) == (ERROR, True)
    with pytest.raises(errors.SerializationError):
        chunk.failure(7).reraise()


def test_the_page_says_which_value_is_packed() -> None:
    worker = Worker()
    seen: list[int] = []

    class Told:
        def __reduce__(self) -> Any:
            seen.append(worker.at())
            return int, ()

    kind, chunk = worker.run(lambda x: Told() if x else [x], 0, 1, 2)
    assert (kind, [chunk.value(call) for call in range(3)]) == (VALUE, [[0], 0, 0])
    assert set(seen) == {1, 2}
    assert seen == sorted(seen)


def test_a_value_that_is_too_large_goes_to_a_file_of_its_call(tmp_path: Path) -> None:
    worker, stream = Worker(), ids.new_stream(3)
    _, chunk = worker.run(bytes, 5, LIMIT + 1)
    assert chunk.has_failed(1)
    kind, chunk = worker.run(bytes, 5, LIMIT + 1, spill=(str(tmp_path), stream, 6))
    assert (kind, chunk.value(0), chunk.value(1)) == (VALUE, bytes(5), bytes(LIMIT + 1))
    (file,) = tmp_path.glob("*/*")
    file.unlink()
    with pytest.raises(errors.SpilledResultLost) as caught:
        chunk.value(1)
    assert ids.task_id(stream, 2, 1) in str(caught.value)
    blocked = tmp_path / "in the way"
    blocked.touch()
    _, chunk = worker.run(bytes, 5, LIMIT + 1, spill=(str(blocked), stream, 6))
    with pytest.raises(errors.MaxResultSizeExceeded, match=ids.task_id(stream, 2, 1)):
        chunk.failure(1).reraise()


def _forks(call: int, raises: bool, worker: Worker, writer: int) -> Function:
    def made(x: Any) -> Any:
        if worker.at() == call and os.fork() == 0:
            if raises:
                raise ValueError
            return x
        os.write(writer, b"%d" % worker.at())
        return x

    return made


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("values", KINDS)
def test_a_child_that_a_call_forks_makes_no_other_call(
    values: tuple[Any, ...], raises: bool
) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            forks.watch()
            forks.is_child = False
            worker = Worker()
            kind, _ = worker.run(_forks(0, raises, worker, writer), *values)
            os.wait()
            code = kind
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"012"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == VALUE


def test_what_a_call_returns_is_packed_before_the_next_one_changes_it() -> None:
    reused: list[int] = []

    def call(x: int) -> list[int]:
        reused.append(x)
        return reused

    _, chunk = Worker().run(call, 1, 2, 3)
    assert [chunk.value(place) for place in range(3)] == [[1], [1, 2], [1, 2, 3]]


def test_each_call_is_entered_by_its_place() -> None:
    entered: list[int] = []

    def enter(call: int) -> None:
        entered.append(call)
        if call == 1:
            raise OSError("no room for its directory")

    _, chunk = Worker().run(lambda x: x, 5, 6, 7, enter=enter)
    assert entered == [0, 1, 2]
    assert (chunk.value(0), chunk.value(2)) == (5, 7)
    with pytest.raises(OSError, match="no room"):
        chunk.failure(1).reraise()

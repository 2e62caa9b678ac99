"""Executor.map in chunks: each call ends on its own, and has an id of its own."""

from __future__ import annotations

import concurrent.futures as cf
import itertools
import sys
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fake_forwarder import FakeForwarder, Task

from fxhpc import Executor, FuncXClient, errors, ids
from fxhpc.protocol import service
from fxhpc.protocol.messages import GivenUp
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind, Output, pack_loss
from fxhpc.serialize import Chunk, pack_result
from tests.waiting import LIMIT, eventually


def square(x: int) -> int:
    return x * x


def inverse(x: int) -> float:
    return 1 / x


def lists(x: int) -> list[int]:
    return [x]


@pytest.fixture(autouse=True)
def _taught(forwarder: FakeForwarder) -> None:
    for function in (square, inverse, lists):
        forwarder.service.teach(function)


def tasks(forwarder: FakeForwarder) -> list[Task]:
    return [t for known in list(forwarder.service.tasks.values()) for t in list(known.values())]


def lose(forwarder: FakeForwarder, cause: LossCause, *wanted: int) -> None:
    """All that pends runs, but for the tasks with these numbers, which are lost."""

    def do() -> None:
        for task in tasks(forwarder):
            if task.outcome is None and task.index in wanted:
                data = msgspec.msgpack.encode(Loss(int(cause), "its worker died"))
                task.outcome = Outcome(task.index, OutcomeKind.LOST, data)
                forwarder.service.push([task])
        forwarder.service.hold = False
        forwarder.service.run_held()

    forwarder.do(do)


def give_up(forwarder: FakeForwarder, index: int, call: int) -> None:
    """All that pends runs, but for one call of the chunk with this number."""
    loss = Loss(int(LossCause.WORKER_KILLED), "its worker died", attempts=["it died"] * 2)

    def do() -> None:
        tasks(forwarder)[index].given_up = [GivenUp(call, pack_loss(loss))]
        forwarder.service.run_held()

    forwarder.do(do)


def test_a_chunk_is_a_task(executor: Executor, forwarder: FakeForwarder) -> None:
    assert list(executor.map(square, range(10), chunksize=4)) == [x * x for x in range(10)]
    assert list(executor.map(square, range(2))) == [0, 1]
    sent = [(task.info.calls, task.info.sizes, task.index) for task in tasks(forwarder)]
    assert sent == [(4, (), 0), (4, (), 1), (2, (), 0), (0, (), 0), (0, (), 1)]
    assert {task.info.retries for task in tasks(forwarder)} == {2}


def test_a_chunk_may_take_as_long_as_its_calls(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    executor.resource_specification = {"walltime": 7}
    assert list(executor.map(square, range(10), chunksize=4)) == [x * x for x in range(10)]
    assert list(executor.map(square, [3])) == [9]
    assert [task.info.walltime_s for task in tasks(forwarder)] == [28, 28, 14, 7]


def test_a_chunk_has_as_many_calls_as_ids_can_tell(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    count = ids.CHUNK_CALLS + 2
    assert sum(executor.map(square, range(count), chunksize=10**6)) == sum(
        x * x for x in range(count)
    )
    assert [task.info.calls for task in tasks(forwarder)] == [ids.CHUNK_CALLS, 2]


def test_a_stream_whose_numbers_are_used_up_is_followed_by_another(
    executor: Executor, forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "STREAM_TASKS", 12)
    forwarder.service.hold = True
    values = [executor.map(square, range(n, n + 8), chunksize=4) for n in range(4)]
    eventually(lambda: len(tasks(forwarder)) == 8)
    forwarder.do(forwarder.service.run_held)
    assert [list(some) for some in values] == [[x * x for x in range(n, n + 8)] for n in range(4)]
    assert [len(known) for known in forwarder.service.tasks.values()] == [2] * 4
    groups = executor._submitter.groups
    eventually(lambda: len(groups.by_stream) == 1)


def test_a_call_that_raises_ends_alone(executor: Executor) -> None:
    futures: Any = executor.map(inverse, [1, 0, 2, 0, 4], chunksize=3).futures
    found = [future.exception(LIMIT) or future.result(LIMIT) for future in futures]
    assert [found[0], found[2], found[4]] == [1.0, 0.5, 0.25]
    assert [type(found[1]), type(found[3])] == [ZeroDivisionError] * 2
    assert futures[1].exception() is futures[1].exception()
    values = executor.map(inverse, [1, 0, 2], chunksize=3)
    assert next(values) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(values)
    assert list(values) == []


@pytest.mark.parametrize("function", [square, lists])
def test_a_call_that_was_given_up_is_lost_alone(
    executor: Executor, forwarder: FakeForwarder, function: Any
) -> None:
    forwarder.service.hold = True
    values = executor.map(function, range(8), chunksize=4)
    futures: Any = values.futures
    eventually(lambda: len(tasks(forwarder)) == 2)
    give_up(forwarder, 1, 2)
    error = futures[6].exception(LIMIT)
    assert type(error) is errors.WorkerDied
    assert error.task_id == futures[6].task_id
    assert error.attempts == ("it died", "it died")
    good = [f.result(LIMIT) for number, f in enumerate(futures) if number != 6]
    assert good == [function(x) for x in range(8) if x != 6]
    assert list(itertools.islice(values, 6)) == [function(x) for x in range(6)]
    with pytest.raises(errors.WorkerDied, match=r"element 6 of the map, counted from 0") as caught:
        next(values)
    assert caught.value.elements == (6, 1)
    assert caught.value.task_id == futures[6].task_id
    assert len(tasks(forwarder)) == 2


@pytest.mark.parametrize("end", ["value", "lost", "cancelled"])
def test_a_callback_that_exits_takes_no_other_call_along(
    executor: Executor, forwarder: FakeForwarder, end: str
) -> None:
    forwarder.service.hold = True
    futures = executor.map(square, range(4), chunksize=4).futures
    eventually(lambda: len(tasks(forwarder)) == 1)
    told: list[int] = []
    futures[1].add_done_callback(lambda _: sys.exit(3))
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _, number=number: told.append(number))
    if end == "value":
        forwarder.do(forwarder.service.run_held)
    elif end == "lost":
        lose(forwarder, LossCause.MANAGER_LOST, 0)
    else:
        assert [future.cancel() for future in futures] == [False] * 3 + [True]
    assert len(cf.wait(futures, LIMIT).done) == 4
    eventually(lambda: told == [0, 1, 2, 3])


def test_a_call_tells_what_its_chunk_has_printed(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    futures: Any = executor.map(square, range(2), chunksize=2).futures
    eventually(lambda: len(tasks(forwarder)) == 1)
    assert (futures[0].stdout, futures[0].output) == ("", {})

    def end() -> None:
        (task,) = tasks(forwarder)
        task.outcome = Outcome(
            0,
            OutcomeKind.VALUE,
            Chunk(2, pack_result([0, 1], 100)).pack(),
            output=msgspec.msgpack.encode(Output(b"out\n", b"err\n", 4, 4)),
        )
        forwarder.service.push([task])

    forwarder.do(end)
    assert [future.result(LIMIT) for future in futures] == [0, 1]
    assert [(future.stdout, future.stderr) for future in futures] == [("out\n", "err\n")] * 2
    assert futures[1].output["stdout_bytes"] == 4


CAUSES = [LossCause.MANAGER_LOST, LossCause.WORKER_UNSTARTABLE, LossCause.WALLTIME]


@pytest.mark.parametrize("cause", CAUSES)
def test_a_chunk_that_is_lost_is_lost_as_a_whole(
    executor: Executor, forwarder: FakeForwarder, cause: LossCause
) -> None:
    forwarder.service.hold = True
    futures = executor.map(square, range(8), chunksize=4).futures
    eventually(lambda: len(tasks(forwarder)) == 2)
    lose(forwarder, cause, 0)
    assert all(isinstance(future.exception(LIMIT), errors.TaskLost) for future in futures[:4])
    assert [future.result(LIMIT) for future in futures[4:]] == [16, 25, 36, 49]
    assert len(tasks(forwarder)) == 2


def test_a_chunk_that_cannot_be_read_fails_its_calls(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    values = executor.map(square, range(4), chunksize=4)
    futures = values.futures
    eventually(lambda: len(tasks(forwarder)) == 1)

    def end() -> None:
        (task,) = tasks(forwarder)
        task.outcome = Outcome(0, OutcomeKind.VALUE, pack_result(5, 100))
        forwarder.service.push([task])

    forwarder.do(end)
    for future in futures:
        assert isinstance(future.exception(LIMIT), errors.SerializationError)
    with pytest.raises(errors.SerializationError, match="ended by a int"):
        next(values)


def test_chunks_end_after_a_shutdown(forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    executor = Executor(1)
    values = executor.map(square, range(4), chunksize=4)
    executor.shutdown(wait=False)
    eventually(lambda: len(tasks(forwarder)) == 1)
    forwarder.do(forwarder.service.run_held)
    assert list(values) == [0, 1, 4, 9]
    assert forwarder.closed.wait(LIMIT)


def test_without_retries_each_call_is_a_task(forwarder: FakeForwarder) -> None:
    with Executor(1, retries=0) as executor:
        assert list(executor.map(square, range(4), chunksize=4)) == [0, 1, 4, 9]
    assert [(task.info.calls, task.info.retries) for task in tasks(forwarder)] == [(0, 0)] * 4


def test_calls_of_a_chunk_are_cancelled_together(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    futures = executor.map(square, range(4), chunksize=2).futures
    told: list[Any] = []
    futures[1].add_done_callback(told.append)
    futures[2].add_done_callback(told.append)
    assert not futures[1].cancel()  # it would run all the same, with its chunk
    assert not futures[2].cancel()
    assert not futures[2].cancel()
    assert not told
    assert futures[3].cancel()
    eventually(lambda: told == [futures[2]])
    assert futures[2].cancelled()
    assert futures[2].cancel()
    eventually(lambda: any(isinstance(m, service.CancelTasks) for m in forwarder.service.seen))
    forwarder.do(forwarder.service.run_held)
    assert [future.result(LIMIT) for future in futures[:2]] == [0, 1]
    with pytest.raises(cf.CancelledError):
        futures[2].result(LIMIT)
    assert not futures[0].cancel()
    assert cf.wait(futures, LIMIT).not_done == set()


def test_futures_are_the_same_each_time(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    values = executor.map(square, range(4), chunksize=2)
    first, again = values.futures, values.futures
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert [future.cancel() for future in (first[2], again[3])] == [False, True]
    forwarder.do(forwarder.service.run_held)
    assert [future.result(LIMIT) for future in again[:2]] == [0, 1]


def test_a_call_that_runs_is_not_cancelled(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    futures = executor.map(square, range(2), chunksize=2).futures
    eventually(lambda: len(tasks(forwarder)) == 1)
    forwarder.do(forwarder.service.start)
    eventually(futures[1].running)
    assert not futures[0].cancel()
    forwarder.do(forwarder.service.run_held)
    assert [future.result(LIMIT) for future in futures] == [0, 1]


def test_futures_end_in_the_order_of_completion(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    futures = executor.map(square, range(4), chunksize=2).futures
    eventually(lambda: len(tasks(forwarder)) == 2)
    ended = cf.as_completed(futures, LIMIT)

    def second() -> None:
        forwarder.service.run([t for t in tasks(forwarder) if t.index == 1])

    forwarder.do(second)
    assert {next(ended), next(ended)} == set(futures[2:])
    forwarder.do(forwarder.service.run_held)
    assert {next(ended), next(ended)} == set(futures[:2])


def test_futures_stay_when_the_values_go(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    values = executor.map(square, range(4), chunksize=2)
    futures = values.futures
    values.close()
    forwarder.do(forwarder.service.run_held)
    assert [future.result(LIMIT) for future in futures] == [0, 1, 4, 9]


def test_values_that_nobody_reads_cancel(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    executor.map(square, range(4), chunksize=2)  # and away
    eventually(lambda: tasks(forwarder) and all(t.outcome for t in tasks(forwarder)))


@pytest.mark.parametrize(("chunksize", "buffersize"), [(1, 3), (4, 8), (4, 10), (4, 2)])
def test_a_buffer_bounds_what_is_read_ahead(
    executor: Executor, chunksize: int, buffersize: int
) -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    values = executor.map(square, source(), chunksize=chunksize, buffersize=buffersize)
    for number in range(50):
        assert number <= len(taken) <= number + buffersize
        assert next(values) == number * number
    values.close()


def test_chunks_that_are_too_large_are_made_smaller(forwarder: FakeForwarder) -> None:
    forwarder.service.teach(len)  # type: ignore[arg-type]
    with Executor(1, max_payload=400) as executor:
        texts = [f"{number}" * 100 for number in range(10)]
        assert list(executor.map(len, texts, chunksize=10)) == [100] * 10
        assert 2 < len(tasks(forwarder)) < 10
        with pytest.raises(errors.PayloadTooLarge):
            executor.map(len, ["x" * 900], chunksize=10)


def test_callbacks_of_calls_may_submit(executor: Executor) -> None:
    found: list[int] = []
    done = threading.Event()

    def then(future: cf.Future[int]) -> None:
        found.append(executor.submit(square, future.result()).result(LIMIT))
        if len(found) == 4:
            done.set()

    for future in executor.map(square, range(4), chunksize=2).futures:
        future.add_done_callback(then)
    assert done.wait(LIMIT)
    assert sorted(found) == [0, 1, 16, 81]


@pytest.mark.parametrize("chunksize", [1, 4])
def test_a_lost_call_is_named_by_its_element(
    executor: Executor, forwarder: FakeForwarder, chunksize: int
) -> None:
    forwarder.service.hold = True
    values = executor.map(square, range(8), chunksize=chunksize)
    eventually(lambda: len(tasks(forwarder)) == (8 if chunksize == 1 else 2))
    lose(forwarder, LossCause.MANAGER_LOST, 5 if chunksize == 1 else 1)
    first = 5 if chunksize == 1 else 4
    assert list(itertools.islice(values, first)) == [x * x for x in range(first)]
    with pytest.raises(errors.ManagerLost, match="of the map, counted from 0") as caught:
        next(values)
    assert caught.value.elements == ((5, 1) if chunksize == 1 else (4, 4))


def test_a_call_is_found_by_its_id(
    executor: Executor, client: FuncXClient, forwarder: FakeForwarder
) -> None:
    futures: Any = executor.map(inverse, [1, 2, 0, 4, 5, 8], chunksize=3).futures
    assert futures[4].result(LIMIT) == 0.2
    assert futures[4].stored
    assert futures[4].pending_reason() == ""
    (stream,) = forwarder.service.tasks
    assert [future.task_id for future in futures] == ids.task_ids(stream, range(6))
    assert client.get_result(futures[4].task_id) == 0.2
    found = client.get_batch_result([future.task_id for future in futures])
    assert [told["status"] for told in found.values()] == ["success"] * 2 + ["failed"] + [
        "success"
    ] * 3
    with pytest.raises(ZeroDivisionError):
        client.get_result(futures[2].task_id)

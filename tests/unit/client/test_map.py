"""Executor.map in chunks: each call ends on its own, and what is lost is split."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fake_forwarder import FakeForwarder, Task

from fxhpc import Executor, FuncXClient, chunks, errors
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT
from tests.waiting import LIMIT, eventually


def square(x: int) -> int:
    return x * x


def inverse(x: int) -> float:
    return 1 / x


@pytest.fixture(autouse=True)
def _taught(forwarder: FakeForwarder) -> None:
    for function in (square, inverse):
        forwarder.service.teach(function)
        forwarder.service.teach(
            functools.partial(chunks.run_chunk, function, DEFAULT_PAYLOAD_LIMIT)
        )


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


def test_a_chunk_is_a_task(executor: Executor, forwarder: FakeForwarder) -> None:
    assert list(executor.map(square, range(10), chunksize=4)) == [x * x for x in range(10)]
    assert len(tasks(forwarder)) == 3
    assert {task.info.retries for task in tasks(forwarder)} == {1}


def test_a_call_that_raises_ends_alone(executor: Executor) -> None:
    futures = executor.map(inverse, [1, 0, 2, 0, 4], chunksize=3).futures
    found = [future.exception(LIMIT) or future.result(LIMIT) for future in futures]
    assert [found[0], found[2], found[4]] == [1.0, 0.5, 0.25]
    assert [type(found[1]), type(found[3])] == [ZeroDivisionError] * 2
    assert futures[1].exception() is futures[1].exception()
    values = executor.map(inverse, [1, 0, 2], chunksize=3)
    assert next(values) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(values)
    assert list(values) == []


CAUSES = [LossCause.WORKER_KILLED, LossCause.WORKER_EXITED, LossCause.MANAGER_LOST]


@pytest.mark.parametrize("cause", CAUSES)
def test_the_calls_of_a_lost_chunk_run_alone(
    executor: Executor, forwarder: FakeForwarder, cause: LossCause
) -> None:
    forwarder.service.hold = True
    values = executor.map(square, range(12), chunksize=4)
    futures = values.futures
    eventually(lambda: len(tasks(forwarder)) == 3)
    lose(forwarder, cause, 1)
    assert list(values) == [x * x for x in range(12)]
    assert [future.result(LIMIT) for future in futures] == [x * x for x in range(12)]
    alone = [task for task in tasks(forwarder) if task.info.retries == 2]
    assert len(alone) == 4


def test_only_the_culprit_is_lost(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    futures = executor.map(square, range(8), chunksize=4).futures
    eventually(lambda: len(tasks(forwarder)) == 2)

    def lose_chunk() -> None:
        forwarder.service.hold = False
        task = tasks(forwarder)[0]
        data = msgspec.msgpack.encode(Loss(int(LossCause.WORKER_KILLED), "its worker died"))
        task.outcome = Outcome(0, OutcomeKind.LOST, data)
        forwarder.service.hold = True
        forwarder.service.push([task])

    forwarder.do(lose_chunk)
    eventually(lambda: len(tasks(forwarder)) == 6)
    lose(forwarder, LossCause.WORKER_KILLED, 2)
    # Number 2 of the chunks is none: it is the third call of the chunk that was lost.
    assert isinstance(futures[2].exception(LIMIT), errors.WorkerDied)
    good = [f.result(LIMIT) for place, f in enumerate(futures) if place != 2]
    assert good == [x * x for x in range(8) if x != 2]


@pytest.mark.parametrize("cause", [LossCause.WORKER_UNSTARTABLE, LossCause.TASK_WALLTIME])
def test_what_is_wrong_with_all_calls_splits_nothing(
    executor: Executor, forwarder: FakeForwarder, cause: LossCause
) -> None:
    forwarder.service.hold = True
    values = executor.map(square, range(4), chunksize=4)
    futures = values.futures
    eventually(lambda: len(tasks(forwarder)) == 1)
    lose(forwarder, cause, 0)
    assert all(isinstance(future.exception(LIMIT), errors.TaskLost) for future in futures)
    assert len(tasks(forwarder)) == 1


def test_a_lost_chunk_is_run_again_though_the_executor_is_shut(forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    executor = Executor(1)
    values = executor.map(square, range(4), chunksize=4)
    executor.shutdown(wait=False)
    eventually(lambda: len(tasks(forwarder)) == 1)
    lose(forwarder, LossCause.WORKER_KILLED, 0)
    assert list(values) == [0, 1, 4, 9]
    assert forwarder.closed.wait(LIMIT)


def test_a_lost_chunk_is_not_run_again_after_all_was_cancelled(forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    executor = Executor(1)
    futures = executor.map(square, range(4), chunksize=4).futures
    eventually(lambda: len(tasks(forwarder)) == 1)
    forwarder.do(forwarder.service.start)
    eventually(futures[0].running)
    executor.shutdown(wait=False, cancel_futures=True)
    lose(forwarder, LossCause.WORKER_KILLED, 0)
    assert not cf.wait(futures, LIMIT).not_done
    assert all(future.cancelled() for future in futures)
    assert len(tasks(forwarder)) == 1


def test_without_retries_each_call_is_a_task(forwarder: FakeForwarder) -> None:
    with Executor(1, retries=0) as executor:
        assert list(executor.map(square, range(4), chunksize=4)) == [0, 1, 4, 9]
    assert len(tasks(forwarder)) == 4


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


def test_a_call_that_was_to_be_cancelled_is_when_its_chunk_is_split(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    values = executor.map(square, range(4), chunksize=4)
    futures = values.futures
    eventually(lambda: len(tasks(forwarder)) == 1)
    assert not futures[1].cancel()
    lose(forwarder, LossCause.WORKER_KILLED, 0)
    eventually(futures[1].cancelled)
    eventually(lambda: len(tasks(forwarder)) == 5)
    forwarder.do(forwarder.service.run_held)
    assert [futures[at].result(LIMIT) for at in (0, 2, 3)] == [0, 4, 9]
    assert next(values) == 0
    assert all(a is b for a, b in zip(values.futures, futures[1:], strict=True))
    with pytest.raises(cf.CancelledError):
        next(values)


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
    forwarder.service.teach(functools.partial(chunks.run_chunk, len, 400))
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
    values = executor.map(square, range(6), chunksize=chunksize)
    eventually(lambda: len(tasks(forwarder)) == (6 if chunksize == 1 else 2))
    lose(forwarder, LossCause.TASK_WALLTIME, 5 if chunksize == 1 else 1)
    first = 5 if chunksize == 1 else 4
    assert list(itertools.islice(values, first)) == [x * x for x in range(first)]
    with pytest.raises(errors.TaskWalltimeExceeded, match="of the map, counted from 0") as caught:
        next(values)
    assert caught.value.elements == ((5, 1) if chunksize == 1 else (4, 2))


def test_a_call_is_found_by_its_task_and_place(
    executor: Executor, client: FuncXClient, forwarder: FakeForwarder
) -> None:
    futures: Any = executor.map(square, range(6), chunksize=3).futures
    assert futures[4].result(LIMIT) == 16
    chunk = client.get_result(futures[4].task_id)
    assert (len(chunk), futures[4].place) == (3, 1)
    assert chunk.value(futures[4].place) == 16

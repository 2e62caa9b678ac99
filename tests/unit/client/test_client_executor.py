"""What an Executor promises beside its futures: order, errors, limits, its end."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import threading
import weakref
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, errors
from fxhpc.protocol import service
from tests.waiting import eventually


def square(x: int) -> int:
    return x * x


def power(x: int, y: int) -> int:
    return int(x**y)


@pytest.fixture(autouse=True)
def _taught(forwarder: FakeForwarder) -> None:
    forwarder.service.teach(square)
    forwarder.service.teach(power)


def test_many(executor: Executor, forwarder: FakeForwarder) -> None:
    futures = [executor.submit(square, x) for x in range(3000)]
    assert [future.result(10) for future in futures] == [x * x for x in range(3000)]
    submits = [m for m in forwarder.service.seen if isinstance(m, service.Submit)]
    assert all(len(s.payloads) <= 1000 for m in submits for s in m.submissions)
    assert sum(isinstance(m, service.PutBody) for m in forwarder.service.seen) == 1


def test_map(executor: Executor) -> None:
    assert list(executor.map(square, range(2500))) == [x * x for x in range(2500)]
    assert list(executor.map(power, [1, 2, 3], [2, 2, 2, 2])) == [1, 4, 9]
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(square, [1], chunksize=0)


def test_map_times_out(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    values = executor.map(square, range(3), timeout=0.01)
    with pytest.raises(cf.TimeoutError):
        next(values)
    eventually(
        lambda: all(t.outcome for known in forwarder.service.tasks.values() for t in known.values())
    )


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers(workers: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        Executor(workers)


def test_after_shutdown(forwarder: FakeForwarder) -> None:
    executor = Executor(1)
    future = executor.submit(square, 2)
    executor.shutdown()
    assert future.done()
    assert forwarder.closed.is_set()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 2)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(square, [1])
    executor.shutdown()


def test_leaving_the_block_waits(forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    timer = threading.Timer(0.05, lambda: forwarder.do(forwarder.service.run_held))
    with Executor(1) as executor:
        future = executor.submit(square, 3)
        timer.start()
    assert future.result(0) == 9


def test_shutdown_cancels_what_has_not_begun(forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    executor = Executor(1)
    futures = [executor.submit(square, x) for x in range(50)]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    _done, rest = cf.wait(futures, timeout=1)
    assert not rest


def test_shutdown_without_waiting_closes_later(forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    executor = Executor(1)
    future = executor.submit(square, 3)
    executor.shutdown(wait=False)
    assert not forwarder.closed.is_set()
    forwarder.do(forwarder.service.run_held)
    assert future.result(10) == 9
    assert forwarder.closed.wait(10)


def test_ctrl_c_in_the_block_ends_everything_at_once(forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    with pytest.raises(KeyboardInterrupt), Executor(1) as executor:
        futures = [executor.submit(square, x) for x in range(5)]
        eventually(lambda: forwarder.service.tasks)
        raise KeyboardInterrupt
    assert all(future.cancelled() for future in futures)
    cancels = [m for m in forwarder.service.seen if isinstance(m, service.CancelTasks)]
    assert eventually(lambda: cancels or forwarder.closed.is_set())
    assert forwarder.closed.wait(10)


def test_dropped_without_shutdown(forwarder: FakeForwarder) -> None:
    executor = Executor(1)
    assert executor.submit(square, 3).result(10) == 9
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    assert forwarder.closed.wait(10)


def test_a_refused_submission_fails_its_futures(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.refuse[service.Submit] = service.Failed(0, "StoreFull", ["the disk is full"])
    future = executor.submit(square, 3)
    with pytest.raises(errors.StoreFull, match="disk"):
        future.result(10)
    del forwarder.service.refuse[service.Submit]
    assert executor.submit(square, 4).result(10) == 16


def test_a_refused_submission_leaves_earlier_ones_alone(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    earlier = executor.submit(square, 3)
    eventually(lambda: earlier.stored)
    forwarder.service.refuse[service.Submit] = service.Failed(0, "StoreFull", ["the disk is full"])
    with pytest.raises(errors.StoreFull):
        executor.submit(square, 4).result(10)
    assert not earlier.done()
    del forwarder.service.refuse[service.Submit]
    forwarder.do(forwarder.service.run_held)
    assert earlier.result(10) == 9


def test_a_refused_body_fails_its_futures(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.refuse[service.PutBody] = service.Failed(0, "StoreFull", ["the disk is full"])
    forwarder.service.hold = True
    with pytest.raises(errors.StoreFull):
        executor.submit(square, 3).result(10)


def test_arguments_too_large(forwarder: FakeForwarder) -> None:
    with Executor(1, max_payload=1000) as executor, pytest.raises(errors.PayloadTooLarge):
        executor.submit(square, b"x" * 2000)  # type: ignore[arg-type]


def test_globus_compute_attributes(executor: Executor) -> None:
    executor.resource_specification = {"walltime": 60}
    executor.user_endpoint_config = {"a": 1}
    executor.batch_size = 5
    executor.label = "x"
    assert executor.submit(square, 2).result(10) == 4
    assert executor.endpoint_id == "4b116d3c-1703-4f8f-9f6f-39921e5864df"
    assert executor._max_workers == 2


def test_a_task_group_is_kept_and_its_results_are_asked_for(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    assert executor.submit(square, 2).result(10) == 4
    executor.task_group_id = "8e1d1b2e-3b57-4e3c-9a0f-6d1f9c1b7c11"
    futures = [executor.submit(square, x) for x in range(20)]
    assert [future.result(10) for future in futures] == [x * x for x in range(20)]
    infos = {task.info for known in forwarder.service.tasks.values() for task in known.values()}
    assert {(info.keep, info.group) for info in infos} == {
        (False, ""),
        (True, "8e1d1b2e-3b57-4e3c-9a0f-6d1f9c1b7c11"),
    }


def test_from_many_threads(executor: Executor) -> None:
    results: list[Any] = []

    def use() -> None:
        results.extend(executor.submit(square, x).result(10) for x in range(50))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == sorted([x * x for x in range(50)] * 8)

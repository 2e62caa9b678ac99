"""Futures behave as those of concurrent.futures, though they share all that they can."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import sys
import threading
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, ids
from tests.waiting import eventually


def square(x: int) -> int:
    return x * x


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.fixture(autouse=True)
def _taught(forwarder: FakeForwarder) -> None:
    forwarder.service.teach(square)
    forwarder.service.teach(fail)


def test_value_and_error(executor: Executor) -> None:
    assert executor.submit(square, 3).result(10) == 9
    future = executor.submit(fail, "so")
    with pytest.raises(ValueError, match="so") as caught:
        future.result(10)
    assert "fail" in str(caught.value.__cause__)
    assert future.exception() is caught.value


def test_a_result_is_unpacked_once(executor: Executor) -> None:
    future = executor.submit(square, 1000)
    assert future.result(10) is future.result()


def test_the_wait_ends_at_its_time(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    future = executor.submit(square, 3)
    other = executor.submit(square, 4)
    waiter = threading.Thread(target=lambda: other.result(10))
    waiter.start()
    with pytest.raises(cf.TimeoutError):
        future.result(0.01)
    with pytest.raises(cf.TimeoutError):
        future.exception(timeout=0)
    forwarder.do(forwarder.service.run_held)
    waiter.join(10)
    assert not waiter.is_alive()
    assert future.result(10) == 9


def test_other_completions_do_not_end_a_wait(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    futures = [executor.submit(square, x) for x in range(10)]
    results: list[int] = []
    waiter = threading.Thread(target=lambda: results.append(futures[9].result(10)))
    waiter.start()
    eventually(lambda: futures[9]._extra is not None)  # type: ignore[attr-defined]
    eventually(lambda: len(next(iter(forwarder.service.tasks.values()), {})) == 10)
    forwarder.do(lambda: forwarder.service.run_held(9))
    eventually(futures[8].done)
    assert waiter.is_alive()
    forwarder.do(forwarder.service.run_held)
    waiter.join(10)
    assert results == [81]


def test_wait_and_as_completed(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    futures = [executor.submit(square, x) for x in range(5)]
    done, rest = cf.wait(futures, timeout=0.01)
    assert (len(done), len(rest)) == (0, 5)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(cf.as_completed(futures, timeout=10)))
    thread.start()
    first = cf.ThreadPoolExecutor(1)
    waiting = first.submit(cf.wait, futures, 10, cf.FIRST_COMPLETED)
    eventually(lambda: all(future._extra is not None for future in futures))  # type: ignore[attr-defined]
    eventually(lambda: len(next(iter(forwarder.service.tasks.values()), {})) == 5)
    forwarder.do(lambda: forwarder.service.run_held(1))
    done, rest = waiting.result(10)
    assert len(done) == 1
    forwarder.do(forwarder.service.run_held)
    thread.join(10)
    assert set(found) == set(futures)
    done, rest = cf.wait(futures, timeout=10)
    assert not rest
    first.shutdown()


def test_first_exception(executor: Executor) -> None:
    futures = [executor.submit(square, 1), executor.submit(fail, "x")]
    done, _ = cf.wait(futures, timeout=10, return_when=cf.FIRST_EXCEPTION)
    assert futures[1] in done


def test_callbacks_run_outside_the_connection(executor: Executor) -> None:
    """A callback that waits for another future does not stop it from coming."""
    seen: list[Any] = []
    ended = threading.Event()

    def callback(future: Any) -> None:
        seen.append(executor.submit(square, future.result()).result(10))
        ended.set()

    executor.submit(square, 3).add_done_callback(callback)
    assert ended.wait(10)
    assert seen == [81]


def test_callbacks_in_order_and_despite_errors(
    executor: Executor, forwarder: FakeForwarder, caplog: pytest.LogCaptureFixture
) -> None:
    forwarder.service.hold = True
    future = executor.submit(square, 3)
    seen: list[int] = []
    future.add_done_callback(lambda f: seen.append(1))
    future.add_done_callback(lambda f: 1 / 0)
    future.add_done_callback(lambda f: sys.exit(3))
    future.add_done_callback(lambda f: seen.append(2))
    eventually(lambda: forwarder.service.tasks)
    forwarder.do(forwarder.service.run_held)
    eventually(lambda: seen == [1, 2])
    future.add_done_callback(lambda f: seen.append(3))
    assert seen == [1, 2, 3]


def test_cancel(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    future, other = executor.submit(square, 3), executor.submit(square, 4)
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    eventually(lambda: len(next(iter(forwarder.service.tasks.values()), {})) == 2)
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    with pytest.raises(cf.CancelledError):
        future.result()
    with pytest.raises(cf.CancelledError):
        future.exception()
    eventually(lambda: seen == [future])
    done, _ = cf.wait([future], timeout=5)
    assert done == {future}
    forwarder.do(forwarder.service.start)
    eventually(other.running)
    assert not other.cancel()
    forwarder.do(forwarder.service.run_held)
    assert other.result(10) == 16


def test_a_task_cancelled_before_it_was_sent_keeps_its_number(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    submitter = executor._submitter
    submitter._outbox._in_flight = 2  # as if answers were outstanding
    futures = []
    submitter._attachment = submitter.attachment()
    futures = [executor.submit(square, x) for x in range(3)]
    assert futures[1].cancel()
    forwarder.service.hold = True
    with submitter.condition:
        submitter._outbox._in_flight = 0
        submitter._outbox.flush()
    eventually(lambda: len(next(iter(forwarder.service.tasks.values()), {})) == 3)
    known = next(iter(forwarder.service.tasks.values()))
    assert known[1].payload == b""
    eventually(lambda: known[1].outcome is not None)
    forwarder.do(forwarder.service.run_held)
    assert [futures[0].result(10), futures[2].result(10)] == [0, 4]


def test_asyncio(executor: Executor) -> None:
    async def use() -> list[int]:
        loop = asyncio.get_running_loop()
        wrapped = asyncio.wrap_future(executor.submit(square, 3))
        return list(await asyncio.gather(wrapped, loop.run_in_executor(executor, square, 4)))

    assert asyncio.run(use()) == [9, 16]


def test_asyncio_error(executor: Executor) -> None:
    async def use() -> None:
        await asyncio.wrap_future(executor.submit(fail, "there"))

    with pytest.raises(ValueError, match="there"):
        asyncio.run(use())


def test_ids_and_size(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    futures = [executor.submit(square, x) for x in range(3)]
    _stream, index = ids.parse_task_id(futures[2].task_id)  # type: ignore[attr-defined]
    assert index == 2
    assert len({future.task_id for future in futures}) == 3  # type: ignore[attr-defined]
    eventually(lambda: futures[2].stored)  # type: ignore[attr-defined]
    assert sys.getsizeof(futures[2]) < 160
    assert not vars(futures[2])
    assert "pending" in repr(futures[2])


def test_a_reduce_that_hangs_stops_its_own_thread_alone(executor: Executor) -> None:
    future = executor.submit(square, 3)
    cf.wait([future], 10)
    started, go_on = threading.Event(), threading.Event()

    import fxhpc.client.outcomes as module

    unpack = module.value_of

    def slow(outcome: Any) -> Any:
        started.set()
        assert go_on.wait(10)
        return unpack(outcome)

    module.value_of = slow  # type: ignore[assignment]
    try:
        reader = threading.Thread(target=future.result)
        reader.start()
        assert started.wait(10)
        assert executor.submit(square, 4).exception is not None
        with pytest.raises(cf.TimeoutError):
            future.result(0.01)
        go_on.set()
        reader.join(10)
    finally:
        module.value_of = unpack
    assert future.result(10) == 9

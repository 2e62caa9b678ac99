"""Futures in asyncio: awaited by thousands, cancelled, in several loops, as they end."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, errors
from fxhpc.client.futures.awaiting import Waiter, awaited_in
from fxhpc.protocol.service import CancelTasks
from tests.waiting import LIMIT, eventually

T = TypeVar("T")


def double(x: int) -> int:
    return 2 * x


def failing() -> None:
    raise LookupError("no such thing")


def stopping() -> None:
    raise StopIteration(3)


@pytest.fixture
def fake(forwarder: FakeForwarder) -> FakeForwarder:
    for function in (double, failing, stopping):
        forwarder.service.teach(function)
    return forwarder


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, LIMIT))


async def in_time(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, LIMIT)


def held(fake: FakeForwarder, executor: Executor, count: int) -> list[Any]:
    """Futures of tasks that do not begin, and are there."""
    fake.service.hold = True
    futures = [executor.submit(double, number) for number in range(count)]
    eventually(lambda: sum(map(len, fake.service.tasks.values())) >= count)
    return futures


def waiters_of(future: Any) -> list[Any]:
    return list(future._waiters)


def test_ten_thousand_are_awaited_with_few_wakes(fake: FakeForwarder, executor: Executor) -> None:
    woken = 0

    async def main() -> list[int]:
        nonlocal woken
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal woken
            woken += 1
            return call(*arguments, **options)

        loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
        futures: Any = held(fake, executor, 10_000)
        waiting = asyncio.gather(*futures)
        await asyncio.sleep(0)  # all are awaited
        fake.do(fake.service.run_held)
        return list(await waiting)

    assert run(main()) == [2 * number for number in range(10_000)]
    assert woken < 500


def test_what_the_function_raised_is_raised(fake: FakeForwarder, executor: Executor) -> None:
    async def main() -> None:
        with pytest.raises(LookupError, match="no such thing"):
            await executor.submit(failing)  # type: ignore[misc]
        with pytest.raises(RuntimeError, match="StopIteration"):
            await executor.submit(stopping)  # type: ignore[misc]

    run(main())


def test_one_that_has_ended_is_awaited_at_once(fake: FakeForwarder, executor: Executor) -> None:
    future: Any = executor.submit(double, 2)
    assert future.result(LIMIT) == 4

    async def main() -> int:
        return await future  # type: ignore[no-any-return]

    assert run(main()) == 4


def test_a_call_of_a_chunk_is_awaited(fake: FakeForwarder, executor: Executor) -> None:
    futures: Any = executor.map(double, range(5), chunksize=2).futures

    async def main() -> list[int]:
        return list(await asyncio.gather(*futures))

    assert run(main()) == [0, 2, 4, 6, 8]


def test_to_cancel_who_awaits_cancels_what_has_not_begun(
    fake: FakeForwarder, executor: Executor
) -> None:
    async def main() -> None:
        (future,) = held(fake, executor, 1)
        task = asyncio.ensure_future(future)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert future.cancelled()
        with pytest.raises(asyncio.CancelledError, match=future.task_id):
            await future

    run(main())


def test_what_runs_goes_on_and_can_be_awaited_again(
    fake: FakeForwarder, executor: Executor
) -> None:
    async def main() -> int:
        (future,) = held(fake, executor, 1)
        fake.do(fake.service.start)
        eventually(future.running)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(future, 0.01)
        assert not future.done()
        assert waiters_of(future) == []
        fake.do(fake.service.run_held)
        return await future  # type: ignore[no-any-return]

    assert run(main()) == 0


def test_a_task_that_somebody_cancelled(fake: FakeForwarder, executor: Executor) -> None:
    async def main() -> None:
        (future,) = held(fake, executor, 1)
        waiting = asyncio.ensure_future(future)
        await asyncio.sleep(0)
        assert await asyncio.to_thread(future.cancel)
        with pytest.raises(asyncio.CancelledError):
            await in_time(waiting)

    run(main())


def test_who_is_cancelled_does_not_wait_for_what_runs(fake: FakeForwarder) -> None:
    async def work(executor: Executor) -> None:
        with executor:
            (future,) = held(fake, executor, 1)
            fake.do(fake.service.start)
            eventually(future.running)
            await future

    async def main() -> None:
        task = asyncio.ensure_future(work(Executor(2)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    eventually(lambda: any(isinstance(m, CancelTasks) and m.interrupt for m in fake.service.seen))


def test_two_loops_await_one_future(fake: FakeForwarder, executor: Executor) -> None:
    (future,) = held(fake, executor, 1)
    found: list[int] = []

    async def main() -> None:
        found.append(await future)

    threads = [threading.Thread(target=run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(waiters_of(future)) == 2)
    fake.do(fake.service.run_held)
    for thread in threads:
        thread.join(LIMIT)
    assert found == [0, 0]


def test_a_loop_that_was_closed_holds_nobody_up(fake: FakeForwarder, executor: Executor) -> None:
    first, second = held(fake, executor, 2)

    async def main() -> None:
        Waiter(awaited_in(asyncio.get_running_loop()), lambda _: None).wait_for(first)

    run(main())
    fake.do(fake.service.run_held)
    assert second.result(LIMIT) == 2
    assert first.result(LIMIT) == 0


def test_nothing_of_a_loop_is_kept(fake: FakeForwarder, executor: Executor) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> int:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        return await executor.submit(double, 1)  # type: ignore[misc, no-any-return]

    run(main())
    gc.collect()
    assert loops[0]() is None


def test_as_they_end(fake: FakeForwarder, executor: Executor) -> None:
    async def main() -> None:
        futures = held(fake, executor, 6)
        found = aiter_of(executor.as_completed([*futures, futures[0]]))
        fake.do(lambda: fake.service.run_held(2))
        assert {await in_time(found()), await in_time(found())} == set(futures[:2])
        fake.do(fake.service.run_held)
        assert {await in_time(found()) for _ in range(4)} == set(futures[2:])
        with pytest.raises(StopAsyncIteration):
            await found()

    run(main())


def test_as_they_end_until_a_time_is_over(fake: FakeForwarder, executor: Executor) -> None:
    async def main() -> None:
        (future,) = held(fake, executor, 1)
        with pytest.raises(cf.TimeoutError, match=r"1 \(of 1\)"):
            async for _ in executor.as_completed([future], timeout=0.01):
                pass
        assert waiters_of(future) == []

    run(main())


def test_as_they_end_without_a_loop(fake: FakeForwarder, executor: Executor) -> None:
    futures = [executor.submit(double, number) for number in range(3)]
    assert {future.result() for future in executor.as_completed(futures, LIMIT)} == {0, 2, 4}
    mapped = executor.map(double, range(3), chunksize=2)
    assert {future.result() for future in executor.as_completed(mapped, LIMIT)} == {0, 2, 4}
    for given in ([1, 2], ["id"], 3):
        with pytest.raises(errors.UsageError, match=r"as_completed\(\) expects futures"):
            executor.as_completed(given)  # type: ignore[arg-type]


def aiter_of(iterable: Any) -> Callable[[], Any]:
    """What gives the next one: `anext` of Python 3.10."""
    return iterable.__aiter__().__anext__  # type: ignore[no-any-return]

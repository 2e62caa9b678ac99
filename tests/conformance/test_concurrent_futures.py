"""What users of `concurrent.futures` rely on, with real workers, as ProcessPoolExecutor has it."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import functools
import gc
import operator
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from fxhpc import Executor
from tests.waiting import LIMIT, eventually


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(2) as made:
        yield made


class Thing:
    """Something that a weak reference can point at."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def add(self, other: int) -> int:
        return self.number + other


def collatz(number: int) -> int:
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


def test_calls_of_every_kind(executor: Executor) -> None:
    offset = 5
    calls: list[tuple[Any, tuple[Any, ...], Any]] = [
        (pow, (2, 5), 32),
        (operator.neg, (3,), -3),
        (collatz, (27,), 111),
        (lambda x: x + offset, (1,), 6),
        (functools.partial(pow, 3), (2,), 9),
        (Thing(4).add, (3,), 7),
        ("abc".upper, (), "ABC"),
        (Thing, (8,), None),
    ]
    futures = [executor.submit(function, *args) for function, args, _ in calls]
    for future, (_, _, expected) in zip(futures[:-1], calls, strict=False):
        assert future.result(LIMIT) == expected
    made = futures[-1].result(LIMIT)
    assert type(made) is Thing
    assert made.number == 8


def test_keywords_that_executors_use_themselves(executor: Executor) -> None:
    assert executor.submit(dict, fn=1, self=2).result(LIMIT) == {"fn": 1, "self": 2}


def test_map(executor: Executor) -> None:
    assert list(executor.map(pow, range(10), range(10))) == [n**n for n in range(10)]
    assert list(executor.map(pow, range(40), range(40), chunksize=7)) == [n**n for n in range(40)]


def test_map_raises_at_its_place(executor: Executor) -> None:
    values = executor.map(divmod, [1, 1, 1], [2, 3, 0])
    assert next(values) == (0, 1)
    assert next(values) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_map_submits_at_once(executor: Executor) -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    executor.map(abs, source())
    assert taken == [0, 1, 2]


def test_map_times_out(executor: Executor) -> None:
    values = executor.map(time.sleep, [0, 0, 3], timeout=1)
    assert [next(values), next(values)] == [None, None]
    with pytest.raises(cf.TimeoutError):
        next(values)


def test_map_keeps_no_value(executor: Executor) -> None:
    for made in executor.map(Thing, range(5)):
        gone = weakref.ref(made)
        del made
        gc.collect()
        assert gone() is None


def test_wait(executor: Executor) -> None:
    quick, slow = executor.submit(pow, 2, 2), executor.submit(time.sleep, 1.0)
    done, rest = cf.wait([quick, slow], timeout=LIMIT, return_when=cf.FIRST_COMPLETED)
    assert (done, rest) == ({quick}, {slow})
    done, rest = cf.wait([quick, slow], timeout=LIMIT)
    assert not rest


def test_wait_for_the_first_exception(executor: Executor) -> None:
    slow = executor.submit(time.sleep, 2.0)
    failing = executor.submit(divmod, 1, 0)
    done, _ = cf.wait([slow, failing], timeout=LIMIT, return_when=cf.FIRST_EXCEPTION)
    assert failing in done
    assert slow not in done
    assert cf.wait([slow], timeout=LIMIT).done


def test_as_completed_with_futures_of_other_executors(executor: Executor) -> None:
    with cf.ThreadPoolExecutor(1) as threads:
        ours, theirs = executor.submit(pow, 2, 3), threads.submit(pow, 2, 4)
        found = {future.result() for future in cf.as_completed([ours, theirs, ours], LIMIT)}
    assert found == {8, 16}


def test_running(executor: Executor) -> None:
    future = executor.submit(time.sleep, 1.5)
    eventually(future.running)
    assert not future.cancel()
    assert not future.done()
    assert future.result(LIMIT) is None


def test_cancel_what_waits(executor: Executor) -> None:
    busy = [executor.submit(time.sleep, 0.5) for _ in range(4)]
    waiting = [executor.submit(pow, 2, n) for n in range(100)]
    cancelled = [future for future in reversed(waiting) if future.cancel()]
    assert waiting[-1] in cancelled
    _, rest = cf.wait([*busy, *waiting], timeout=LIMIT)
    assert not rest
    assert all(future.cancelled() for future in cancelled)


def test_callbacks(executor: Executor) -> None:
    seen: list[Any] = []
    called = threading.Event()
    future = executor.submit(pow, 2, 3)
    future.add_done_callback(lambda f: (seen.append(f.result()), called.set()))
    assert called.wait(LIMIT)
    assert seen == [8]


def test_a_tree_of_callbacks(executor: Executor) -> None:
    """Submissions made by callbacks, hundreds deep, use no stack and never wait."""
    ended = threading.Event()

    def again(future: cf.Future[int]) -> None:
        number = future.result()
        if number == 300:
            ended.set()
        else:
            executor.submit(operator.add, number, 1).add_done_callback(again)

    executor.submit(operator.add, 0, 1).add_done_callback(again)
    assert ended.wait(LIMIT)


def test_asyncio(executor: Executor) -> None:
    async def use() -> tuple[list[int], str]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, pow, 2, n) for n in range(20)]
        values = await asyncio.gather(*calls)
        try:
            await loop.run_in_executor(executor, divmod, 1, 0)
        except ZeroDivisionError:
            return values, "raised"
        return values, "nothing"

    assert asyncio.run(use()) == ([2**n for n in range(20)], "raised")


def test_asyncio_cancels(executor: Executor) -> None:
    async def use() -> cf.Future[Any]:
        busy = [executor.submit(time.sleep, 0.3) for _ in range(4)]
        future = executor.submit(pow, 2, 2)
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        await asyncio.sleep(0)  # the loop tells the executor in its next round
        cf.wait(busy, LIMIT)
        return future

    assert asyncio.run(use()).cancelled()


def test_shutdown_waits_and_refuses() -> None:
    executor = Executor(1)
    future = executor.submit(time.sleep, 0.2)
    executor.shutdown()
    assert future.done()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 2, 2)


def test_shutdown_with_cancel_lets_running_work_end() -> None:
    executor = Executor(1)
    running = executor.submit(time.sleep, 1.0)
    eventually(running.running)
    waiting = [executor.submit(pow, 2, n) for n in range(50)]
    executor.shutdown(cancel_futures=True)
    assert running.result(0) is None
    assert all(future.cancelled() for future in waiting)


def test_shutdown_without_waiting_finishes() -> None:
    executor = Executor(1)
    futures = [executor.submit(pow, 2, n) for n in range(20)]
    executor.shutdown(wait=False)
    assert [future.result(LIMIT) for future in futures] == [2**n for n in range(20)]


def test_globals_are_those_of_the_call(executor: Executor) -> None:
    """A function that refers to something is packed again when that has changed."""
    scope: dict[str, Any] = {"__name__": "__main__", "factor": 2}
    exec("def scaled(x): return x * factor", scope)
    assert executor.submit(scope["scaled"], 10).result(LIMIT) == 20
    scope["factor"] = 3
    assert executor.submit(scope["scaled"], 10).result(LIMIT) == 30

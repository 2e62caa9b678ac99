"""FuncXClient(asynchronous=True): tasks to be awaited in the place of ids."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import FuncXClient, errors
from fxhpc.protocol import service
from tests.waiting import LIMIT, eventually

T = TypeVar("T")
WHERE = {"endpoint_id": "local"}


def double(x: int) -> int:
    return 2 * x


def failing() -> None:
    raise StopIteration("deterministic failure")


@pytest.fixture
def fxc(forwarder: FakeForwarder) -> Iterator[FuncXClient]:
    forwarder.service.teach(double)
    forwarder.service.teach(failing)
    made = FuncXClient(embedded=True, wait=0.3, asynchronous=True)
    yield made
    made.close()


@pytest.fixture
def function(fxc: FuncXClient) -> str:
    return fxc.register_function(double)


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, LIMIT))


def fetches(forwarder: FakeForwarder) -> list[service.Fetch]:
    return [message for message in forwarder.service.seen if isinstance(message, service.Fetch)]


def test_run_gives_what_can_be_awaited(fxc: FuncXClient, function: str) -> None:
    async def main() -> None:
        task: Any = fxc.run(4, function_id=function, **WHERE)
        assert isinstance(task, asyncio.Future)
        assert await task == 8
        assert task.result() == 8  # as funcX's notebook has it
        assert str(task) == task.task_id
        assert f"{task!r}" == f"<AsyncTask {task} finished>"

    run(main())


def test_calls_take_it_for_its_id(fxc: FuncXClient, function: str) -> None:
    async def main() -> None:
        task: Any = fxc.run(4, function_id=function, **WHERE)
        await task
        assert fxc.get_result(task) == 8
        assert fxc.get_task(task)["result"] == 8
        assert fxc.get_batch_result([task])[str(task)]["result"] == 8
        assert fxc.wait([task]) == ([str(task)], [])
        assert list(fxc.as_completed([task])) == [str(task)]
        assert fxc.cancel(task) is False
        with pytest.raises(errors.NotAList):
            fxc.get_batch_result(task)

    run(main())


def test_a_batch_in_both_forms(fxc: FuncXClient, function: str) -> None:
    async def main() -> None:
        batch = fxc.create_batch()
        for number in range(3):
            batch.add(number, function_id=function, **WHERE)
        assert await asyncio.gather(*fxc.batch_run(batch)) == [0, 2, 4]
        later = fxc.create_batch()
        later.add(function, args=(5,))
        told = fxc.batch_run("local", later)
        assert await asyncio.gather(*told["tasks"][function]) == [10]

    run(main())


def test_errors_of_the_function(fxc: FuncXClient) -> None:
    function = fxc.register_function(failing)

    async def main() -> None:
        task: Any = fxc.run(function_id=function, **WHERE)
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await task
        assert isinstance(caught.value.__cause__, StopIteration)

    run(main())


def test_without_a_loop_nothing_is_submitted(
    fxc: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    with pytest.raises(errors.UsageError, match=r"none runs in this thread.*asyncio\.run"):
        fxc.run(1, function_id=function, **WHERE)
    batch = fxc.create_batch()
    batch.add(1, function_id=function, **WHERE)
    with pytest.raises(errors.UsageError, match="nothing was submitted"):
        fxc.batch_run(batch)
    assert not [one for one in forwarder.service.seen if isinstance(one, service.Submit)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_no_loop_is_refused_when_the_client_is_made(asynchronous: bool) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    for given, told in ((5, "loop=5: it is an event loop"), (closed, "it is closed")):
        with pytest.raises(errors.UsageError, match=told):
            FuncXClient(embedded=True, asynchronous=asynchronous, loop=given)


def test_with_a_loop_that_runs_later(fxc: FuncXClient, function: str) -> None:
    loop = asyncio.new_event_loop()
    try:
        fxc.loop = loop
        task: Any = fxc.run(3, function_id=function, **WHERE)
        assert loop.run_until_complete(asyncio.wait_for(task, LIMIT)) == 6
    finally:
        loop.close()
    with pytest.raises(errors.UsageError, match="closed"):
        fxc.run(3, function_id=function, **WHERE)
    fxc.loop = "asyncio"
    with pytest.raises(errors.UsageError, match="event loop"):
        fxc.run(3, function_id=function, **WHERE)


def test_a_late_one_does_not_wait_behind_an_early_one(
    fxc: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    async def main() -> None:
        forwarder.service.hold = True
        early: Any = fxc.run(1, function_id=function, **WHERE)
        eventually(lambda: len(fetches(forwarder)) == 1)
        forwarder.service.hold = False
        late: Any = fxc.run(2, function_id=function, **WHERE)
        assert await late == 4
        assert not early.done()
        assert len(forwarder.service.waiting) == 1  # nobody asks again and again for the early one
        forwarder.do(forwarder.service.run_held)
        assert await early == 2

    run(main())


def test_many_are_asked_for_in_few_questions(
    fxc: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    async def main() -> None:
        forwarder.service.hold = True
        batch = fxc.create_batch()
        for number in range(2_000):
            batch.add(number, function_id=function, **WHERE)
        tasks = fxc.batch_run(batch)
        forwarder.do(forwarder.service.run_held)
        assert await asyncio.gather(*tasks) == [2 * number for number in range(2_000)]

    run(main())
    assert len(fetches(forwarder)) < 20


def test_to_cancel_it_cancels_what_has_not_begun(
    fxc: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    async def main() -> None:
        forwarder.service.hold = True
        task: Any = fxc.run(1, function_id=function, **WHERE)
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        eventually(lambda: fxc.get_task(task)["status"] == "cancelled")

    run(main())


def test_one_that_somebody_cancels(
    fxc: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    async def main() -> None:
        forwarder.service.hold = True
        task: Any = fxc.run(1, function_id=function, **WHERE)
        assert fxc.cancel(str(task))
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_client_that_is_closed_says_so_to_those_who_ask(
    fxc: FuncXClient, function: str, forwarder: FakeForwarder, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        forwarder.service.hold = True
        tasks: Any = [fxc.run(number, function_id=function, **WHERE) for number in range(2)]
        fxc.close()
        with pytest.raises(errors.ForwarderError, match="closed before the task had ended"):
            await tasks[0]
        del tasks
        gc.collect()

    run(main())
    assert "never retrieved" not in caplog.text


def test_a_task_that_nobody_knows_any_more(
    fxc: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    async def main() -> None:
        forwarder.service.hold = True
        task: Any = fxc.run(1, function_id=function, **WHERE)
        forwarder.do(forwarder.service.tasks.clear)  # purged
        with pytest.raises(errors.TaskNotFound):
            await task

    run(main())


def test_ids_as_they_end(fxc: FuncXClient, function: str) -> None:
    async def main() -> list[str]:
        tasks = [fxc.run(number, function_id=function, **WHERE) for number in range(3)]
        found = [task_id async for task_id in fxc.as_completed(tasks, LIMIT)]
        assert sorted(found) == sorted(map(str, tasks))
        with pytest.raises(errors.InvalidUUID):
            fxc.as_completed(["nothing"])
        return found

    assert len(run(main())) == 3

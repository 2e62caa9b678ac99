"""Groups: their ids, counts and results as they come; the futures of a group's tasks."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import uuid

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient, errors
from fxhpc.client.futures.reloading import futures_of_group
from fxhpc.client.sending.submitter import Submitter
from fxhpc.client.task_group_ended import GroupEnded
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol.service import GroupStream, StreamSummary
from tests.waiting import LIMIT, eventually

WHERE = {"endpoint_id": "local"}
A, B = b"a" * 12, b"b" * 12


def double(x: int) -> int:
    if x < 0:
        raise ValueError("a negative one")
    return 2 * x


@pytest.fixture
def function(client: FuncXClient, forwarder: FakeForwarder) -> str:
    forwarder.service.teach(double)
    return client.register_function(double)


def part(stream: bytes, count: int, *ranges: int) -> GroupStream:
    return GroupStream(StreamSummary(stream, "", "", "", 0.0, {}), count, list(ranges))


# --- what has ended since -----------------------------------------------------------------------


def test_what_has_ended_is_told_once() -> None:
    group = GroupEnded()
    assert group.take([part(A, 6, 1, 2)]) == {A: [1, 2]}
    assert group.take([part(A, 6, 1, 2)]) == {}
    assert group.take([part(A, 6, 0, 5), part(B, 1)]) == {A: [0, 3, 4]}
    assert (group.pending, group.first_pending(9)) == (2, {A: [5], B: [0]})
    assert group.first_pending(1) == {A: [5]}


def test_a_group_that_grows_and_is_purged() -> None:
    group = GroupEnded()
    assert group.take([part(A, 1, 0, 1), part(B, 2)]) == {A: [0]}
    assert group.take([part(A, 3, 0, 2), part(B, 2)]) == {A: [1]}
    assert group.take([part(A, 3, 0, 2)]) == {}
    assert group.first_pending(9) == {A: [2]}


def test_a_million_are_compared_as_bytes() -> None:
    group = GroupEnded()
    assert len(group.take([part(A, 10**6, 0, 10**6 - 1)])[A]) == 10**6 - 1
    assert group.take([part(A, 10**6, 0, 10**6)]) == {A: [10**6 - 1]}
    assert group.pending == 0


# --- a client's groups --------------------------------------------------------------------------


def test_what_a_group_has(client: FuncXClient, function: str, forwarder: FakeForwarder) -> None:
    first = client.map_run(range(3), function_id=function, **WHERE)
    forwarder.service.hold = True
    second = client.map_run(range(2), function_id=function, **WHERE)
    group = client.group()
    assert group.task_group_id == client.session_task_group_id
    assert sorted(group.task_ids) == sorted([*first, *second])
    assert len(group) == 5
    assert group.counts() == {"success": 3, "waiting-for-nodes": 2}
    assert group
    assert not group.wait(0)


def test_chunks_are_counted_by_their_calls(client: FuncXClient, function: str) -> None:
    found = client.map_run(range(5), function_id=function, chunksize=2, **WHERE)
    group = client.group()
    assert group.task_ids == list(found)
    assert len(group) == 5
    assert group.counts() == {"success": 5}
    assert {name: told["result"] for name, told in group.results(LIMIT)} == dict(
        zip(found, (0, 2, 4, 6, 8), strict=True)
    )


def test_results_come_as_they_end(
    client: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    found = client.map_run([4, -1, 6], function_id=function, **WHERE)
    results = client.group().results(LIMIT)
    forwarder.do(lambda: forwarder.service.run_held(1))
    assert next(results) == (found[0], client.get_batch_result([found[0]])[found[0]])
    late = client.run(7, function_id=function, **WHERE)  # meanwhile, in the same group
    forwarder.do(forwarder.service.run_held)
    rest = dict(results)
    assert rest.keys() == {*found[1:], late}
    assert rest[late]["result"] == 14
    with pytest.raises(ValueError, match="a negative one"):
        rest[found[1]]["exception"].reraise()


def test_a_list_of_its_tasks(client: FuncXClient, function: str) -> None:
    found = client.map_run(range(3), function_id=function, **WHERE)
    listed = client.tasks(group=client.group())
    assert sorted(task["task_id"] for task in listed) == sorted(found)
    with pytest.raises(errors.UsageError, match=r"state=3: it is a state.*pending"):
        client.tasks(state=3)  # type: ignore[arg-type]


def test_what_is_submitted_while_the_last_is_looked_at_comes_too(
    client: FuncXClient, function: str
) -> None:
    found = [client.run(0, function_id=function, **WHERE)]
    read = []
    for name, _ in client.group().results(LIMIT):
        read.append(name)
        if len(found) < 4:
            found.append(client.run(len(found), function_id=function, **WHERE))
    assert read == found


def test_in_a_loop_too(client: FuncXClient, function: str) -> None:
    found = list(client.map_run(range(3), function_id=function, **WHERE))

    async def main() -> list[str]:
        read = []
        async for name, _ in client.group().results(LIMIT):
            read.append(name)
            if len(found) < 8:
                client.wait(found)  # the thread that reads ahead has come to the end
                found.extend(client.map_run(range(5), function_id=function, **WHERE))
        return read

    assert sorted(asyncio.run(main())) == sorted(found)


def test_results_are_waited_for_until_a_time_is_over(
    client: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    client.run(1, function_id=function, **WHERE)
    with pytest.raises(cf.TimeoutError, match="1 tasks of the group"):
        list(client.group().results(0.05))


def test_results_in_a_loop(client: FuncXClient, function: str) -> None:
    client.map_run(range(30), function_id=function, **WHERE)

    found = client.map_run(range(5), function_id=function, **WHERE)

    async def main() -> list[int]:
        assert [value async for value in found.results(LIMIT)] == [0, 2, 4, 6, 8]
        return [told["result"] async for _, told in client.group().results(LIMIT)]

    assert len(asyncio.run(main())) == 35


def test_to_cancel_a_group(client: FuncXClient, function: str, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    found = client.map_run(range(3), function_id=function, **WHERE)
    assert client.group(client.session_task_group_id).cancel() == dict.fromkeys(found, True)
    assert client.group().wait(LIMIT)


def test_a_group_that_nobody_knows(client: FuncXClient) -> None:
    with pytest.raises(errors.TaskGroupNotFound):
        client.group(uuid.uuid4())
    with pytest.raises(errors.InvalidUUID):
        client.group("no group")
    own = client.group()  # in which nothing was submitted yet
    assert (len(own), own.counts(), list(own.results()), own.wait()) == (0, {}, [], True)


# --- the futures of a group's tasks -------------------------------------------------------------


@pytest.fixture
def submitter(client: FuncXClient) -> Submitter:
    return Submitter(client._share, LOCAL_ENDPOINT, {"keep": True})


def test_futures_of_a_group(
    client: FuncXClient, function: str, forwarder: FakeForwarder, submitter: Submitter
) -> None:
    found = client.map_run([1, -1], function_id=function, **WHERE)
    calls = client.map_run(range(3), function_id=function, chunksize=2, **WHERE)
    forwarder.service.hold = True
    late = client.run(5, function_id=function, **WHERE)
    futures = futures_of_group(submitter, client.session_task_group_id)
    assert [future.task_id for future in futures] == [*found, *calls, late]  # type: ignore[attr-defined]
    *ended, open_one = futures
    assert ended[0].result(LIMIT) == 2
    with pytest.raises(ValueError, match="a negative one"):
        ended[1].result(LIMIT)
    assert [future.result(LIMIT) for future in ended[2:]] == [0, 2, 4]
    assert not open_one.done()
    again = futures_of_group(submitter, client.session_task_group_id)
    assert again[-1] is open_one
    forwarder.do(forwarder.service.run_held)
    assert open_one.result(LIMIT) == 10
    eventually(lambda: submitter.open == 0)
    assert not submitter.groups.by_stream
    submitter.close()


def test_to_cancel_one_of_them_cancels_it_there(
    client: FuncXClient, function: str, forwarder: FakeForwarder, submitter: Submitter
) -> None:
    forwarder.service.hold = True
    task = client.run(5, function_id=function, **WHERE)
    (future,) = futures_of_group(submitter, client.session_task_group_id)
    assert future.cancel()
    eventually(lambda: client.get_task(task)["status"] == "cancelled")
    submitter.close()


def test_who_leaves_at_once_leaves_the_tasks_of_others(
    client: FuncXClient, function: str, forwarder: FakeForwarder, submitter: Submitter
) -> None:
    forwarder.service.hold = True
    task = client.run(5, function_id=function, **WHERE)
    (future,) = futures_of_group(submitter, client.session_task_group_id)
    submitter.abort()
    assert future.cancelled()  # here
    assert client.get_task(task)["pending"]


def test_an_executor_without_a_group_says_so(executor: Executor, client: FuncXClient) -> None:
    with pytest.raises(errors.UsageError, match="task_group_id"):
        executor.reload_tasks()
    with pytest.raises(errors.TaskGroupNotFound):
        executor.reload_tasks(uuid.uuid4())

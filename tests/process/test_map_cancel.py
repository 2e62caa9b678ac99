"""Cancelling calls of chunks, by clients and by command: none that nobody named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fxhpc import Executor, FuncXClient, errors, ids
from fxhpc.testing.endpoint import RunningEndpoint
from tests.process.homes import TestHome
from tests.waiting import eventually


def same(x: Any) -> Any:
    return x


@pytest.fixture
def nowhere(client: FuncXClient, home: TestHome) -> tuple[str, str]:
    """An endpoint that is not started, on which tasks wait; and a function."""
    RunningEndpoint(home.path, "midway", managers=1, workers=1)
    return "midway", client.register_function(same)


def sent(client: FuncXClient, nowhere: tuple[str, str], elements: Any, chunksize: int) -> list[str]:
    endpoint, function = nowhere
    return client.map_run(elements, endpoint_id=endpoint, function_id=function, chunksize=chunksize)


def test_all_calls_of_chunks_that_are_not_all_full(
    client: FuncXClient, nowhere: tuple[str, str]
) -> None:
    client.max_payload = 3000
    found = sent(client, nowhere, [x * 1000 for x in "abcd"] + ["x"] * 5, 4)  # 2, 2, 4 and 1
    assert client.cancel(found[1:3]) == dict.fromkeys(found[1:3], False)
    assert client.cancel(found[2:4]) == dict.fromkeys(found[2:4], True)
    assert client.cancel(found) == dict.fromkeys(found, True)
    few = sent(client, nowhere, range(3), 100)
    assert client.cancel(few) == dict.fromkeys(few, True)
    one = sent(client, nowhere, [1], 100)
    assert client.cancel(one[0]) is True


def test_an_id_past_the_end_stands_for_no_other_call(
    client: FuncXClient, nowhere: tuple[str, str]
) -> None:
    found = sent(client, nowhere, range(10), 4)
    stream, _ = ids.parse_task_id(found[0])
    past, far = ids.task_id(stream, 2, 2), ids.task_id(stream, 3, 0)
    told = client.cancel([found[8], past, far])
    assert told == {found[8]: False, past: False, far: False}
    assert client.get_task(found[9])["pending"]
    told = client.cancel([found[8], found[9], past])
    assert told == {found[8]: True, found[9]: True, past: False}


def test_a_group_s_calls_are_all_named(client: FuncXClient, nowhere: tuple[str, str]) -> None:
    found = sent(client, nowhere, range(10), 4)
    single = sent(client, nowhere, range(2), 1)
    told = client.cancel(task_group_id=client.session_task_group_id)
    assert told == dict.fromkeys([*found, *single], True)


def test_a_command_cancels_no_call_that_nobody_named(
    client: FuncXClient, home: TestHome, nowhere: tuple[str, str]
) -> None:
    found = sent(client, nowhere, range(10), 4)
    stream, _ = ids.parse_task_id(found[0])
    short = stream.hex()[:8]
    refused = home.task("cancel", found[5])
    assert refused.returncode == 2
    assert "nothing was cancelled" in refused.stderr
    assert f"fxhpc task cancel {short}:1" in refused.stderr
    past = home.task("cancel", found[8], found[9], ids.task_id(stream, 2, 2))
    assert past.returncode == 1
    assert f"Chunk {short}:2 has 2 calls" in past.stderr
    assert [one["status"] for one in client.get_batch_result(found).values()] == [
        "waiting-for-ep"
    ] * 10
    assert "1 task cancelled" in home.task("cancel", found[8], found[9]).stdout
    assert "1 task cancelled" in home.task("cancel", f"{short}:1").stdout
    states = [one["status"] for one in client.get_batch_result(found).values()]
    assert states == ["waiting-for-ep"] * 4 + ["cancelled"] * 6
    listed = home.task("list", "--all").stdout
    assert all(f"{short}:{index} " in listed for index in range(3))


def test_what_is_told_of_a_call(
    client: FuncXClient, home: TestHome, nowhere: tuple[str, str]
) -> None:
    _, function = nowhere
    found = client.map_run(range(6), endpoint_id="local", function_id=function, chunksize=4)
    assert list(found.results(60)) == [*range(6)]
    stream, _ = ids.parse_task_id(found[0])
    shown = json.loads(home.task("show", found[5], "--json").stdout)
    assert (shown["chunk"], shown["result"]) == (f"{stream.hex()[:8]}:1", "5")
    for command in ("show", "explain"):
        ended = home.task(command, ids.task_id(stream, 1, 2))
        assert ended.returncode == 1
        assert "not found" in ended.stderr
        assert f"Chunk {stream.hex()[:8]}:1 has 2 calls" in ended.stderr
    with pytest.raises(errors.TaskNotFound):
        client.get_result(ids.task_id(stream, 1, 2))


def test_all_calls_of_an_executor_s_chunks(
    client: FuncXClient, home: TestHome, nowhere: tuple[str, str]
) -> None:
    with Executor(client=client, endpoint_id=nowhere[0]) as executor:
        futures: Any = executor.map(same, range(11), chunksize=4).futures
        eventually(lambda: all(future.stored for future in futures))
        found = [future.task_id for future in futures]
        assert client.cancel(found[8:10]) == dict.fromkeys(found[8:10], False)
        refused = home.task("cancel", *found[8:10])
        assert refused.returncode == 2
        assert "one of the 3 calls of a chunk" in refused.stderr
        assert "1 task cancelled" in home.task("cancel", *found[8:]).stdout
        assert client.cancel(found[:8]) == dict.fromkeys(found[:8], True)
        eventually(lambda: all(future.cancelled() for future in futures))

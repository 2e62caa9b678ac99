"""map_run in chunks, through a home: calls have ids, results, errors and losses of their own."""

from __future__ import annotations

import functools
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from lives import titled

from fxhpc import FuncXClient, errors, ids
from tests.process.homes import TestHome
from tests.waiting import eventually

LOCAL = "local"


def call(x: int, killers: tuple[int, ...] = (), notes: str = "") -> int:
    if notes:
        with open(notes, "a") as file:
            file.write(f"{x}\n")
    if x in killers:
        os.kill(os.getpid(), signal.SIGKILL)
    if x == 13:
        raise ValueError("thirteen")
    if x == 14:
        os._exit(5)
    return 2 * x


def stay(folder: str, x: int) -> int:
    path = Path(folder, str(x))
    path.touch()
    while path.exists():
        os.sched_yield()
    return x


def test_each_call_ends_on_its_own(client: FuncXClient, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    function = client.register_function(call)
    found = client.map_run(
        range(100),
        endpoint_id=LOCAL,
        function_id=function,
        chunksize=10,
        killers=(27, 55, 56),
        notes=str(notes),
    )
    assert len(set(found)) == 100
    told = client.get_batch_result(found, timeout=60)
    bad = {x: told[name]["exception"] for x, name in enumerate(found) if "result" not in told[name]}
    assert sorted(bad) == [13, 14, 27, 55, 56]
    assert [told[name].get("result") for name in found] == [
        None if x in bad else 2 * x for x in range(100)
    ]
    for x in (27, 55, 56):
        with pytest.raises(errors.WorkerDied) as died:
            bad[x].reraise()
        assert died.value.task_id == found[x]
        assert len(died.value.attempts) == 2
    with pytest.raises(errors.TaskExited):
        client.get_result(found[14])
    with pytest.raises(ValueError, match="thirteen"):
        client.get_result(found[13])
    # Three deaths of each culprit, and none of a call in another chunk.
    ran = Counter(map(int, notes.read_text().split()))
    assert {ran[x] for x in (27, 55, 56)} == {3}
    assert {ran[x] for x in (*range(10), *range(30, 50), *range(60, 100))} == {1}


def test_another_process_finds_a_call_by_its_id(client: FuncXClient, home: TestHome) -> None:
    function = client.register_function(call)
    found = client.map_run(range(7), endpoint_id=LOCAL, function_id=function, chunksize=3)
    assert list(found.results(60)) == [2 * x for x in range(7)]
    with FuncXClient(home=home.path, workers=1) as other:
        assert [other.get_result(name) for name in found] == [2 * x for x in range(7)]
        told = other.get_task(found[6])
        assert (told["status"], told["result"]) == ("success", 12)
        assert {"chunk_ran_s", "chunk_started", "chunk_ended"} <= told["details"].keys()
        assert "started" not in told["details"]  # of the call itself nobody knows that
        stream, _ = ids.parse_task_id(found[6])
        with pytest.raises(errors.TaskNotFound):
            other.get_result(ids.task_id(stream, 2, 1))  # its chunk has one call
        assert sorted(other.as_completed([*found, found[0]])) == sorted(found)
        assert other.wait([*found], timeout=10) == ([*found], [])


def test_calls_are_cancelled_together(client: FuncXClient, tmp_path: Path) -> None:
    folder = tmp_path / "begun"
    folder.mkdir()
    function = client.register_function(functools.partial(stay, str(folder)))
    busy = client.map_run(range(2), endpoint_id=LOCAL, function_id=function)
    eventually(lambda: len(os.listdir(folder)) == 2)
    found = client.map_run(range(10, 20), endpoint_id=LOCAL, function_id=function, chunksize=4)
    assert client.cancel(found[0]) is False
    assert client.cancel(found[1:4]) == dict.fromkeys(found[1:4], False)
    assert client.cancel(found[4:]) == dict.fromkeys(found[4:], True)  # the last one has two calls
    with pytest.raises(errors.TaskCancelled):
        client.get_result(found[9])

    def let_go() -> bool:
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        return not client.wait(busy + found, timeout=0)[1]

    eventually(let_go)
    assert [client.get_result(name) for name in found[:4]] == [10, 11, 12, 13]


def test_killed_forwarders_and_managers_lose_no_call(client: FuncXClient, home: TestHome) -> None:
    function = client.register_function(call)
    found: list[str] = []
    for round_ in range(3):
        first = 1000 * (round_ + 1)
        found += client.map_run(
            range(first, first + 1000), endpoint_id=LOCAL, function_id=function, chunksize=50
        )
        for process in (*titled(home, "fxhpc: forwarder"), *titled(home, "fxhpc: manager")):
            process.kill()
    told = client.get_batch_result(found, timeout=60)
    assert [told[name].get("result") for name in found] == [
        2 * x for first in (1000, 2000, 3000) for x in range(first, first + 1000)
    ]


def test_arguments_of_any_kind(client: FuncXClient) -> None:
    function = client.register_function(lambda x: type(x).__name__)
    values = [1, "text", b"bytes", None, [1], {"a": 2}, range(3), "x" * 100_000]
    found = client.map_run(values, endpoint_id=LOCAL, function_id=function, chunksize=3)
    assert list(found.results(60)) == [type(value).__name__ for value in values]
    client.max_payload = 50_000
    with pytest.raises(errors.PayloadTooLarge):
        client.map_run(values, endpoint_id=LOCAL, function_id=function, chunksize=3)


def test_without_retries_each_call_is_a_task(client: FuncXClient) -> None:
    client.retries = 0
    function = client.register_function(call)
    found = client.map_run(
        range(6), endpoint_id=LOCAL, function_id=function, chunksize=3, killers=(1,)
    )
    told = client.get_batch_result(found, timeout=60)
    assert [told[name].get("result") for name in found] == [0, None, 4, 6, 8, 10]


@pytest.mark.parametrize("size", [0, -1, 2**15, 1.5, "3"])
def test_a_chunk_has_a_number_of_calls(client: FuncXClient, size: object) -> None:
    with pytest.raises(errors.UsageError, match="chunksize"):
        client.map_run([1], endpoint_id=LOCAL, function_id="x", chunksize=size)  # type: ignore[arg-type]


def test_calls_that_spill(client: FuncXClient) -> None:
    client.max_payload, client.on_exceed = 20_000, "spill"
    function = client.register_function(bytes)
    sizes = [10, 50_000, 20, 60_000, 30]
    found = client.map_run(sizes, endpoint_id=LOCAL, function_id=function, chunksize=3)
    assert [len(value) for value in found.results(60)] == sizes
    client.on_exceed = "error"
    found = client.map_run(sizes, endpoint_id=LOCAL, function_id=function, chunksize=3)
    told = client.get_batch_result(found, timeout=60)
    assert ["result" in told[name] for name in found] == [True, False, True, False, True]
    with pytest.raises(errors.MaxResultSizeExceeded):
        client.get_result(found[1])


def test_commands_know_calls(client: FuncXClient, home: TestHome) -> None:
    function = client.register_function(call)
    found = client.map_run(range(12, 16), endpoint_id=LOCAL, function_id=function, chunksize=2)
    assert not client.wait(found, timeout=60)[1]
    show = "import sys; from fxhpc.cli.main import main; main(sys.argv[1:])"
    assert "24" in home.run("show.py", show, "task", "show", found[0])
    assert "thirteen" in home.run("show.py", show, "task", "show", found[1])
    listed = client.tasks()
    assert [one["task_id"] for one in listed] == [found[2], found[0]]
    assert [one["calls"] for one in listed] == [2, 2]

"""F9, F10, F12: limits of arguments and results, answers about tasks, changed functions."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fxhpc import Executor, FuncXClient, errors
from fxhpc.forwarder.home import Home
from fxhpc.ids import new_id
from fxhpc.serialize import pack_arguments
from fxhpc.serialize.data import pack_result
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT as LIMIT
from tests.faults.figures import record_figure
from tests.process.homes import TestHome
from tests.waiting import eventually


def length(data: bytes) -> int:
    return len(data)


def zeros(count: int) -> bytes:
    return bytes(count)


def double(x: int) -> int:
    return 2 * x


def _overhead(pack: Any, count: int) -> int:
    return len(pack(bytes(count))) - count


@pytest.mark.parametrize("target", ["home", "embedded"])
def test_f09_arguments_are_limited_to_the_byte(client: FuncXClient, target: str) -> None:
    """F9: limit - 1 and limit are run, limit + 1 and 100 MB are refused before anything is sent;
    what counts are the packed bytes."""
    few = LIMIT - _overhead(lambda data: pack_arguments((data,), {}, 2 * LIMIT), LIMIT)
    if target == "home":
        function = client.register_function(length)

        def run(count: int) -> int:
            task = client.run(bytes(count), endpoint_id="local", function_id=function)
            return int(client.get_result(task, timeout=60))

        executor = None
    else:
        executor = Executor(1)

        def run(count: int) -> int:
            assert executor is not None
            return executor.submit(length, bytes(count)).result(timeout=60)

    try:
        for count in (few - 1, few):
            assert run(count) == count
        with pytest.raises(errors.PayloadTooLarge) as caught:
            run(few + 1)
        for word in (f"{LIMIT + 1:,}", f"{LIMIT:,}", "max_payload"):
            assert word in str(caught.value)
        began = time.perf_counter()
        with pytest.raises(errors.PayloadTooLarge, match="max_payload"):
            run(100_000_000)
        record_figure("F9", f"100 MB refused, {target}", (time.perf_counter() - began) * 1e6, "us")
        small = bytes(few + 1)
        began = time.perf_counter()
        for _ in range(20):
            with pytest.raises(errors.PayloadTooLarge):
                pack_arguments((small,), {}, LIMIT)
        each = (time.perf_counter() - began) / 20 * 1e6
        record_figure("F9", "limit + 1 refused", each, "us")
    finally:
        if executor is not None:
            executor.shutdown()


def test_f09_results_are_limited_to_the_byte(client: FuncXClient) -> None:
    """F9: the same for what a function returns; its task fails by the size and the limit, and
    nothing else is harmed."""
    few = LIMIT - _overhead(lambda data: pack_result(data, 2 * LIMIT), LIMIT)
    function = client.register_function(zeros)
    counts = [few - 1, few, few + 1, 100_000_000, 3]
    ids = client.map_run(counts, endpoint_id="local", function_id=function)
    for task, count in zip(ids, counts, strict=True):
        if count <= few:
            assert len(client.get_result(task, timeout=60)) == count
            continue
        with pytest.raises(errors.MaxResultSizeExceeded) as caught:
            client.get_result(task, timeout=60)
        told = [int(number) for number in re.findall(r"\d{7,}", str(caught.value).replace(",", ""))]
        assert told[1] == LIMIT
        assert told[0] == LIMIT + count - few or count == 100_000_000


def test_f10_results_are_there_for_whoever_asks_again(client: FuncXClient, home: TestHome) -> None:
    """F10: a result is the same however often and by whomever it is fetched; what nobody knows is
    told as unknown, by each call alike; an Executor's results are its own, and go when it has
    them."""
    function = client.register_function(double)
    task = client.run(4, endpoint_id="local", function_id=function)
    for _ in range(3):
        assert client.get_result(task, timeout=60) == 8
        assert client.get_batch_result([task, task])[task]["result"] == 8
    code = "import sys; from fxhpc import FuncXClient; print(FuncXClient().get_result(sys.argv[1]))"
    assert home.run("other.py", code, task) == "8\n"
    for unknown in (task[:28] + "ffffff00", new_id()):
        for ask in (client.get_result, client.get_task):
            with pytest.raises(errors.TaskNotFound, match=unknown):
                ask(unknown)
        found = client.get_batch_result([unknown, task])
        assert found[unknown]["status"] == "unknown"
        with pytest.raises(errors.TaskNotFound, match=unknown):
            found[unknown]["exception"].reraise()
        assert client.cancel(unknown) is False
        assert client.cancel([unknown, task]) == {unknown: False, task: False}
        assert client.wait([unknown], timeout=5)[0] == [unknown]
    for ask in (client.get_result, client.get_task, client.cancel):
        with pytest.raises(errors.InvalidUUID, match="nonsense"):
            ask("nonsense")
    with Executor(client=client) as executor:
        future = executor.submit(double, 5)
        assert future.result(timeout=60) == 10
        own: str = future.task_id  # type: ignore[attr-defined]

    def is_unknown() -> bool:
        return client.get_batch_result([own])[own]["status"] == "unknown"

    eventually(is_unknown)


def test_f12_a_function_that_was_changed_in_the_store_is_refused(
    home: TestHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """F12: somebody has edited a registered function. Its hash is another: it never runs, the
    error names the function, other functions go on."""
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    trace = tmp_path / "was here"
    with FuncXClient() as client:
        good, bad = client.register_function(double), client.register_function(length)
    eventually(lambda: Home(home.path).read_owner() is None)
    body = f"cos\nsystem\n(S'touch {trace}'\ntR.".encode()
    with closing(sqlite3.connect(Home(home.path).store)) as store, store:
        (record,) = store.execute("SELECT record FROM function WHERE id = ?", (bad,)).fetchone()
        bodies = [digest for (digest,) in store.execute("SELECT digest FROM body")]
        (digest,) = [digest for digest in bodies if digest in record]
        store.execute(
            "UPDATE body SET data = ?, size = ? WHERE digest = ?", (body, len(body), digest)
        )
    with FuncXClient() as client:
        ids = client.map_run([b"x", b"y"], endpoint_id="local", function_id=bad)
        for task in ids:
            with pytest.raises(errors.TaskLost) as caught:
                client.get_result(task, timeout=60)
            assert bad in str(caught.value)
            assert "SHA-256" in str(caught.value)
        assert bad in str(client.get_task(ids[0])["exception"])
        after = client.run(3, endpoint_id="local", function_id=good)
        assert client.get_result(after, timeout=60) == 6
    assert not trace.exists()

"""Ctrl-C in a wait for calls of chunks: none ends that nobody waited for."""

from __future__ import annotations

import concurrent.futures as cf
import threading
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient
from fxhpc.client import tasks
from fxhpc.protocol.service import CancelTasks
from tests.waiting import LIMIT, eventually


@pytest.fixture(autouse=True)
def _held(forwarder: FakeForwarder) -> None:
    forwarder.service.teach(abs)
    forwarder.service.hold = True


@pytest.fixture
def calls(client: FuncXClient) -> list[str]:
    """Ten, in chunks of four, four and two."""
    function = client.register_function(abs)
    return client.map_run(range(10), endpoint_id="local", function_id=function, chunksize=4)


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def ended(forwarder: FakeForwarder) -> list[list[int]]:
    """The tasks that are to end, though they run."""
    done = threading.Event()
    forwarder.do(done.set)
    assert done.wait(LIMIT)
    cancels = [one for one in forwarder.service.seen if isinstance(one, CancelTasks)]
    return [part.ranges for one in cancels if one.interrupt for part in one.tasks]


@pytest.mark.parametrize(
    ("waited_for", "expected"),
    [
        (slice(1), []),
        (slice(1, 4), []),
        (slice(4), [[0, 1]]),
        (slice(5), [[0, 1]]),
        (slice(3, 10), [[1, 2]]),
        (slice(8, 10), [[2, 1]]),
        (slice(None), [[0, 3]]),
    ],
)
def test_chunks_end_of_which_all_calls_were_waited_for(
    client: FuncXClient,
    calls: list[str],
    forwarder: FakeForwarder,
    monkeypatch: pytest.MonkeyPatch,
    waited_for: slice,
    expected: list[list[int]],
) -> None:
    monkeypatch.setattr(tasks, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.wait(calls[waited_for])
    assert ended(forwarder) == expected


def test_a_wait_for_one_result_ends_no_other_call(
    client: FuncXClient,
    calls: list[str],
    forwarder: FakeForwarder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(client._results, "state", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.get_result(calls[0])
    assert ended(forwarder) == []
    forwarder.do(forwarder.service.run_held)
    assert [client.get_result(call, timeout=LIMIT) for call in calls] == [*range(10)]


@pytest.mark.parametrize("runs", [False, True])
def test_a_future_s_chunk_ends_with_its_last_call_that_is_wanted(
    executor: Executor, forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    futures = executor.map(abs, range(6), chunksize=3).futures
    assert not futures[1].cancel()
    eventually(lambda: [len(known) for known in forwarder.service.tasks.values()] == [2])
    if runs:
        forwarder.do(forwarder.service.start)
        eventually(futures[0].running)
    with monkeypatch.context() as patched:
        patched.setattr(cf.Future, "exception", interrupted)
        for future in (futures[0], futures[0], futures[3]):
            with pytest.raises(KeyboardInterrupt):
                future.result()
        assert ended(forwarder) == []
        with pytest.raises(KeyboardInterrupt):
            futures[2].exception()
    assert ended(forwarder) == [[0, 1]]
    eventually(lambda: all(future.cancelled() for future in futures[:3]))
    forwarder.do(forwarder.service.run_held)
    assert [future.result(LIMIT) for future in futures[3:]] == [3, 4, 5]

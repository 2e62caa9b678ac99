"""Who waits with a time limit does not sit until it is certain that the home gives no answer."""

from __future__ import annotations

import concurrent.futures as cf
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import FuncXClient, errors
from fxhpc.client import tasks
from fxhpc.protocol import service

ENDPOINT = "4b116d3c-1703-4f8f-9f6f-39921e5864df"


def double(x: int) -> int:
    return 2 * x


@pytest.fixture
def ids(
    client: FuncXClient, forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Tasks whose forwarder takes questions about them, and answers none."""
    forwarder.service.teach(double)
    forwarder.service.hold = True
    function = client.register_function(double)
    made = list(client.map_run(range(3), endpoint_id=ENDPOINT, function_id=function))
    answer = forwarder.service.handle

    def hang(peer: Any, message: Any) -> None:
        if not isinstance(message, service.Fetch):
            answer(peer, message)

    monkeypatch.setattr(tasks, "ANSWER_S", 0.1)
    monkeypatch.setattr(forwarder.service, "handle", hang)
    begun = time.monotonic()
    yield made
    assert time.monotonic() - begun < 5.0


def test_get_result_says_that_there_is_no_answer(client: FuncXClient, ids: list[str]) -> None:
    with pytest.raises(errors.TaskPending, match="gives no answer"):
        client.get_result(ids[0], timeout=0.1)


def test_get_batch_result_tells_of_pending_tasks(client: FuncXClient, ids: list[str]) -> None:
    told = client.get_batch_result(ids, timeout=0.1)
    assert list(told) == ids
    assert all(one["pending"] and "gives no answer" in one["reason"] for one in told.values())


@pytest.mark.parametrize("when", [cf.ALL_COMPLETED, cf.FIRST_COMPLETED])
def test_wait_returns_them_as_not_ended(client: FuncXClient, ids: list[str], when: str) -> None:
    assert client.wait(ids, timeout=0.1, return_when=when) == ([], ids)


def test_as_completed_and_groups_end_by_their_time(client: FuncXClient, ids: list[str]) -> None:
    with pytest.raises(cf.TimeoutError, match="3 \\(of 3\\)"):
        list(client.as_completed(ids, timeout=0.1))
    assert not client.group().wait(0.1)

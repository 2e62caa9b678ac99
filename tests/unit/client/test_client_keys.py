"""Idempotency keys: the same submission is the same tasks; another one is refused in words.

The forwarder is fxhpc's own, without a manager: nothing runs.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fxhpc import FuncXClient, ShellFunction, errors, ids
from fxhpc.protocol import service
from tests.waiting import eventually


def square(x: int) -> int:
    return x * x


def cube(x: int) -> int:
    return x**3


@dataclass(frozen=True)
class Point:
    x: float

    def scaled(self, by: float) -> float:
        return self.x * by


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuncXClient]:
    path = tmp_path_factory.mktemp("keys") / "store.db"
    with FuncXClient(embedded=True, path=str(path)) as made:
        yield made


@pytest.fixture(autouse=True)
def _group(client: FuncXClient) -> None:
    client.session_task_group_id = str(uuid.uuid4())


@pytest.fixture
def key() -> str:
    return f"key {uuid.uuid4()}"


def count(client: FuncXClient) -> int:
    """Tasks of this test."""
    return len(client.tasks(limit=10_000, group=client.session_task_group_id))


def test_a_call(client: FuncXClient, key: str) -> None:
    function = client.register_function(square)
    first = client.run(7, endpoint_id="local", function_id=function, idempotency_key=key)
    again = client.run(7, endpoint_id="local", function_id=function, idempotency_key=key)
    other = client.run(7, endpoint_id="local", function_id=function, idempotency_key=f"{key} b")
    named = uuid.uuid4()
    keyed = {
        client.run(7, endpoint_id="local", function_id=function, idempotency_key=given)
        for given in (named, str(named))
    }
    assert first == again != other
    assert len(keyed) == 1
    assert count(client) == 3
    assert client.get_task(first)["details"]["idempotency_key"] == key
    assert client.tasks(limit=1)[0]["idempotency_key"] == str(named)


def test_the_key_is_no_argument_of_the_function(client: FuncXClient, key: str) -> None:
    function = client.register_function(square)
    first = client.run(x=7, endpoint_id="local", function_id=function, idempotency_key=key)
    args = {"endpoint_id": "local", "function_id": function}
    assert client.run(**args, x=7, idempotency_key=key) == first  # type: ignore[arg-type]


def batch_of(client: FuncXClient, key: str, *calls: tuple[str, Any]) -> Any:
    batch = client.create_batch(idempotency_key=key)
    for function, argument in calls:
        batch.add(argument, endpoint_id="local", function_id=function)
    return client.batch_run(batch)


def test_a_batch_of_several_functions(client: FuncXClient, key: str) -> None:
    one, two = client.register_function(square), client.register_function(cube)
    calls = [(one, 1), (two, 2), (one, {"texts", "in", "a", "set"}), (two, Point(2.0))]
    first = batch_of(client, key, *calls)
    assert len(set(first)) == 4
    assert batch_of(client, key, *calls) == first
    # A script that is run again registers its functions again.
    one, two = client.register_function(square), client.register_function(cube)
    calls = [(one, 1), (two, 2), (one, {"texts", "in", "a", "set"}), (two, Point(2.0))]
    assert batch_of(client, key, *calls) == first
    assert count(client) == 4


def test_the_newer_form_of_a_batch(client: FuncXClient, key: str) -> None:
    function = client.register_function(square)
    found = []
    for _ in range(2):
        batch = client.create_batch(idempotency_key=key)
        batch.add(function, args=(3,))
        found.append(client.batch_run("local", batch)["tasks"][function])
    assert found[0] == found[1]
    assert count(client) == 1


def test_other_work_under_the_same_key_is_refused(client: FuncXClient, key: str) -> None:
    one, two = client.register_function(square), client.register_function(cube)
    first = batch_of(client, key, (one, 1), (one, 2))
    for calls in (
        [(one, 1), (one, 3)],
        [(one, 2), (one, 1)],
        [(one, 1)],
        [(one, 1), (one, 2), (one, 3)],
        [(two, 1), (two, 2)],
        [(one, 1), (one, 2), (two, 3)],
        [(one, 1), (one, 2.0)],
        [(one, 1), (one, Point(2))],
    ):
        with pytest.raises(
            errors.IdempotencyConflict, match=f"{key}.*{first[0]}.*Nothing"
        ) as raised:
            batch_of(client, key, *calls)
        assert isinstance(raised.value, errors.UsageError)
        assert (raised.value.key, raised.value.task_id) == (key, first[0])
    with pytest.raises(errors.IdempotencyConflict):
        client.run(1, endpoint_id="local", function_id=one, idempotency_key=key)
    assert count(client) == 2
    assert batch_of(client, key, (one, 1), (one, 2)) == first


def shift(by: int) -> Callable[[int], int]:
    return lambda x: x + by


def test_a_function_with_the_same_source_that_does_something_else(
    client: FuncXClient, key: str
) -> None:
    one, other = lambda x: x + 1, lambda x: x + 100
    pairs: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
        (shift(1), shift(100)),
        (one, other),
        (Point(1).scaled, Point(100).scaled),
        (ShellFunction("echo"), ShellFunction("echo", stdout="out")),
    ]
    for number, (first, second) in enumerate(pairs):

        def run(function: Callable[..., Any], under: str = f"{key} {number}") -> str:
            known = client.register_function(function, function_name="f")
            return client.run(1, endpoint_id="local", function_id=known, idempotency_key=under)

        found = run(first)
        with pytest.raises(errors.IdempotencyConflict):
            run(second)
        assert run(first) == found
    assert count(client) == 4


def test_a_function_that_cannot_be_told_is_what_was_registered(
    client: FuncXClient, key: str
) -> None:
    views: tuple[Any, Any] = {1: 2}.keys(), {2: 1}.keys()
    one, other = (
        client.register_function(partial(square, view), function_name="f") for view in views
    )
    first = batch_of(client, key, (one, 1))
    assert batch_of(client, key, (one, 1)) == first
    with pytest.raises(errors.IdempotencyConflict):
        batch_of(client, key, (other, 1))


def test_what_else_is_said_of_the_tasks_is_that_of_the_first(client: FuncXClient, key: str) -> None:
    function = client.register_function(square)
    client.labels = "first"
    first = client.run(1, endpoint_id="local", function_id=function, idempotency_key=key)
    client.labels = "second"
    group, client.session_task_group_id = client.session_task_group_id, str(uuid.uuid4())
    assert client.run(1, endpoint_id="local", function_id=function, idempotency_key=key) == first
    client.labels = None
    assert client.get_task(first)["details"]["labels"] == ["first"]
    assert client.get_task(first)["details"]["task_group_id"] == group


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_map(client: FuncXClient, key: str, chunksize: int) -> None:
    function = client.register_function(square)

    def mapped(*items: Any, size: int = chunksize) -> list[str]:
        where = {"endpoint_id": "local", "function_id": function}
        return client.map_run(
            iter(items),
            chunksize=size,
            idempotency_key=key,
            **where,  # type: ignore[arg-type]
        )

    first = mapped(1, 2, 3, 4)
    assert len(set(first)) == 4
    assert mapped(1, 2, 3, 4) == first
    for items, size in (
        ((1, 2, 3), chunksize),
        ((1, 2, 3, "4"), chunksize),
        ((1, 2, 3, 4), 2),
        ((1, 2, 3, 4), 4),
    ):
        with pytest.raises(errors.IdempotencyConflict):
            mapped(*items, size=size)
    assert mapped() == []
    assert mapped(1, 2, 3, 4) == first


def test_large_arguments_are_the_same_whatever_was_packed_before(
    client: FuncXClient, key: str
) -> None:
    function = client.register_function(square)
    large, other = b"x" * 100_000, [b"y" * 100_000, Point(1)]
    found = []
    for given in (large, bytes(bytearray(large))):
        batch = client.create_batch(idempotency_key=key)
        for argument in (given, 1, given, other):
            batch.add(argument, endpoint_id="local", function_id=function)
        found.append(client.batch_run(batch))
        client.run(given, endpoint_id="local", function_id=function)  # what a client has packed
        client.run(given, endpoint_id="local", function_id=function)
        single = client.run(
            given, endpoint_id="local", function_id=function, idempotency_key=f"{key} b"
        )
        found[-1].append(single)
    assert found[0] == found[1]


def test_what_is_no_key(client: FuncXClient) -> None:
    function = client.register_function(square)
    where: Any = {"endpoint_id": "local", "function_id": function}
    wrong: list[Any] = ["", "x" * 201, "a\nb", "\ud800", 7, b"a", ["a"]]
    for given in wrong:
        with pytest.raises(errors.UsageError, match="idempotency_key="):
            client.create_batch(idempotency_key=given)
        with pytest.raises(errors.UsageError, match="idempotency_key="):
            client.run(1, idempotency_key=given, **where)
        with pytest.raises(errors.UsageError, match="idempotency_key="):
            client.map_run([1], idempotency_key=given, **where)
    assert count(client) == 0


def test_a_function_that_nobody_knows(client: FuncXClient, key: str) -> None:
    unknown = ids.new_id()
    with pytest.raises(errors.FunctionNotFound):
        client.run(1, endpoint_id="local", function_id=unknown, idempotency_key=key)


def test_the_ids_are_those_of_the_home(tmp_path: Path, key: str) -> None:
    found = []
    for name in ("one", "one", "other"):
        with FuncXClient(embedded=True, path=str(tmp_path / name)) as client:
            function = client.register_function(square)
            task = client.run(1, endpoint_id="local", function_id=function, idempotency_key=key)
            found.append(task)
            assert len(client.tasks()) == 1
            with pytest.raises(errors.IdempotencyConflict):
                client.run(2, endpoint_id="local", function_id=function, idempotency_key=key)
    assert found[0] == found[1] != found[2]


def test_what_was_interrupted_is_completed_and_not_cancelled(
    client: FuncXClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxhpc.client.sending.streams.MESSAGE_BYTES", 1)
    function = client.register_function(square)
    calls = [(function, n) for n in range(2500)]
    connection = client._attached().connection
    call, sent = connection.call, []

    def interrupted(message: Any, *then: Any) -> Any:
        if isinstance(message, service.Submit):
            sent.append(message)
            if len(sent) == 2:
                raise KeyboardInterrupt
        return call(message, *then)

    monkeypatch.setattr(connection, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch_of(client, key, *calls)
    assert count(client) == 1000
    found = batch_of(client, key, *calls)
    assert len(set(found)) == 2500
    assert not client.tasks(state="cancelled", group=client.session_task_group_id)
    assert count(client) == 2500


def test_ctrl_c_in_a_wait_leaves_what_has_a_key(client: FuncXClient, key: str) -> None:
    function = client.register_function(square)
    keyed = client.run(1, endpoint_id="local", function_id=function, idempotency_key=key)
    other = client.run(1, endpoint_id="local", function_id=function)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with mock.patch.object(client._results, "state", interrupted):
        for task in (keyed, other):
            with pytest.raises(KeyboardInterrupt):
                client.get_result(task, timeout=20)
    eventually(lambda: client.get_task(other)["status"] == "cancelled")
    assert client.get_task(keyed)["pending"]


def test_two_threads_at_once(client: FuncXClient, key: str) -> None:
    function = client.register_function(square)
    calls = [(function, n) for n in range(1500)]
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(batch_of(client, key, *calls)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 4
    assert all(one == found[0] for one in found)
    assert count(client) == 1500

"""What cannot be meant is refused where it is given, by its name."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient, errors
from fxhpc.client.batch import Batch
from fxhpc.client.declared import arguments
from fxhpc.client.declared.resources import capture_bytes, needed


class Int64:
    """An integer that is no int, as NumPy's."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def refused(name: str, given: Any, call: Callable[[], Any]) -> str:
    with pytest.raises(errors.UsageError) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(f"{name}="), str(caught.value)
    return str(caught.value)


NO_NUMBERS = (2.5, "2", True, b"2", [2], float("nan"))


@pytest.mark.parametrize("given", [*NO_NUMBERS, -1, 2**70])
def test_counts_are_whole_numbers_within_bounds(given: Any) -> None:
    words = refused("n", given, lambda: arguments.whole("n", given, 0, "cats"))
    assert "whole number of cats" in words
    assert ("9,223,372" in words) == (given == 2**70)


def test_a_number_is_taken_whatever_its_type() -> None:
    assert type(arguments.whole("n", Int64(3), 0, "cats")) is int
    assert arguments.whole("n", Int64(3), 0, "cats") == 3
    assert arguments.seconds("s", Fraction(1, 2)) == 0.5
    assert capture_bytes(Int64(70)) == 70  # type: ignore[arg-type]
    assert needed({"walltime": Int64(90)}) == (90, b"")
    for nonsense in (-1, 2**30, "x", 1.5):
        with pytest.raises(errors.UsageError, match="capture_output is"):
            capture_bytes(nonsense)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["2", True, [2], float("nan"), Decimal(2), 1j])
def test_seconds_are_numbers(given: Any) -> None:
    refused("s", given, lambda: arguments.seconds("s", given))
    refused("timeout", given, lambda: arguments.timeout(given))


def test_a_timeout_may_be_over_or_never_end() -> None:
    assert arguments.timeout(None) is None
    assert arguments.timeout(-2) == -2
    assert arguments.timeout(10**400) == math.inf
    assert arguments.timeout(-(10**400)) == -math.inf
    refused("wait", -2, lambda: arguments.seconds("wait", -2))


@pytest.mark.parametrize("name", ["retries", "max_payload"])
@pytest.mark.parametrize("given", [*NO_NUMBERS, -1, None, 2**70])
def test_options_of_executors_and_clients(
    forwarder: FakeForwarder, client: FuncXClient, name: str, given: Any
) -> None:
    refused(name, given, lambda: Executor(1, **{name: given}))
    refused(name, given, lambda: FuncXClient(embedded=True, **{name: given}))
    before = getattr(client, name)
    refused(name, given, lambda: setattr(client, name, given))
    assert getattr(client, name) == before


@pytest.mark.parametrize("given", [2.5, 10**6, True, b"2", Decimal(2)])
def test_workers_of_executors_and_clients(forwarder: FakeForwarder, given: Any) -> None:
    assert "1 to 4,096" in refused("max_workers", given, lambda: Executor(given))
    refused("workers", given, lambda: FuncXClient(embedded=True, workers=given))


def test_numbers_of_other_types_work(forwarder: FakeForwarder) -> None:
    numbers: Any = Int64(2)
    forwarder.service.teach(abs)
    with Executor(numbers, retries=numbers) as executor:
        values = executor.map(abs, [-1, -2, -3], chunksize=numbers, timeout=10)
        assert list(values) == [1, 2, 3]
    tasks = [task for known in forwarder.service.tasks.values() for task in known.values()]
    assert [(task.info.retries, task.info.calls) for task in tasks] == [(2, 2), (2, 1)]


@pytest.mark.parametrize("given", [0, 1.5, "2", None, True])
def test_a_chunk_has_a_number_of_calls(executor: Executor, given: Any) -> None:
    refused("chunksize", given, lambda: executor.map(abs, [1], chunksize=given))


def test_times_of_calls(client: FuncXClient, executor: Executor) -> None:
    task, nonsense = str(uuid.uuid4()), "soon"
    calls: list[Callable[..., Any]] = [
        lambda **given: client.get_result(task, **given),
        lambda **given: client.wait([task], **given),
        lambda **given: client.as_completed([task], **given),
        lambda **given: client.get_batch_result([task], **given),
        lambda **given: executor.map(abs, [1], **given),
    ]
    for call in calls:
        refused("timeout", nonsense, lambda call=call: call(timeout=nonsense))  # type: ignore[misc]
    refused("wait", nonsense, lambda: calls[0](wait=nonsense))
    refused("wait_s", -1, lambda: setattr(client, "wait_s", -1))


def test_lists_and_searches(client: FuncXClient) -> None:
    for given in (-1, 1.5, None, "all"):
        refused("limit", given, lambda given=given: client.tasks(limit=given))  # type: ignore[misc]
        refused("limit", given, lambda given=given: client.search_function("a", 0, given))  # type: ignore[misc]
    refused("offset", -1, lambda: client.search_function("a", -1))
    refused("q", 5, lambda: client.search_function(5))  # type: ignore[arg-type]
    for name in ("function_name", "description", "group"):
        options: Any = {name: 5}
        refused(name, 5, lambda options=options: client.register_function(abs, **options))  # type: ignore[misc]


def test_paths_and_configurations(forwarder: FakeForwarder) -> None:
    for given in (5, b"home"):
        options: Any = {"home": given}
        refused("home", given, lambda options=options: FuncXClient(**options))  # type: ignore[misc]
        refused("home", given, lambda options=options: Executor(**options))  # type: ignore[misc]
        options = {"path": given}
        refused("path", given, lambda options=options: FuncXClient(embedded=True, **options))  # type: ignore[misc]
        refused("path", given, lambda options=options: Executor(**options))  # type: ignore[misc]
    nothing: Any = 5
    refused("config", 5, lambda: Executor(config=nothing))
    refused("client", 5, lambda: Executor(client=nothing))


@pytest.mark.parametrize("given", ["nonsense", "", 5, b"x"])
def test_a_group_is_a_uuid_wherever_it_is_given(client: FuncXClient, given: Any) -> None:
    batch = Batch()
    batch.add(1, endpoint_id="local", function_id=str(uuid.uuid4()))
    batch.task_group_id = given
    calls: list[Callable[[], Any]] = [
        lambda: client.create_batch(task_group_id=given),
        lambda: Batch(given),
        lambda: FuncXClient(embedded=True, task_group_id=given),
        lambda: Executor(task_group_id=given),
        lambda: client.batch_run(batch),
    ]
    for call in calls:
        with pytest.raises(errors.InvalidUUID, match=re.escape(f"{given!r} (task_group_id")):
            call()


def test_a_group_is_the_same_however_it_is_written(client: FuncXClient) -> None:
    group = uuid.uuid4()
    for given in (group, str(group), str(group).upper(), group.hex):
        assert client.create_batch(task_group_id=given).task_group_id == str(group)
    assert client.create_batch().task_group_id == client.session_task_group_id
    assert uuid.UUID(Batch().task_group_id)


def test_a_text_for_a_number_of_workers_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXHPC_HOME", "/nonexistent")
    with pytest.raises(errors.EndpointNotFound, match=r"a number of\s+workers is an int"):
        Executor("4")
    with pytest.raises(errors.UsageError, match="names one, too"):
        Executor("4", endpoint_id="local")


def test_a_time_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("soon", "-1", "nan"):
        monkeypatch.setenv("FXHPC_WAIT", given)
        with pytest.raises(ValueError, match=f"FXHPC_WAIT is '{given}'; it is a number of seconds"):
            FuncXClient(embedded=True)

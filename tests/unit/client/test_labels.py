"""Labels and metadata: what is taken, what is refused in words, and where it is shown."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient, errors
from fxhpc.client.declared.labels import labels_of, metadata_of
from fxhpc.client.shown import listing
from fxhpc.forwarder.listing import LIMIT


def square(x: int) -> int:
    return x * x


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (None, ()),
        ((), ()),
        ("one", ("one",)),
        (["b", "a", "b"], ("b", "a")),
        ({"b", "a"}, ("a", "b")),
        (iter(["é" * 100]), ("é" * 100,)),
    ],
)
def test_labels(given: Any, labels: tuple[str, ...]) -> None:
    assert labels_of(given) == labels


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (7, "list of texts"),
        ({"a": 1}, "list of texts"),
        (b"a", "list of texts"),
        (["a", 7], "7 is none"),
        ([""], "1 to 100 characters"),
        (["  "], "1 to 100 characters"),
        (["a" * 101], "1 to 100 characters"),
        (["a\nb"], "can be printed"),
        (["\ud800"], "can be printed"),
        ([str(n) for n in range(17)], "there are 17, and may be 16"),
    ],
)
def test_what_is_no_label(given: Any, words: str) -> None:
    with pytest.raises(errors.UsageError, match=words) as raised:
        labels_of(given)
    assert str(raised.value).startswith("labels=")


def test_metadata() -> None:
    assert metadata_of(None) == metadata_of({}) == ""
    given = {"run": 7, "é": [1.5, None, (True, "x")], "deep": {"er": {}}}
    assert metadata_of(given) == '{"run":7,"é":[1.5,null,[true,"x"]],"deep":{"er":{}}}'
    assert len(metadata_of({"a": "x" * 4088})) == 4096


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("run", r"^metadata='run': it is a dictionary"),
        ({1: 2}, r"its keys are texts, and 1 is none"),
        ({"a": [0, {1, 2}]}, r"^metadata\['a'\]\[1\]=.* of type set, which JSON does not know"),
        ({"a": math.nan}, r"^metadata\['a'\]=nan"),
        ({"a": 2**70}, "64 bits"),
        ({"a": "x" * 4089}, "4,097 bytes as JSON, and may take 4,096"),
        ({"a": "é" * 2045}, "4,098 bytes"),
        ({"a": "\ud800"}, "no valid Unicode"),
    ],
)
def test_what_is_no_metadata(given: Any, words: str) -> None:
    with pytest.raises(errors.UsageError, match=words):
        metadata_of(given)


def test_metadata_that_never_ends() -> None:
    given: dict[str, Any] = {}
    given["again"] = given
    with pytest.raises(errors.UsageError, match="nested more than 32 deep"):
        metadata_of(given)


def noted(forwarder: FakeForwarder) -> list[tuple[tuple[str, ...], str]]:
    """Labels and metadata of each task, in the order in which they came."""
    known = forwarder.service.tasks.values()
    return [(task.info.labels, task.info.metadata) for tasks in known for task in tasks.values()]


def test_an_executor_takes_what_was_set_when_submit_was_called(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.teach(square)
    assert (executor.labels, executor.metadata) == ((), {})
    futures = [executor.submit(square, 1)]
    executor.labels = ["a", "b"]
    executor.metadata = {"n": 2}
    futures.append(executor.submit(square, 2))
    executor.metadata["n"] = 3  # a copy
    futures.append(executor.submit(square, 3))
    executor.labels = None
    executor.metadata = None
    futures.append(executor.submit(square, 4))
    assert [future.result(10) for future in futures] == [1, 4, 9, 16]
    assert noted(forwarder) == [((), ""), ((), ""), *([(("a", "b"), '{"n":2}')] * 2)]
    assert len(forwarder.service.tasks) == 2
    with pytest.raises(errors.UsageError, match="labels=7"):
        executor.labels = 7  # type: ignore[assignment]


def test_a_client_and_its_batches(client: FuncXClient, forwarder: FakeForwarder) -> None:
    forwarder.service.teach(square)
    function = client.register_function(square)
    client.labels = "night"
    client.metadata = {"n": 1}
    client.run(1, endpoint_id="local", function_id=function)
    client.map_run([2], endpoint_id="local", function_id=function)
    client.map_run([2, 3], endpoint_id="local", function_id=function, chunksize=2)
    for batch in (
        client.create_batch(),
        client.create_batch(labels=["day"]),
        client.create_batch(labels=[], metadata={}),
    ):
        batch.add(5, endpoint_id="local", function_id=function)
        client.batch_run(batch)
    of_client = ("night",), '{"n":1}'
    assert noted(forwarder) == [*([of_client] * 4), (("day",), '{"n":1}'), ((), "")]


def test_they_are_given_where_things_are_made(forwarder: FakeForwarder) -> None:
    with Executor(2, labels=["a"], metadata={"n": 1}) as executor:
        assert (executor.labels, executor.metadata) == (("a",), {"n": 1})
    with FuncXClient(embedded=True, labels=["a"], metadata={"n": 1}) as client:
        assert (client.labels, client.metadata) == (("a",), {"n": 1})
    with pytest.raises(errors.UsageError, match="metadata="):
        Executor(2, metadata=["a"])  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError, match="labels="):
        FuncXClient(embedded=True, labels=[""])


def test_long_lists_are_asked_for_in_parts(
    client: FuncXClient, forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listing._PAGE <= LIMIT
    function = client.register_function(square)
    forwarder.service.hold = True
    for _ in range(2):
        client.map_run(range(4), endpoint_id="local", function_id=function)
    every = client.tasks()
    assert len(every) == 8
    for page in (1, 2, 3, 8):
        monkeypatch.setattr(listing, "_PAGE", page)
        assert client.tasks(limit=10**9) == every
        assert client.tasks(limit=5) == every[:5]
        assert client.tasks(limit=0) == []


def test_lists_and_details_show_them() -> None:
    # The forwarder of fxhpc itself, without a manager.
    with FuncXClient(embedded=True, labels=["a", "b"], metadata={"n": [1]}) as client:
        function = client.register_function(square)
        group = "11111111-1111-4111-8111-111111111111"
        first = client.run(1, endpoint_id="local", function_id=function)
        batch = client.create_batch(group, labels="c", metadata={})
        batch.add(2, endpoint_id="local", function_id=function)
        (second,) = client.batch_run(batch)

        def found(**which: Any) -> set[str]:
            return {task["task_id"] for task in client.tasks(**which)}

        assert found() == {first, second}
        assert found(label="a") == found(label="b", state="pending") == {first}
        assert found(label="c") == found(group=group) == found(group=group, label="c") == {second}
        assert found(group=client.session_task_group_id) == {first}
        assert found(group=group, label="a") == found(label="A") == set()
        assert len(client.tasks(label="a", limit=0)) == 0
        (told,) = client.tasks(label="a", endpoint="local")
        assert (told["labels"], told["metadata"]) == (["a", "b"], {"n": [1]})
        details = client.get_task(first)["details"]
        assert (details["labels"], details["metadata"]) == (["a", "b"], {"n": [1]})
        assert "metadata" not in client.get_task(second)["details"]
        with pytest.raises(errors.InvalidUUID):
            client.tasks(group="night")
        with pytest.raises(errors.UsageError, match="label=7"):
            client.tasks(label=7)  # type: ignore[arg-type]

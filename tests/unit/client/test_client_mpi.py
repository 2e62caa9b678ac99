"""MPIFunctions without ranks: refused where they are submitted, before anything is stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient, MPIFunction, errors

SOLVE = MPIFunction("solve {case}", name="solve")

Submit = Callable[[FuncXClient, str], Any]


@pytest.fixture(autouse=True)
def _nothing_runs(forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True


def run(client: FuncXClient, function: str) -> Any:
    return client.run(case="a", endpoint_id="local", function_id=function)


def batch_run(client: FuncXClient, function: str) -> Any:
    batch = client.create_batch()
    other = client.register_function(abs)
    batch.add(-1, endpoint_id="local", function_id=other)  # nor is anything of this
    batch.add(case="a", endpoint_id="local", function_id=function)
    return client.batch_run(batch)


def map_run(client: FuncXClient, function: str) -> Any:
    return client.map_run([{"case": "a"}], endpoint_id="local", function_id=function)


@pytest.mark.parametrize("submit", [run, batch_run, map_run])
def test_registered(client: FuncXClient, forwarder: FakeForwarder, submit: Submit) -> None:
    function = client.register_function(SOLVE)
    with pytest.raises(errors.InvalidResourceSpecification) as caught:
        submit(client, function)
    assert "solve: the tasks of an MPIFunction need ranks" in str(caught.value)
    assert "{'num_nodes': 2, 'ranks_per_node': 4}" in str(caught.value)
    assert "num_ranks" in caught.value.invalid_keys
    client.resource_specification = {"cores": 4}
    with pytest.raises(errors.InvalidResourceSpecification):
        submit(client, function)
    assert not forwarder.service.tasks
    client.resource_specification = {"num_nodes": 2}  # a launcher starts one rank on each
    submit(client, function)
    assert forwarder.service.tasks


def test_registered_with_ranks(client: FuncXClient, forwarder: FakeForwarder) -> None:
    ranks = {"num_ranks": 2}
    run(client, client.register_function(SOLVE, resource_specification=ranks))
    assert forwarder.service.tasks


@pytest.mark.parametrize(
    "submit",
    [
        lambda executor: executor.submit(SOLVE, case="a"),
        lambda executor: executor.submit(partial(SOLVE, case="a")),
        lambda executor: executor.map(SOLVE, [{"case": "a"}]),
        lambda executor: executor.map(SOLVE, [{"case": "a"}], chunksize=2),
    ],
)
def test_an_executors(
    executor: Executor, forwarder: FakeForwarder, submit: Callable[[Executor], Any]
) -> None:
    executor.resource_specification = {"cores": 2}
    with pytest.raises(
        errors.InvalidResourceSpecification, match="solve: the tasks of an MPIFunction need ranks"
    ):
        submit(executor)
    assert not forwarder.service.tasks
    executor.resource_specification = {"num_ranks": 2}
    submit(executor)


def test_an_executors_registered(
    executor: Executor, client: FuncXClient, forwarder: FakeForwarder
) -> None:
    function = client.register_function(SOLVE)
    with pytest.raises(
        errors.InvalidResourceSpecification, match="solve: the tasks of an MPIFunction need ranks"
    ):
        executor.submit_to_registered_function(function, kwargs={"case": "a"})
    executor.resource_specification = {"num_ranks": 2}
    executor.submit_to_registered_function(function, kwargs={"case": "a"})

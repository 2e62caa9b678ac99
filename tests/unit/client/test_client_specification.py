"""resource_specification: each key as users write it, what follows from it, what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy
import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient, errors
from fxhpc.client.declared.resources import Declared, Default
from fxhpc.client.declared.specification import Said, over, said, settled
from fxhpc.client.declared.specification_keys import KEYS
from fxhpc.protocol.needs import MOST_BYTES, NO_NEEDS, Needs, needs_of, pack

MB = 2**20
GB = 2**30


def needs(**keys: Any) -> Needs:
    """What a stream has whose tasks need this."""
    return needs_of(settled(pack(said(keys).needs)))


def refused(given: Any) -> str:
    """The text of the error for this specification."""
    with pytest.raises(errors.InvalidResourceSpecification) as raised:
        settled(pack(said(given).needs))
    # As Globus Compute has it, as Parsl does, and as fxhpc's other wrong calls.
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, errors.UsageError)
    text = str(raised.value)
    assert text.startswith("resource_specification")
    return text


# --- walltime, and what is ordinary ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(90, 90), (1.5, 1.5), ("90m", 5400), ("01:00:00", 3600), ("1-06", 30 * 3600), (None, 0)],
)
def test_durations(given: Any, seconds: float) -> None:
    assert said({"walltime": given}) == Said(seconds)


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), True, "soon", "", [1]])
def test_what_is_no_duration(given: Any) -> None:
    assert "'walltime'" in refused({"walltime": given})


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        {"nodes": 1},
        {"num_nodes": 1},
        {"cores": None, "memory": None, "num_ranks": None},
        {"launcher_options": "", "labels": [], "environment": {}},
    ],
)
def test_what_asks_for_nothing_is_ordinary(given: Any) -> None:
    found = said(given)
    assert found.walltime_s == 0
    assert settled(pack(found.needs)) == b""


# --- each key -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "given", "field", "value"),
    [
        ("cores", 4, "cores", 4000),
        ("cores", 0.5, "cores", 500),
        ("cores", 0.29, "cores", 290),
        ("cores", Fraction(1, 3), "cores", 333),
        ("cores", "2", "cores", 2000),
        ("gpus", 1, "gpus", 1000),
        ("gpus", 0.25, "gpus", 250),
        ("gpus", 2.5, "gpus", 2500),
        ("gpus", 0, "gpus", 0),
        ("memory", "4GB", "memory", 4 * GB),
        ("memory", "512 MiB", "memory", 512 * MB),
        ("memory", 2 * GB, "memory", 2 * GB),
        ("memory", 3e9, "memory", 3_000_000_000),
        ("nodes", 2, "nodes", 2),
        ("num_nodes", "2", "nodes", 2),
        ("num_nodes", 2.0, "nodes", 2),
        ("priority", -3, "priority", -3000),
        ("priority", 0, "priority", 0),
        ("priority", 0.5, "priority", 500),
        ("labels", "big", "labels", ("big",)),
        ("labels", ["z", " a ", "z"], "labels", ("a", "z")),
        ("labels", {"host:node7"}, "labels", ("host:node7",)),
        ("environment", {"B": 2, "A": "x=y"}, "environ", (("A", "x=y"), ("B", "2"))),
    ],
)
def test_each_key(key: str, given: Any, field: str, value: Any) -> None:
    assert needs(**{key: given}) == Needs(**{field: value})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cores": 0}, "'cores': 0 is no number of cores"),
        ({"cores": 0.0004}, "'cores': 0.0004 is less than a thousandth"),
        ({"cores": -1}, "is no number of cores"),
        ({"cores": True}, "True is no number of cores"),
        ({"cores": "many"}, "'many' is no number of cores"),
        ({"cores": float("nan")}, "is no number of cores"),
        ({"cores": 10**7}, "'cores': 10000000 is more than any node has"),
        ({"gpus": -0.5}, "is no number of accelerators"),
        ({"gpus": 0.0001}, "is less than a thousandth"),
        ({"gpus": [0]}, "is no number of accelerators"),
        ({"memory": "4 apples"}, "'memory': '4 apples' is not a size; write for example 4GB"),
        ({"memory": 4000}, "4000 is 3.9 KB, in which no Python runs; a plain number is bytes"),
        ({"memory": -1}, "is not a size"),
        ({"memory": True}, "is not a size"),
        ({"memory": "9999999PB"}, "more than any node has"),
        ({"nodes": 0}, "'nodes': 0 is no whole number from 1"),
        ({"num_nodes": 1.5}, "'num_nodes': 1.5 is no whole number"),
        ({"ranks_per_node": "two"}, "'ranks_per_node': 'two' is no whole number"),
        ({"launcher_options": ["-v"]}, "is no line of text"),
        ({"launcher_options": "-v\n-x"}, "is no line of text"),
        ({"priority": "high"}, "'high' is no number up to 1,000,000,000; less goes first"),
        ({"labels": 3}, "3 is no list of texts"),
        ({"labels": ["a", ""]}, "'' is no text"),
        ({"labels": ["a" * 101]}, "longer than 100 characters"),
        ({"labels": map(str, range(17))}, "these are 17 labels; there may be 16"),
        ({"labels": {"a": 1}}, "is no list of texts"),
        ({"environment": ["A=1"]}, "is no dictionary of variables"),
        ({"environment": {"A=": "x"}}, "'A=' is no name of a variable"),
        ({"environment": {1: "x"}}, "1 is no name of a variable"),
        ({"environment": {"A": True}}, "'A' is True, and a variable is a text, such as '1'"),
        ({"environment": {"A": None}}, "'A' is None"),
        ({"environment": {"A": "x\0"}}, "zero character"),
        ({"environment": {"FXHPC_HOME": "/"}}, "a variable of fxhpc's own"),
        ({"environment": {"A": "x" * MOST_BYTES}}, "says too much"),
        ({"environment": {"A": "\ud800"}}, "no valid Unicode"),
    ],
)
def test_each_mistake_has_its_words(given: Any, words: str) -> None:
    assert words in refused(given)


def test_numpy_s_numbers() -> None:
    assert said({"walltime": numpy.int64(5)}).walltime_s == 5
    assert said({"cores": numpy.int32(2)}).needs.cores == 2000
    assert said({"gpus": numpy.float32(0.5)}).needs.gpus == 500


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("cpus", "cores"),
        ("core", "cores"),
        ("Memory", "memory"),
        ("mem", "memory"),
        ("num-nodes", "num_nodes"),
        ("node", "nodes"),
        ("gpu", "gpus"),
        ("ntasks", "ranks"),
        ("rank_per_node", "ranks_per_node"),
        ("timeout", "walltime"),
        ("wall_time", "walltime"),
        ("env", "environment"),
        ("prio", "priority"),
        ("label", "labels"),
    ],
)
def test_unknown_keys_are_told_with_what_was_meant(key: str, meant: str) -> None:
    text = refused({key: 1})
    assert f"has {key!r} (did you mean {meant!r}?), which fxhpc does not know" in text
    assert "It may have 'cores': " in text
    assert "; 'walltime': how long it takes at most, in seconds or as '90m'" in text


def test_all_keys_that_can_be_kept_are_told() -> None:
    text = refused({"disk": 1})
    assert all(repr(known) in text for known in KEYS)


def test_all_unknown_keys_are_told_at_once() -> None:
    with pytest.raises(errors.InvalidResourceSpecification) as raised:
        said({"walltime": 1, "disk": 2, 7: 3})
    assert "has 'disk', 7, which" in str(raised.value)
    assert raised.value.invalid_keys == ["disk", 7]


@pytest.mark.parametrize("given", ["walltime", 3, [("walltime", 1)], {"walltime"}])
def test_what_is_no_dictionary(given: Any) -> None:
    assert f"is a dictionary, not {type(given).__name__}. It may have 'cores'" in refused(given)


def test_what_is_no_json() -> None:
    for value in (object(), {1}, b"1", 1j):
        with pytest.raises(TypeError):
            json.dumps(value)
        for key in KEYS:
            if key != "labels":  # a set of texts is a list of these
                assert repr(key) in refused({key: value})


# --- together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "nodes", "ranks", "each", "cores", "per_rank"),
    [
        ({"ranks": 4}, 1, 4, 4, 4, 1),
        ({"ranks_per_node": 4}, 1, 4, 4, 4, 1),
        ({"num_nodes": 2, "ranks_per_node": 4}, 2, 8, 4, 4, 1),
        ({"num_nodes": 2, "num_ranks": 8}, 2, 8, 4, 4, 1),
        ({"num_ranks": 8, "ranks_per_node": 4}, 2, 8, 4, 4, 1),
        ({"num_nodes": 2, "num_ranks": 8, "ranks_per_node": 4}, 2, 8, 4, 4, 1),
        ({"ranks": 4, "cores_per_rank": 3}, 1, 4, 4, 12, 3),
        ({"ranks": 4, "cores": 8}, 1, 4, 4, 8, 2),
        ({"ranks": 4, "cores": 8, "cores_per_rank": 2}, 1, 4, 4, 8, 2),
        ({"nodes": 3}, 3, 0, 0, 0, 0),
        ({"nodes": 3, "cores": 16}, 3, 0, 0, 16, 0),
        ({"nodes": 1, "cores": 16}, 0, 0, 0, 16, 0),
    ],
)
def test_of_nodes_and_ranks_two_make_the_third(
    given: Any, nodes: int, ranks: int, each: int, cores: int, per_rank: int
) -> None:
    found = needs(**given)
    assert (found.nodes, found.ranks, found.ranks_per_node) == (nodes, ranks, each)
    assert (found.cores, found.cores_per_rank) == (1000 * cores, per_rank)
    assert settled(pack(found)) == pack(found)  # nothing more follows from it


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_nodes": 2, "num_ranks": 5}, "has 2 nodes, 5 ranks: each node has as many ranks"),
        ({"num_nodes": 2, "num_ranks": 1}, "has 2 nodes, 1 ranks"),
        ({"ranks": 5, "ranks_per_node": 2}, "has 2 ranks_per_node, 5 ranks"),
        (
            {"num_nodes": 2, "ranks_per_node": 2, "num_ranks": 5},
            "has 2 nodes, 2 ranks_per_node, 5 ranks",
        ),
        ({"nodes": 2, "num_nodes": 2}, "has 'nodes' and 'num_nodes', which mean the same"),
        ({"ranks": 4, "cores": 6}, "has 6 cores on a node for 4 ranks, and each rank has 1"),
        ({"ranks": 4, "cores": 0.5}, "has 0.5 cores on a node for 4 ranks"),
        ({"ranks": 2, "cores": 8, "cores_per_rank": 3}, "each rank has 3 (cores_per_rank)"),
        ({"cores_per_rank": 2}, "has 'cores_per_rank', and says nothing of ranks"),
        ({"launcher_options": "-v"}, "has 'launcher_options', and says nothing of ranks"),
        ({"ranks_per_node": 10**6, "nodes": 10}, "which no job has"),
        ({"ranks": 10**4, "cores_per_rank": 10**4}, "which no job has"),
    ],
)
def test_what_does_not_fit_together(given: Any, words: str) -> None:
    assert words in refused(given)


def test_a_submission_s_keys_are_laid_over_its_function_s() -> None:
    function = said(
        {"walltime": 60, "ranks": 4, "gpus": 1, "priority": 5, "environment": {"A": 1, "B": 1}}
    )
    own = said({"cores_per_rank": 2, "gpus": 0, "priority": 0, "environment": {"B": 2}})
    found = over(own, function)
    assert found.walltime_s == 60
    assert needs_of(settled(pack(found.needs))) == Needs(
        cores=8000,
        gpus=0,
        nodes=1,
        ranks=4,
        ranks_per_node=4,
        cores_per_rank=2,
        priority=0,
        environ=(("A", "1"), ("B", "2")),
    )
    assert over(Said(), function) == function
    assert over(function, Said()) == function
    assert over(said({"walltime": 1}), function).walltime_s == 1
    with pytest.raises(errors.InvalidResourceSpecification, match="has 3 nodes, 4 ranks"):
        settled(pack(over(said({"nodes": 3}), function).needs))


def test_what_is_ordinary_costs_no_look() -> None:
    declared = Declared(5.0, 100)
    assert declared.settled() is declared
    assert declared.settled(Default(60.0)) == declared
    assert Declared().settled(Default(60.0)) == Declared(60.0)
    assert Declared(needs=pack(Needs(nodes=1))).settled().needs == b""
    assert needs_of(b"") is NO_NEEDS


# --- where it is set ------------------------------------------------------------------------------


def square(x: int) -> int:
    return x * x


@pytest.fixture
def known(forwarder: FakeForwarder) -> FakeForwarder:
    forwarder.service.teach(square)
    return forwarder


def streams(forwarder: FakeForwarder) -> list[tuple[float, Needs]]:
    """Walltime and needs of each stream, in the order in which they came."""
    infos = [next(iter(tasks.values())).info for tasks in forwarder.service.tasks.values()]
    return [(info.walltime_s, needs_of(info.needs)) for info in infos]


def test_an_executor_s_tasks_need_what_was_set_when_submit_was_called(
    executor: Executor, known: FakeForwarder
) -> None:
    given: dict[str, Any] = {"num_nodes": 2, "ranks_per_node": 2}
    executor.resource_specification = given
    given["num_nodes"] = 3  # nobody hears of that
    futures = [executor.submit(square, n) for n in (1, 2)]
    executor.resource_specification = {"ranks_per_node": 2, "num_nodes": 2}  # the same
    futures.append(executor.submit(square, 3))
    executor.resource_specification = None
    futures.append(executor.submit(square, 4))
    executor.resource_specification = {"cores": 2}
    futures += [executor.submit(square, 5)]
    assert [future.result(10) for future in futures] == [1, 4, 9, 16, 25]
    two = Needs(cores=2000, nodes=2, ranks=4, ranks_per_node=2, cores_per_rank=1)
    assert streams(known) == [(0, two), (0, NO_NEEDS), (0, Needs(cores=2000))]


def test_what_was_set_is_changed_by_setting_it_again(executor: Executor) -> None:
    executor.resource_specification = {"walltime": 5}
    assert executor.resource_specification == {"walltime": 5}
    with pytest.raises(TypeError):
        executor.resource_specification["walltime"] = 6  # type: ignore[index]
    executor.resource_specification = {**executor.resource_specification, "walltime": 6}
    assert executor.declared.walltime_s == 6
    with pytest.raises(errors.InvalidResourceSpecification):
        executor.resource_specification = {"nodes": 2.5}
    assert executor.resource_specification == {"walltime": 6}
    assert executor.declared.walltime_s == 6


def test_what_does_not_fit_together_is_told_by_submit(executor: Executor) -> None:
    executor.resource_specification = {"cores_per_rank": 2}
    with pytest.raises(errors.InvalidResourceSpecification, match="says nothing of ranks"):
        executor.submit(square, 1)


def test_a_function_says_what_its_tasks_need(client: FuncXClient, known: FakeForwarder) -> None:
    function = client.register_function(
        square, resource_specification={"walltime": "1m", "ranks": 4}
    )
    where = {"endpoint_id": "local", "function_id": function}
    client.run(1, **where)
    client.resource_specification = {"cores_per_rank": 2}
    client.run(1, **where)
    client.map_run([1, 2, 3, 4], chunksize=2, **where)
    batch = client.create_batch(resource_specification={"walltime": 5})
    batch.add(1, **where)
    client.batch_run(batch)
    four = Needs(cores=4000, nodes=1, ranks=4, ranks_per_node=4, cores_per_rank=1)
    eight = Needs(cores=8000, nodes=1, ranks=4, ranks_per_node=4, cores_per_rank=2)
    assert streams(known) == [(60, four), (60, eight), (120, eight), (5, four)]


def test_others_know_what_a_function_says(
    client: FuncXClient, executor: Executor, known: FakeForwarder
) -> None:
    function = client.register_function(square, resource_specification={"walltime": 7})
    other = FuncXClient(embedded=True)
    other.run(2, endpoint_id="local", function_id=function)
    assert executor.submit_to_registered_function(function, (3,)).result(10) == 9
    executor.resource_specification = {"walltime": 1}
    assert executor.submit_to_registered_function(function, (3,)).result(10) == 9
    other.close()
    assert [walltime_s for walltime_s, _ in streams(known)] == [7, 7, 1]
    with pytest.raises(errors.InvalidResourceSpecification, match="'walltime'"):
        client.register_function(square, resource_specification={"walltime": "x"})

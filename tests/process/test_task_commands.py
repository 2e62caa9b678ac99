"""The task commands, and the one cause of tasks that wait, with a home's own processes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from homes import TestHome
from lives import titled

from fxhpc import FuncXClient, errors
from fxhpc.testing.endpoint import RunningEndpoint
from tests.waiting import eventually


def divide(x: int) -> float:
    return 1 / x


def enlarge(length: int) -> str:
    return "x" * length


def linger(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint that is not started yet."""
    endpoint = RunningEndpoint(home.path, "midway", managers=1, workers=1)
    yield endpoint
    endpoint.stop()


def asked(home: TestHome, *arguments: str) -> Any:
    ended = home.task(*arguments, "--json")
    assert ended.returncode == 0, ended
    return json.loads(ended.stdout)


def cause(client: FuncXClient, home: TestHome, task: str) -> tuple[str, str]:
    """Status and reason of a task; all who tell of it must agree."""
    known = client.get_task(task)
    with pytest.raises(errors.TaskPending) as raised:
        client.get_result(task, wait=0)
    assert raised.value.reason == f"{known['status']}: {known['reason']}"
    assert client.get_endpoint_status("midway")["details"]["reason"] == known["reason"]
    explained = asked(home, "explain", task)
    assert explained["reason"] == known["reason"]
    assert known["reason"] in " ".join(explained["explanation"])
    return known["status"], known["reason"]


def test_everybody_tells_the_same_cause(
    client: FuncXClient, home: TestHome, endpoint: RunningEndpoint
) -> None:
    function = client.register_function(linger)
    task = client.run(0, endpoint_id="midway", function_id=function)
    assert cause(client, home, task) == (
        "waiting-for-ep",
        "endpoint midway was never started; start it with: fxhpc endpoint start midway",
    )

    endpoint.directory.failure.write_text("the port 5000 is taken by pid 17\n")
    eventually(lambda: "has failed" in client.get_task(task)["reason"], within=5)
    assert "the port 5000 is taken by pid 17; start it with:" in cause(client, home, task)[1]
    endpoint.directory.failure.unlink()

    endpoint.start_interchange()
    eventually(lambda: client.get_task(task)["status"] == "waiting-for-nodes", within=5)
    eventually(lambda: "just come up" not in client.get_task(task)["reason"], within=5)
    status, reason = cause(client, home, task)
    assert (status, reason) == ("waiting-for-nodes", "no manager has registered yet")

    assert endpoint.interchange is not None
    endpoint.interchange.kill()
    endpoint.interchange.wait()
    eventually(lambda: "has died" in client.get_task(task)["reason"], within=5)
    assert "fxhpc endpoint start midway, which takes over" in cause(client, home, task)[1]

    with endpoint:
        assert client.get_result(task, timeout=30) == 0
        long = client.run(60, endpoint_id="midway", function_id=function)
        others = client.map_run([0] * 3, endpoint_id="midway", function_id=function)
        eventually(lambda: client.get_task(long)["status"] == "running", within=20)
        busy = "the one worker of endpoint midway is busy; 3 tasks wait there in turn"
        eventually(lambda: client.get_task(others[0])["reason"] == busy, within=5)
        assert cause(client, home, others[0]) == ("waiting-for-launch", busy)
        assert asked(home, "explain", long)["status"] == "running"
        assert asked(home, "cancel", "--endpoint", "midway", "--interrupt", "--yes") == {
            "cancelled": 4,
            "running": 0,
        }
    eventually(lambda: client.get_endpoint_status("midway")["status"] == "offline", within=20)


def test_the_commands(client: FuncXClient, home: TestHome, endpoint: RunningEndpoint) -> None:
    function = client.register_function(divide)
    done = client.map_run([0, 1, 2], endpoint_id="local", function_id=function)
    client.wait(done, timeout=30)
    held = client.map_run(range(5), endpoint_id="midway", function_id=function)

    batches = asked(home, "list")["batches"]
    assert [(one["endpoint"], one["states"]) for one in batches] == [
        ("midway", {"waiting-for-ep": 5}),
        ("local", {"success": 2, "failed": 1}),
    ]
    short = batches[0]["id"]
    plain = home.task("list")
    assert f"{short}:0-4" in plain.stdout
    assert "start it with: fxhpc endpoint start midway" in plain.stderr
    (row,) = [
        line for line in home.task("list", "--state", "failed").stdout.splitlines()[1:] if line
    ]
    assert row.split()[:5] == [f"{batches[1]['id']}:0", "divide", "local", "1", "failed"]
    assert f"{batches[1]['id']}:2" in home.task("list", "--all").stdout
    every = asked(home, "list", "--all", "--state", "failed")["tasks"]
    assert [(one["task_id"], one["function_name"]) for one in every] == [(done[0], "divide")]
    assert "waiting-for-ep" not in home.task("list", "--endpoint", "local").stdout

    shown = asked(home, "show", done[0])
    assert "ZeroDivisionError" in shown["error"]
    assert shown["endpoint"] == "local"
    assert asked(home, "show", done[1])["result"] == "1.0"
    assert "result: 0.5" in home.task("show", done[2]).stdout
    explained = home.task("explain", done[0]).stdout
    assert "It failed" in explained
    assert "What to do: mend" in explained

    refused = home.task("cancel", "--all-pending")
    assert refused.returncode == 2
    assert "5 tasks: fxhpc task cancel --all-pending --yes" in refused.stderr
    refused = home.task("cancel", "--endpoint", "midway", "--interrupt")
    assert "5 tasks: fxhpc task cancel --endpoint midway --interrupt --yes" in refused.stderr

    assert asked(home, "cancel", f"{short}:1-2", held[4]) == {"cancelled": 3, "running": 0}
    assert [client.get_task(name)["status"] for name in held] == [
        "waiting-for-ep",
        *["cancelled"] * 2,
        "waiting-for-ep",
        "cancelled",
    ]
    assert "2 tasks cancelled" in home.task("cancel", "--all-pending", "--yes").stdout
    assert asked(home, "list", "--state", "pending") == {"batches": [], "total": 0}


def test_a_new_forwarder_knows_the_names_of_endpoints(
    client: FuncXClient, home: TestHome, endpoint: RunningEndpoint
) -> None:
    function = client.register_function(divide)
    client.run(1, endpoint_id="midway", function_id=function)
    client.close()
    eventually(lambda: not list((home.path / "locals").glob("*")))  # the forwarder has heard it
    for process in titled(home, "fxhpc: forwarder"):
        process.kill()
        process.wait(10)
    (batch,) = asked(home, "list")["batches"]
    assert batch["endpoint"] == "midway"
    assert batch["reason"].startswith("endpoint midway was never started")


def test_a_result_that_is_too_large(client: FuncXClient, home: TestHome) -> None:
    function = client.register_function(enlarge)
    task = client.run(6_000_000, endpoint_id="local", function_id=function)
    client.wait([task], timeout=30)
    explained = home.task("explain", task).stdout
    assert "exceeded current limit" in explained
    assert "raise `max_payload`" in explained
    assert "Traceback" not in explained
    assert "mend what the function raised" not in explained


def test_tasks_of_an_endpoint_that_was_deleted(
    client: FuncXClient, home: TestHome, endpoint: RunningEndpoint
) -> None:
    function = client.register_function(divide)
    first, second = client.map_run([1, 2], endpoint_id="midway", function_id=function)
    shutil.rmtree(endpoint.directory.path)
    (batch,) = asked(home, "list")["batches"]
    assert "was deleted" in batch["reason"]
    assert f"--endpoint {batch['endpoint_id']}" in batch["reason"]
    explained = asked(home, "explain", first)
    assert explained["what_to_do"].endswith(f"another endpoint: fxhpc task cancel {first}")
    assert "never started" not in str(explained)
    assert asked(home, "list", "--endpoint", "midway")["total"] == 1
    assert asked(home, "cancel", first) == {"cancelled": 1, "running": 0}
    assert asked(home, "cancel", "--endpoint", "midway", "--yes") == {"cancelled": 1, "running": 0}
    assert client.get_task(second)["status"] == "cancelled"


def test_what_ran_at_an_endpoint_that_is_away(
    client: FuncXClient, home: TestHome, endpoint: RunningEndpoint
) -> None:
    function = client.register_function(linger)
    with endpoint:
        task = client.run(60, endpoint_id="midway", function_id=function)
        eventually(lambda: client.get_task(task)["status"] == "running", within=20)
        # Its manager lives: nobody can know whether the task does.
        assert endpoint.interchange is not None
        endpoint.interchange.kill()
        endpoint.interchange.wait()
        eventually(lambda: client.get_task(task)["status"] == "waiting-for-ep", within=5)
        eventually(lambda: "has died" in client.get_task(task)["reason"], within=5)
        told = asked(home, "explain", task)
        assert told["reason"] == client.get_task(task)["reason"]
        assert "was running when the endpoint went away: if it has been ended" in told["reason"]
        (batch,) = asked(home, "list")["batches"]
        assert batch["states"] == {"waiting-for-ep": 1}
        ended = home.task("cancel", "--all-pending", "--yes")
        assert ended.returncode == 1
        assert "1 not, since they run, or ran when their endpoint went away" in ended.stderr
        endpoint.start_interchange()
        eventually(lambda: client.get_task(task)["status"] == "running", within=20)
    eventually(lambda: "is stopped" in client.get_task(task).get("reason", ""), within=5)
    assert client.get_task(task)["status"] == "waiting-for-ep"
    everything = ("cancel", "--all-pending", "--interrupt", "--yes")
    assert asked(home, *everything) == {"cancelled": 1, "running": 0}


def test_what_is_wrong_is_told_by_words_and_codes(client: FuncXClient, home: TestHome) -> None:
    function = client.register_function(divide)
    client.map_run([1, 2], endpoint_id="local", function_id=function)
    short = asked(home, "list")["batches"][0]["id"]
    for arguments, code, words in (
        (("show", "nonsense"), 2, "'nonsense' is no task"),
        (("show", short), 2, "are 2 tasks: name one of them"),
        (("show", f"{short}:2"), 1, f"{short}:2 not found. Of that batch there are {short}:0-1."),
        (("explain", "00000000-0000-8000-8000-000000000000"), 1, "not found"),
        (("list", "--state", "done"), 2, "there is no state 'done'"),
        (("list", "--limit", "-3"), 2, "-3 is not in the range"),
        (("list", "--home", "/dev/null"), 1, "the home /dev/null cannot be used"),
        (("list", "--endpoint", "nowhere"), 3, "nowhere could not be resolved"),
        (("cancel",), 2, "name tasks, or give --endpoint"),
        (("cancel", short, "--all-pending"), 2, f"{short} and --all-pending cannot be given"),
        (("cancel", "--group", "nonsense"), 1, "Task Group nonsense could not be resolved"),
        (("list", "--group", "nonsense"), 1, "Task Group nonsense could not be resolved"),
        (("cancel", short, "00000000-0000-8000-8000-000000000000"), 1, "not found"),
    ):
        ended = home.task(*arguments)
        assert (ended.returncode, ended.stdout) == (code, ""), ended
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr
        assert words in json.loads(home.task(*arguments, "--json").stdout)["error"]


def test_what_has_ended_is_not_cancelled_in_words(client: FuncXClient, home: TestHome) -> None:
    task = client.run(1, endpoint_id="local", function_id=client.register_function(divide))
    assert client.get_result(task, timeout=30) == 1.0
    ended = home.task("cancel", task)
    assert (ended.returncode, ended.stdout) == (0, "no tasks cancelled\n")
    assert "has ended before: fxhpc task show ID tells how" in ended.stderr


def test_a_look_makes_no_home(home: TestHome) -> None:
    assert home.task("list").stdout == "no tasks\n"
    assert asked(home, "list") == {"batches": [], "total": 0}
    assert asked(home, "cancel", "--all-pending") == {"cancelled": 0, "running": 0}
    ended = home.task("show", "16aec339:1")
    assert ended.returncode == 1
    assert "nothing was ever submitted from" in ended.stderr
    assert not home.path.exists()

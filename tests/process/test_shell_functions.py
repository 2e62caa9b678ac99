"""ShellFunctions as tasks: of an Executor, registered, mapped, in a sandbox, and when they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc import Executor, FuncXClient, ShellFunction, ShellResult
from fxhpc.protocol.outcome import OutcomeKind
from fxhpc.serialize import unpack_result
from tests.process.workers.interchange import Interchange
from tests.waiting import eventually

ECHO = ShellFunction("echo {word}")


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(1) as executor:
        yield executor


def test_as_an_executors(executor: Executor) -> None:
    future = executor.submit(ECHO, word="hello")
    found = future.result(60)
    assert isinstance(found, ShellResult)
    assert (found.cmd, found.stdout, found.returncode) == ("echo hello", "hello\n", 0)
    values = executor.map(ECHO, [{"word": n} for n in range(5)], chunksize=2)
    assert [value.stdout for value in values] == [f"{n}\n" for n in range(5)]
    with pytest.raises(KeyError, match="without word="):
        executor.submit(ECHO).result(60)
    with pytest.raises(TypeError, match="takes the keywords"):
        executor.submit(ECHO, "hello").result(60)


def test_registered(client: FuncXClient) -> None:
    command = ShellFunction("echo {word}", walltime=60, name="say", return_dict=True)
    function = client.register_function(command)
    where = {"endpoint_id": "local", "function_id": function}
    task = client.run(word="hello", **where)
    batch = client.create_batch()
    batch.add(function, "local", kwargs={"word": "there"})
    ids = [task, *client.batch_run(batch), *client.map_run([{"word": "you"}], **where)]
    results = [client.get_result(task, timeout=60) for task in ids]
    assert [result["stdout"] for result in results] == ["hello\n", "there\n", "you\n"]
    assert client.get_task(task)["details"]["walltime_s"] == 65
    (found,) = client.search_function("word")
    assert (found["function_name"], found["function_source"]) == ("say", "echo {word}")


def test_its_walltime_ends_what_has_left_it(executor: Executor, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = "(setsid sleep 600 & echo $! >> {pids}); setsid sleep 600 & echo $! >> {pids}; wait"
    found = executor.submit(ShellFunction(script, walltime=1), pids=pids).result(60)
    assert (found.returncode, found.exception_name) == (124, "subprocess.TimeoutExpired")
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    # The worker has inherited them, and has buried them.
    assert not any(os.path.exists(f"/proc/{pid}") for pid in started)


def test_its_walltime_is_its_tasks(executor: Executor) -> None:
    """A command that cannot be ended from inside its worker is ended from outside."""
    command = ShellFunction("true", walltime=60)
    futures = [executor.submit(command)]
    executor.resource_specification = {"walltime": 30}
    futures.append(executor.submit(command))
    assert [future.result(60).returncode for future in futures] == [0, 0]
    groups = executor._submitter.groups.by_stream.values()
    assert sorted(group.info.walltime_s for group in groups) == [30, 65]


def test_cancelled_with_all_that_it_has_started(client: FuncXClient, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = "(setsid sleep 600 & echo $! > {pids}.new); mv {pids}.new {pids}; sleep 600"
    function = client.register_function(ShellFunction(script))
    task = client.run(pids=pids, endpoint_id="local", function_id=function)
    eventually(pids.exists)
    assert client.cancel(task, interrupt=True)
    pid = int(pids.read_text())
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def test_in_the_tasks_own_directory(tmp_path: Path) -> None:
    sandbox = tmp_path / "a user's tasks"
    interchange = Interchange(workers=1, sandbox=str(sandbox))
    try:
        interchange.ready()
        function = ShellFunction("pwd; echo oh >&2; echo {word} > file")
        (outcome,) = interchange.run(function, ({"word": "kept"},))
        assert outcome.kind == OutcomeKind.VALUE
        found = unpack_result(outcome.data)
        (directory,) = sandbox.iterdir()
        assert (found.stdout, found.stderr) == (f"{directory}\n", "oh\n")
        files = {file.suffix: file for file in directory.iterdir()}
        assert {suffix: file.read_text() for suffix, file in files.items()} == {
            "": "kept\n",
            ".stdout": f"{directory}\n",
            ".stderr": "oh\n",
        }
        assert files[".stdout"].name.startswith(f"{directory.name}.")
    finally:
        interchange.close()

"""`fxhpc store export|keep`: what is written can be read without fxhpc, and with it."""

from __future__ import annotations

import json
import pickle
import resource
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

import fxhpc
from fxhpc import FuncXClient
from fxhpc.cli.main import commands
from fxhpc.forwarder.home import Home
from fxhpc.forwarder.limits import limits_in_force
from tests.process.homes import TestHome


def _various(number: int) -> object:
    if number == 1:
        raise ValueError("one")
    if number == 2:
        return {3, 4}
    return {"number": number} if number else "x" * 100_000


def _run(home: Path, *words: str) -> str:
    done = CliRunner().invoke(commands, ["store", *words], env={"FXHPC_HOME": str(home)})
    assert done.exit_code == 0, done.output
    return done.output


def test_what_is_exported_is_all_there(client: FuncXClient, home: TestHome, tmp_path: Path) -> None:
    function = client.register_function(_various)
    ids = client.map_run(range(4), endpoint_id="local", function_id=function)
    ids += client.map_run(range(4), endpoint_id="local", function_id=function, chunksize=3)
    group = client.group()
    assert group.wait(30)
    with pytest.raises(fxhpc.errors.UsageError, match="it is a number of days"):
        group.keep_for("1y")  # type: ignore[arg-type]
    group.keep_for(90)

    told = _run(home.path, "export", str(tmp_path / "out it"), "--group", group.task_group_id)
    _run(home.path, "keep", group.task_group_id, "--days", "30")

    assert told.startswith("8 tasks written")
    assert limits_in_force(Home(home.path)).groups == {group.task_group_id: 30 * 86400.0}
    with open(tmp_path / "out it" / "tasks.jsonl") as file:
        lines = {line["task_id"]: line for line in map(json.loads, file)}
    read = fxhpc.load_export(tmp_path / "out it")
    assert set(lines) == set(read) == set(ids)
    for first in (0, 4):
        text, failed, numbers, plain = (lines[task] for task in ids[first : first + 4])
        assert plain["result"] == read[plain["task_id"]].result() == {"number": 3}
        assert (plain["status"], plain["function_name"]) == ("success", "_various")
        assert (failed["status"], failed["error"]) == ("failed", "ValueError: one")
        with pytest.raises(fxhpc.errors.TaskExecutionFailed, match="one"):
            read[failed["task_id"]].result()
        pickled = (tmp_path / "out it" / numbers["result_file"]).read_bytes()
        assert pickle.loads(pickled) == read[numbers["task_id"]].result() == {3, 4}
        assert read[text["task_id"]].result() == "x" * 100_000
    again = CliRunner().invoke(
        commands, ["store", "export", str(tmp_path / "out it"), "--home", str(home.path)]
    )
    assert again.exit_code != 0
    with pytest.raises(fxhpc.errors.UsageError, match="no whole export"):
        fxhpc.load_export(tmp_path)


@pytest.mark.parametrize("command", ["export OUT --group NAME", "keep NAME --days 3"])
@pytest.mark.parametrize("name", ["5f1c9b1e:0-99", "5e6f7a8b-0000-4000-8000-000000000000"])
def test_a_group_that_nobody_knows(
    client: FuncXClient, home: TestHome, tmp_path: Path, command: str, name: str
) -> None:
    client.run(0, endpoint_id="local", function_id=client.register_function(_various))
    words = command.replace("OUT", str(tmp_path / "out")).replace("NAME", name).split()

    done = CliRunner().invoke(commands, ["store", *words], env={"FXHPC_HOME": str(home.path)})

    assert isinstance(done.exception, fxhpc.errors.TaskGroupNotFound)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_told(
    client: FuncXClient, home: TestHome, tmp_path: Path
) -> None:
    function = client.register_function(_various)
    task = client.run(0, endpoint_id="local", function_id=function)
    assert client.get_result(task, timeout=20)

    def told(*words: str) -> str:
        done = CliRunner().invoke(
            commands, ["store", "export", *words], env={"FXHPC_HOME": str(home.path)}
        )
        assert done.exit_code != 0
        return str(done.exception)

    (tmp_path / "file").touch()
    assert "is no directory" in told(str(tmp_path / "file"))
    assert "could not be resolved" in told(str(tmp_path / "none"), "--group", "nobody's")
    assert not (tmp_path / "none").exists()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))  # as on a disk that gets full
    try:
        text = told(str(tmp_path / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert f"remove {tmp_path / 'out'}" in text
    with pytest.raises(fxhpc.errors.UsageError, match="no whole export"):
        fxhpc.load_export(tmp_path / "out")


@pytest.mark.parametrize(
    "line", ["5", "[]", "{}", '{"task_id": "x", "result_file": "../other"}', "{", '{"task_id": 3}']
)
def test_what_is_no_export_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "tasks.jsonl").write_text(line + "\n")
    with pytest.raises(fxhpc.errors.UsageError, match="cannot be read"):
        fxhpc.load_export(tmp_path)


def test_a_result_whose_file_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"task_id": "x", "result_file": "results/x.pickle"}')
    with pytest.raises(fxhpc.errors.SerializationError, match="not whole any more"):
        fxhpc.load_export(tmp_path)["x"].result()

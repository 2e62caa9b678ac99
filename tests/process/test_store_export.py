"""`fxhpc store export|keep`: what is written can be read without fxhpc, and with it."""

from __future__ import annotations

import json
import pickle
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

"""`fxhpc config`: check, show, schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from fxhpc.cli.config import assignments
from fxhpc.cli.main import commands


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["config", *arguments])


def test_the_schema_is_json() -> None:
    result = run("schema")
    assert result.exit_code == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(result.stdout))


def test_a_file_that_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("provider: slurm\namqp_port: 443\n")
    result = run("check", str(path))
    assert (result.exit_code, result.stdout) == (0, f"{path}: is in order\n")
    assert result.stderr.startswith(f"warning: {path}: keys for Globus' cloud")
    document = json.loads(run("check", "--json", str(path)).stdout)
    assert document["ok"] is True
    assert document["problems"] == []
    assert len(document["warnings"]) == 1


def test_a_file_that_is_not(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("max_blocks: x\nfoo: 1\n")
    result = run("check", str(path))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{path}:1: max_blocks: must be a whole number, not 'x'",
        f"{path}:2: foo: there is no such key",
    ]
    document = json.loads(run("check", "--json", str(path)).stdout)
    assert document["ok"] is False
    assert len(document["problems"]) == 2


def test_values_are_what_they_look_like() -> None:
    texts = ("a=#SBATCH -x y", "b=3", "c=[1, 2]", "d='q'", "e=x #y", "f=", "g=null", "h=0123")
    assert assignments(texts) == {
        "a": "#SBATCH -x y", "b": 3, "c": [1, 2], "d": "q", "e": "x #y", "f": None, "g": None,
        "h": "0123",
    }  # fmt: skip


def test_lines_for_the_batch_system_and_commands_by_variables(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml.j2"
    path.write_text("provider: slurm\nscheduler_options: {{ o }}\nworker_init: {{ c }}\n")
    values = ("--set", "o=#SBATCH --comment=x", "--set", "c=true")
    shown = json.loads(run("show", "--json", str(path), *values).stdout)["engine"]["provider"]
    assert (shown["scheduler_options"], shown["worker_init"]) == ("#SBATCH --comment=x", "true")


def test_an_unused_value_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("max_blocks: 2\n")
    assert "has no variable 'x'" in run("show", str(path), "--set", "x=1").stderr
    assert run("show", "slurm", "--set", "x=1").exit_code != 0


def test_variables_of_a_template(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml.j2"
    path.write_text("max_workers_per_node: {{ n }}\ndisplay_name: {{ name }}\n")
    assert run("check", str(path)).exit_code == 1
    result = run("show", str(path), "--set", "n=3", "--set", "name=a: b")
    assert result.stdout == 'max_workers_per_node: 3\ndisplay_name: "a: b"\n'
    assert run("check", str(path), "--set", "n=3", "--set", "name=x").exit_code == 0


@pytest.mark.parametrize("text", ["x", "=3", "1a=3"])
def test_variables_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("max_blocks: 1\n")
    result = run("check", str(path), "--set", text)
    assert result.exit_code != 0
    assert "KEY=VALUE" in str(result.exception) + result.output


def test_show_prints_what_there_is_to_begin_with() -> None:
    assert "SlurmProvider" in run("show", "slurm").stdout
    assert "there are: local" in str(run("show", "vax").exception)


def test_show_resolves_all_keys(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("provider: slurm\nwalltime: 1h\n")
    document = json.loads(run("show", str(path), "--json").stdout)
    assert document["engine"]["provider"]["walltime"] == 3600
    assert document["engine"]["heartbeat_period"] == 5
    assert "walltime: 3600.0" in run("show", str(path), "--resolved").stdout

"""How commands speak: exit codes, errors in words and as JSON, tables, groups that import late."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fxhpc import errors
from fxhpc.cli import compat, main, output, running


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from fxhpc.cli.main import main; main(['--help']); "
        "print([m for m in ('pydantic', 'yaml', 'rich', 'parsl', 'zmq') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "endpoint" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_group_that_cannot_be_imported_disturbs_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = running.LazyGroup(
        "tool",
        lazy={"broken": ("fxhpc.cli.no_such_module:x", "Broken.")},
        commands={"fine": click.Command("fine", callback=lambda: click.echo("fine"))},
    )
    assert running.run(group, "tool", ["fine"]) == output.OK
    assert running.run(group, "tool", ["--help"]) == output.OK
    assert "Broken." in capsys.readouterr().out
    assert running.run(group, "tool", ["broken"]) == output.FAILED
    assert "cannot be loaded" in capsys.readouterr().err


def test_a_wrong_command_names_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["endpont"]) == output.USAGE
    assert "did you mean 'endpoint'?" in capsys.readouterr().err
    assert running.run(compat.commands, "fxhpc-endpoint", ["logs"]) == output.USAGE
    assert "use fxhpc endpoint logs NAME" in capsys.readouterr().err
    assert main.main(["endpoint", "strat", "x"]) == output.USAGE
    assert "did you mean 'start'?" in capsys.readouterr().err


@pytest.mark.parametrize("group", sorted(main.commands.list_commands(click.Context(main.commands))))
def test_no_line_of_help_is_cut(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([group, "--help"]) == output.OK
    shown = capsys.readouterr().out.partition("Commands:")[2]
    assert "..." not in shown


def test_a_command_without_its_group_is_told_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["logs", "midway"]) == output.USAGE
    assert "did you mean 'fxhpc endpoint logs'?" in capsys.readouterr().err
    assert main.main(["status"]) == output.USAGE
    said = capsys.readouterr().err
    assert "'fxhpc endpoint status' or 'fxhpc forwarder status'?" in said


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.EndpointNameInvalid("a b", "wrong", "write another"), output.USAGE),
        (errors.EndpointUnknown("x", "there is none", "make it"), output.UNKNOWN_ENDPOINT),
        (errors.EndpointNotRunning("x", "does not run", "start it"), output.NOT_RUNNING),
        (errors.EndpointRunning("x", "runs", "stop it"), output.RUNNING),
        (errors.EndpointElsewhere("x", "runs there", "go there"), output.RUNNING),
        (errors.EndpointStartFailed("x", "died", "see its log"), output.FAILED),
    ],
)
def test_errors_have_words_a_hint_and_a_code(
    error: errors.EndpointError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    command = click.Command("fail", callback=output.common_options(fail))
    command.params = getattr(fail, "__click_params__", [])
    assert running.run(command, "tool", []) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert error.text in said.err
    assert error.hint in said.err
    assert running.run(command, "tool", ["--json"]) == code
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "error": error.text,
        "hint": error.hint,
        "kind": type(error).__name__,
    }
    assert said.err == ""


def test_all_problems_of_a_configuration_are_in_the_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise errors.ConfigError(["a.yaml:1: x: wrong", "a.yaml:2: y: wrong too"])

    command = click.Command("fail", callback=fail)
    assert running.run(command, "tool", []) == output.BAD_CONFIG
    said = capsys.readouterr()
    assert "x: wrong" in said.err
    assert "y: wrong too" in said.err


def test_usage_errors_are_documents_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["endpoint", "start", "--json"]) == output.USAGE
    found = json.loads(capsys.readouterr().out)
    assert "NAME" in found["error"]
    assert found["hint"] == "see: fxhpc endpoint start --help"
    assert found["kind"] == "UsageError"


@pytest.mark.parametrize("name", ["nonsense", "zz" * 16, "5f1c9b1e:x"])
def test_what_can_be_no_task_is_wrong_usage(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("show", "explain", "cancel"):
        code = main.main(["task", verb, name, "--home", str(tmp_path / "none"), "--json"])
        assert code == output.USAGE
        assert json.loads(capsys.readouterr().out)["kind"] in ("UsageError", "InvalidUUID")


def test_interruptions_and_ends() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    assert running.run(click.Command("a", callback=interrupt), "tool", []) == output.INTERRUPTED
    assert running.run(click.Command("b", callback=end), "tool", []) == output.TERMINATED


def test_a_fault_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    def fault() -> None:
        raise ZeroDivisionError("by zero")

    assert running.run(click.Command("c", callback=fault), "tool", ["--json"]) == output.USAGE
    assert running.run(click.Command("c", callback=fault), "tool", []) == output.FAILED
    said = capsys.readouterr().err
    assert "fault of fxhpc" in said
    assert "Traceback" in said


def test_plain_tables_have_columns() -> None:
    lines = output.plain_table(["name", "state"], [["midway", "running"], ["x", ""]])
    assert lines == ["NAME    STATE", "midway  running", "x"]


def test_a_terminal_gets_lines_and_colour_unless_it_wants_none() -> None:
    code = "from fxhpc.cli import output; output.table(['name'], [['[red]midway']])"
    shown = on_terminal(code, TERM="xterm")
    assert "\x1b[" in shown
    assert "[red]midway" in shown
    plain = on_terminal(code, TERM="xterm", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)
    assert on_terminal(code, TERM="dumb").split() == ["NAME", "[red]midway"]


def on_terminal(code: str, **environment: str) -> str:
    """What a program prints on a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        env={**os.environ, **environment},
        check=True,
    )
    assert done.returncode == 0
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:
        pass  # the end of a terminal
    os.close(ours)
    return text.decode()


def test_ids_are_not_broken_on_a_narrow_terminal() -> None:
    identity = "4b116d3c-1703-4f8f-9f6f-39921e5864df"
    code = f"""
from fxhpc.cli import output
output.table(["Endpoint", "Host", "Id"], [["midway", "login1.cluster.example.org", "{identity}"]])
"""
    for columns in ("60", "100"):
        assert identity in on_terminal(code, COLUMNS=columns, TERM="xterm")


def test_json_of_structs_paths_and_bytes_that_are_no_text() -> None:
    assert json.loads(output.to_json({"path": Path("/a"), "name": "\udcff"})) == {
        "path": "/a",
        "name": "\udcff",
    }


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    from fxhpc import __version__

    assert main.main(["--version"]) == output.OK
    assert main.main(["version"]) == output.OK
    assert compat.main(["-v"]) == output.OK
    assert compat.main(["version"]) == output.OK
    assert capsys.readouterr().out.splitlines() == [f"fxhpc {__version__}"] * 4
    assert main.main(["version", "--json"]) == output.OK
    assert json.loads(capsys.readouterr().out)["version"] == __version__


@pytest.mark.parametrize(
    "arguments", [["--json", "endpoint", "list"], ["endpoint", "list", "--json"]]
)
def test_options_may_stand_anywhere(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["--home", str(tmp_path), *arguments]) == output.OK
    assert json.loads(capsys.readouterr().out) == []


def test_what_needs_no_account_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("login", "logout"):
        assert compat.main([verb]) == output.OK
        assert "no accounts" in capsys.readouterr().out
    assert compat.main(["-c", str(tmp_path), "whoami"]) == output.OK
    assert str(tmp_path) in capsys.readouterr().out

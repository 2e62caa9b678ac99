"""ShellFunction and ShellResult: what they look like, what is refused, and how they are packed."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import fxhpc
from fxhpc import errors
from fxhpc.client.sending.functions import FunctionCache
from fxhpc.serialize import Loader, pack_function
from fxhpc.shell import MPIFunction, ShellFunction, ShellResult


def test_the_public_names_are_these() -> None:
    assert fxhpc.ShellFunction is ShellFunction
    assert fxhpc.ShellResult is ShellResult


def test_what_is_given_can_be_read() -> None:
    function = ShellFunction("echo {x}", "out", Path("err"), 90, 5, "echo", True)
    assert function.__name__ == "echo"
    assert (function.cmd, function.stdout, function.stderr) == ("echo {x}", "out", "err")
    assert (function.walltime, function.snippet_lines, function.return_dict) == (90, 5, True)
    assert repr(function) == (
        "ShellFunction(cmd='echo {x}', stdout='out', stderr='err', walltime=90.0, "
        "snippet_lines=5, name='echo', return_dict=True)"
    )
    assert str(function) == (
        "echo\n  walltime: 90.0\n    stdout: out\n    stderr: err\n     lines: 5\n"
        "   command: echo {x}"
    )


def test_little_is_needed() -> None:
    function = ShellFunction("date")
    assert function.__name__ == "ShellFunction"
    assert repr(function) == "ShellFunction(cmd='date', snippet_lines=1000)"
    assert ShellFunction("date", walltime="1h30m").walltime == 5400


def test_a_long_script_is_shown_in_part() -> None:
    shown = str(ShellFunction("\n".join(f"echo {n}" for n in range(100))))
    assert shown.endswith("echo 9\n            [... truncated; see .cmd for full script ...]")
    assert "            echo 1\n" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"cmd": "ls {}"}, "positional"),
        ({"cmd": None}, "cmd=None: it is the text of a command line"),
        ({"stdout": 1}, "stdout=1: it is the path of a file"),
        ({"stderr": b"file"}, "stderr=b'file': it is the path of a file"),
        ({"stdout": "a\0b"}, "stdout='a.*no path has a NUL"),
        ({"cmd": "echo \0"}, "cmd='echo .*NUL"),
        ({"walltime": 0}, "walltime=0: it is more than 0"),
        ({"walltime": -1}, "walltime=-1: .*0 or more"),
        ({"walltime": True}, "walltime=True: True is not a duration"),
        ({"walltime": "soon"}, "walltime='soon': "),
        ({"walltime": float("nan")}, "walltime=nan: "),
        ({"snippet_lines": -1}, "snippet_lines=-1: it is a whole number, 0 or more"),
        ({"snippet_lines": 1.5}, "snippet_lines=1.5: it is a whole number"),
        ({"name": "two words"}, "name='two words': it is the name of a function"),
        ({"name": "class"}, "name='class'"),
        ({"name": 5}, "name=5"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(errors.UsageError, match=told):
        ShellFunction(**{"cmd": "date", **arguments})


@pytest.mark.parametrize("args", [(1,), ("a", "b"), ({"x": 1}, 2)])
def test_positional_arguments_are_refused(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=r"echo takes the keywords of its command \(x=\.\.\.\)"):
        ShellFunction("echo {x}", name="echo")(*args)


def test_a_missing_keyword_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="without x="):
        ShellFunction("echo {x}")(y=1)


def test_it_goes_by_its_name_and_attributes() -> None:
    function = ShellFunction("echo {x}", walltime=10, name="echo")
    packed = pack_function(function)
    assert (packed.name, packed.source, packed.walltime_s) == ("echo", "echo {x}", 15.0)
    assert len(packed.body) < 500
    loader = Loader()
    try:
        found = loader.load_function(packed.digest, packed.body)
    finally:
        loader.close()
    assert type(found) is ShellFunction
    assert vars(found) == vars(function)


def test_what_is_changed_is_packed_anew() -> None:
    cache, function = FunctionCache(), ShellFunction("echo {x}")
    first = cache.pack(function)
    assert cache.pack(function).digest == first.digest
    assert first.walltime_s == 0
    function.walltime = 1.5
    changed = cache.pack(partial(function, x=1))
    assert changed.digest != first.digest
    assert (changed.name, changed.source, changed.walltime_s) == ("ShellFunction", "echo {x}", 6.5)


def test_other_functions_declare_nothing() -> None:
    assert FunctionCache().pack(len).walltime_s == 0
    assert pack_function(lambda: None).walltime_s == 0


def test_a_result_is_shown_as_its_users_read_it() -> None:
    result = ShellResult("echo hello", "hello\n", "", 0)
    assert str(result) == "exit code: 0\n   stdout:\nhello"
    assert repr(result) == (
        "ShellResult(returncode=0, cmd='echo hello', stdout='hello\\n', stderr='')"
    )


def test_a_failure_is_shown_with_its_errors() -> None:
    lines = "".join(f"line {n}\n" for n in range(20))
    result = ShellResult("x", lines, "oh\nno\n", 3, "subprocess.CalledProcessError")
    assert str(result) == (
        "exit code: 3\n   stdout:\n[... truncated; see .stdout for full output ...]\n"
        + "".join(f"line {n}\n" for n in range(10, 20))
        + "\n   stderr:\noh\nno\n\nexception: subprocess.CalledProcessError"
    )
    assert vars(pickle.loads(pickle.dumps(result))) == vars(result)


def test_a_keyword_may_have_any_name() -> None:
    assert ShellFunction("echo {self} {cmd} {args}")(self=1, cmd=2, args=3).stdout == "1 2 3\n"  # type: ignore[union-attr]


@pytest.mark.parametrize("cmd", ["", " \n"])
def test_a_launcher_needs_a_program(cmd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.UsageError, match="the program that the launcher starts"):
        MPIFunction(cmd)
    monkeypatch.setenv("PARSL_MPI_PREFIX", "env")
    with pytest.raises(errors.UsageError, match="the program that the launcher starts"):
        MPIFunction("{program}")(program=cmd)


def test_a_program_stands_on_its_launchers_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a command in triple quotes begins with a new line."""
    monkeypatch.setenv("PARSL_MPI_PREFIX", "echo")
    result = MPIFunction("""
        solve {case}
        """)(case="in")
    assert isinstance(result, ShellResult)
    assert result.stdout == "solve in\n"

"""Commands as they run: what they find, what is kept of their output, and how they are ended."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fxhpc.shell import ShellFunction, ShellResult, command, trees
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GC_TASK_SANDBOX_DIR", "GC_TASK_UUID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "a task's"
    monkeypatch.setenv("GC_TASK_SANDBOX_DIR", str(directory))
    monkeypatch.setenv("GC_TASK_UUID", "0123-4567")
    return directory


def run(cmd: str, *, options: dict[str, Any] | None = None, **keywords: Any) -> ShellResult:
    result = ShellFunction(cmd, **(options or {}))(**keywords)
    assert isinstance(result, ShellResult)
    return result


def test_a_command_is_run_by_bash(tmp_path: Path) -> None:
    result = run("echo {word}; echo $BASH | tr a-z A-Z; cat; pwd >&2", word="hello there")
    assert result.cmd == "echo hello there; echo $BASH | tr a-z A-Z; cat; pwd >&2"
    assert result.stdout == "hello there\n/BIN/BASH\n"
    assert result.stderr == f"{tmp_path}\n"
    assert (result.returncode, result.exception_name) == (0, None)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("cmd", "code"), [("exit 3", 3), ("nosuch", 127), ("kill -9 $$", -9)])
def test_a_failure_is_a_result(cmd: str, code: int) -> None:
    result = run(cmd)
    assert (result.returncode, result.exception_name) == (code, "subprocess.CalledProcessError")


def test_a_command_may_begin_with_a_dash() -> None:
    assert run("-nosuch").returncode == 127


def test_a_dictionary_if_that_is_wanted() -> None:
    assert ShellFunction("echo {x}", return_dict=True)({"x": 1}, x=2) == {
        "cmd": "echo 2",
        "stdout": "2\n",
        "stderr": "",
        "returncode": 0,
        "exception_name": None,
    }


def test_files_in_the_tasks_own_directory(sandbox: Path) -> None:
    result = run("pwd; echo oh >&2; touch made")
    assert (result.stdout, result.stderr) == (f"{sandbox}\n", "oh\n")
    files = {file.suffix: file for file in sandbox.iterdir()}
    assert sorted(files) == ["", ".stderr", ".stdout"]
    for suffix, text in ((".stdout", result.stdout), (".stderr", "oh\n")):
        assert files[suffix].name.startswith("0123-4567.")
        assert files[suffix].read_text() == text
        assert stat.S_IMODE(files[suffix].stat().st_mode) == 0o600
    run("true")  # the task is run again
    assert len(os.listdir(sandbox)) == 5


def test_named_files_are_appended_to(sandbox: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    options = {"stdout": tmp_path / "log", "stderr": "sub/errors"}
    result = run("echo now; echo oh >&2", options=options)
    assert (result.stdout, result.stderr) == ("now\n", "oh\n")
    assert (tmp_path / "log").read_text() == "before\nnow\n"
    assert (sandbox / "sub" / "errors").read_text() == "oh\n"


def test_both_to_one_file(tmp_path: Path) -> None:
    result = run("echo a; echo b >&2; echo c", options={"stdout": "log", "stderr": "log"})
    assert (tmp_path / "log").read_text() == result.stdout == result.stderr == "a\nb\nc\n"


def test_a_file_that_the_command_makes_anew(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before, and longer\n")
    assert run(": > log; echo now", options={"stdout": "log"}).stdout == "now\n"


def test_nothing_is_read_from_what_is_no_file() -> None:
    assert run("echo a", options={"stdout": "/dev/null"}).stdout == ""


def test_a_file_that_cannot_be_written_is_the_tasks_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run("true", options={"stdout": "file/log"})


@pytest.mark.parametrize(
    ("lines", "found"),
    [(0, ""), (1, "3\n"), (2, "2\n3\n"), (3, "1\n2\n3\n"), (9, "1\n2\n3\n")],
)
def test_the_last_lines(lines: int, found: str) -> None:
    assert run("seq 3", options={"snippet_lines": lines}).stdout == found
    assert command.last_lines("1\n2\n3", 2) == "2\n3"


def test_a_flood_is_cut() -> None:
    result = run("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end")
    assert len(result.stdout) == command.SNIPPET_BYTES
    assert result.stdout.endswith("x\nthe end\n")


def test_any_bytes_and_any_line_ends_become_text() -> None:
    written = r"printf '\xff\xe4 \xc3\xa4\r\n10%%\r20%%\n'"
    assert run(written).stdout == "\ufffd\ufffd ä\n10%\n20%\n"


def test_too_long_a_command_says_so() -> None:
    with pytest.raises(OSError, match=r"200,005 bytes; Linux takes up to 131,071.*to a file"):
        run("echo {x}", x="y" * 200_000)


def test_no_bash_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SHELL", "/nowhere/bash")
    with pytest.raises(FileNotFoundError, match="/nowhere/bash could not be started on"):
        run("true")


# --- ending -----------------------------------------------------------------------------------


def test_when_its_time_is_over() -> None:
    result = run("sleep 600", options={"walltime": 0.1})
    assert (result.returncode, result.exception_name) == (124, "subprocess.TimeoutExpired")


def test_in_time() -> None:
    result = run("echo in time", options={"walltime": 60})
    assert (result.stdout, result.returncode) == ("in time\n", 0)


def test_a_kernel_without_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError("no such call")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert run("echo in time", options={"walltime": 60}).returncode == 0
    assert run("sleep 600", options={"walltime": 0.1}).returncode == 124


def end_when(monkeypatch: pytest.MonkeyPatch, condition: Callable[[], bool]) -> None:
    """The walltime of the next commands is over when this holds."""

    def wait(*_: object) -> bool:
        eventually(condition)
        return False

    monkeypatch.setattr(command, "_ends_within", wait)


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trees, "_PROC", str(tmp_path / "nowhere"))
    monkeypatch.setattr(trees, "GRACE_S", 0.1)
    monkeypatch.setattr(trees, "KILL_S", 0.1)
    end_when(monkeypatch, lambda: bool(numbers(tmp_path / "pids")))
    script = "trap '' TERM; sleep 600 & echo $! >> pids; wait; sleep 600"
    assert run(script).returncode == 124
    eventually(lambda: not [pid for pid in numbers(tmp_path / "pids") if is_alive(pid)])


#: Processes that leave their parent in every way: each writes its number, and waits.
_WAIT = "echo $BASHPID >> pids; exec sleep 600"
_SCATTERED = f"""
    setsid bash -c '{_WAIT}' &
    (setsid bash -c '{_WAIT}' &)
    nohup bash -c '{_WAIT}' > /dev/null 2>&1 &
    (setsid bash -c 'sleep 600 & echo $! >> pids; wait' &)
    bash -c 'echo $$ >> pids; kill -STOP $$'
    """


def test_its_walltime_ends_all_that_it_has_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    end_when(monkeypatch, lambda: len(numbers(tmp_path / "pids")) == 5)
    result = run(f"echo begun; {_SCATTERED} echo never; wait")
    assert (result.returncode, result.exception_name) == (124, "subprocess.TimeoutExpired")
    assert result.stdout == "begun\n"
    pids = numbers(tmp_path / "pids")
    assert len(pids) == 5
    assert not [pid for pid in pids if is_alive(pid)]


def test_a_command_may_tidy_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    end_when(monkeypatch, (tmp_path / "ready").exists)
    result = run("trap 'echo tidied; exit 5' TERM; echo begun; sleep 600 & touch ready; wait")
    assert (result.returncode, result.stdout) == (124, "begun\ntidied\n")


def test_who_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trees, "GRACE_S", 0.1)
    end_when(monkeypatch, lambda: bool(numbers(tmp_path / "pids")))
    script = "trap '' TERM; echo $$ > pids; while true; do sleep 600; done"
    assert run(script).returncode == 124
    assert not [pid for pid in numbers(tmp_path / "pids") if is_alive(pid)]


def test_commands_of_commands_end_with_them_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outer, inner, other, unused = (trees.Mark() for _ in range(4))
    monkeypatch.setattr(trees, "Mark", lambda: inner)
    monkeypatch.setattr(os, "environ", outer.added_to(other.added_to(dict(os.environ))))
    found: list[tuple[bool, ...]] = []

    def look() -> None:
        (pid,) = eventually(lambda: numbers(tmp_path / "pids"))
        found.append(tuple(mark.is_on(pid) for mark in (outer, inner, other, unused)))
        os.kill(pid, signal.SIGKILL)

    looking = threading.Thread(target=look)
    looking.start()
    assert run("echo $$ > pids; exec sleep 600", options={"walltime": 60}).returncode == -9
    looking.join()
    assert found == [(True, True, True, False)]


def test_what_goes_on_is_left_alone(tmp_path: Path) -> None:
    assert run("sleep 600 & echo $! > pids", options={"walltime": 60}).returncode == 0
    (pid,) = numbers(tmp_path / "pids")
    try:
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not is_alive(pid))


def test_an_interrupted_call_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        eventually(lambda: numbers(tmp_path / "pids"))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_ends_within", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("echo $$ > pids; exec sleep 600")
    assert not [pid for pid in numbers(tmp_path / "pids") if is_alive(pid)]


def numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False

"""Every example runs as it is, on a home of its own, says what it should, and leaves nothing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from keeper import LEFT_BEHIND, run_kept

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

#: What the lines that an example prints look like, as one regular expression each.
SAYS = {
    "tutorial.py": [
        UUID,
        UUID,
        "Hello World!",
        "15",
        r"\d{4}-\d\d-\d\d",
        "Hello World",
        "Exception: deterministic failure",
        r"Traceback \(most recent call last\):",
        r"Estimates: \[3\.\d+, 3\.\d+, 3\.\d+\]",
        r"Average: 3\.1\d{4}",
        UUID,
        r"\|\s+function_uuid\s+\| function_name .*",
        rf"\| {UUID} \| hello_world .*",
        "hello_world",
        "Status: online",
        r"Workers: [1-9]\d*",
        "Tasks: 0",
        r"\[0, 1, 4, 9, 16, 25, 36, 49, 64, 81\]",
    ],
    "executor.py": [
        rf"collatz\(27\) = 111, task {UUID}",
        r"collatz\(6171\) = 261",
        "below 10,000, 6171 takes longest: 261 steps",
    ],
    "batch.py": [
        rf"1,000 tasks, the first is {UUID}",
        r"the walk with seed \d+ got farthest: -?\d+\.\d",
    ],
    "commands.py": [
        r"exit code 0: \['11', '13', '17', '19', '23', '29'\]",
        "168 primes below 1,002",
        r"ShellResult\(returncode=3, .*no such mesh: wing.*",
        "exit code: 124",
        "stdout:",
        "step 1",
        r"exception: subprocess\.TimeoutExpired",
    ],
    "exceptions.py": [
        r"Unstable: diverged in step 17, residual 1e\+09 \(step 17\)",
        "raise Unstable.*",
        "(SystemExit|TaskExited): .*",
        "WorkerDied: .*SIGKILL.*",
        "What to do: .*",
        "MaxResultSizeExceeded: .*",
        "and the next task runs as if nothing had happened",
    ],
}


def test_every_example_is_tried() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_an_example_says_what_it_should_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    ended = run_kept([sys.executable, str(EXAMPLES / name)], tmp_path / "home", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    lines = iter(line.strip() for line in ended.stdout.splitlines())
    for wanted in SAYS[name]:
        # In this order, with other lines between them.
        assert any(re.fullmatch(wanted, line) for line in lines), f"{wanted}\n{ended.stdout}"


def test_what_is_left_behind_is_noticed(tmp_path: Path) -> None:
    leave = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    ended = run_kept([sys.executable, "-c", leave], tmp_path / "home", limit=1.0)
    assert ended.returncode == LEFT_BEHIND
    assert "sleep" in ended.stderr


def test_nothing_is_written_but_the_home(tmp_path: Path) -> None:
    work, user = tmp_path / "work", tmp_path / "user"
    work.mkdir()
    user.mkdir()
    ended = run_kept(
        [sys.executable, str(EXAMPLES / "batch.py")],
        user / ".fxhpc",
        cwd=work,
        env={"HOME": str(user), "TMPDIR": str(user / "no-such-directory")},
    )
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in user.iterdir()] == [".fxhpc"]
    assert not list(work.iterdir())
    known = {
        "store.db",
        "store.db-wal",
        "store.db.acknowledged",
        "store.db.reserve",
        "payloads",
        "claim",
        "lock",
        "forwarder.json",
        "forwarder.log",
    }
    known |= {"locals", "endpoints"}
    assert {path.name for path in (user / ".fxhpc").iterdir()} <= known

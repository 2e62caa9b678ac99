"""Why an endpoint is away, by what its directory holds."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import pytest

from fxhpc import hosts
from fxhpc.forwarder.away import why_away

HERE = platform.node()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "endpoint.json").write_text(json.dumps({"endpoint": "x", "name": "midway"}))
    return tmp_path


def process(directory: Path, name: str, *, host: str = HERE, alive: bool, later: float = 0) -> None:
    started = hosts.start_time(os.getpid())
    record = {"host": host, "pid": os.getpid(), "started": started + later, "boot": "b"}
    if not alive:
        record["pid"], record["started"] = 2**22 + 17, 1e-3 + later
    (directory / f"{name}.json").write_text(json.dumps(record))


def why(directory: Path) -> str:
    return why_away(directory, "midway").why


def test_never_started(directory: Path) -> None:
    told = why_away(directory, "midway")
    assert told.why == (
        "endpoint midway was never started; start it with: fxhpc endpoint start midway"
    )
    assert told.seen == 0


def test_stopped(directory: Path) -> None:
    (directory / "epoch").write_text("3")
    (directory / "status.json").write_text("{}")
    told = why_away(directory, "midway")
    assert told.why == "endpoint midway is stopped; start it with: fxhpc endpoint start midway"
    assert time.time() - told.seen < 60


def test_failed_says_why(directory: Path) -> None:
    (directory / "failure.txt").write_text("port 5000 is taken:\n  by pid 3.\n")
    assert why(directory) == (
        "endpoint midway has failed: port 5000 is taken: by pid 3; "
        "start it with: fxhpc endpoint start midway"
    )
    (directory / "failure.txt").write_text("x" * 10_000)
    assert len(why(directory)) < 700
    process(directory, "supervisor", alive=False)
    assert "has failed: xxx" in why(directory)


def test_died(directory: Path) -> None:
    process(directory, "supervisor", alive=False)
    process(directory, "interchange", alive=False, later=5)
    assert "endpoint midway has died: its process" in why(directory)
    assert "start it with: fxhpc endpoint start midway, which takes over" in why(directory)


def test_a_supervisor_that_starts_its_interchange(directory: Path) -> None:
    process(directory, "supervisor", alive=True)
    process(directory, "interchange", alive=False)
    assert why(directory) == (
        f"endpoint midway is starting on {HERE}; see: fxhpc endpoint logs midway"
    )
    (directory / "failure.txt").write_text("a bug")
    assert "the last time it ended: a bug" in why(directory)


def test_one_that_has_said_goodbye(directory: Path) -> None:
    process(directory, "supervisor", alive=True)
    process(directory, "interchange", alive=True)
    told = why_away(directory, "midway", left=time.time()).why
    assert told == f"endpoint midway is being stopped on {HERE}"
    # Another that was started since is not.
    started = hosts.wall_time(hosts.start_time(os.getpid()))
    told = why_away(directory, "midway", left=started - 1).why
    assert "is starting" in told


def test_on_another_login_node(directory: Path) -> None:
    process(directory, "interchange", alive=False)
    process(directory, "supervisor", host="login2", alive=False, later=5)
    (directory / "status.json").write_text("{}")
    at = time.time() - 3 * 3600 - 120
    os.utime(directory / "status.json", (at, at))
    told = why(directory)
    assert "runs on host login2" in told
    assert "reported last 3 h ago" in told
    assert f"this home is served on {HERE}" in told
    assert "stop it there (fxhpc endpoint stop midway)" in told


def test_one_that_no_command_starts(directory: Path) -> None:
    told = why_away(directory, "run", commands=False).why
    assert told == "endpoint run was never started"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"host": 3}', "\0\xff"])
def test_files_that_are_no_such_thing(directory: Path, text: str) -> None:
    for name in ("supervisor.json", "interchange.json"):
        (directory / name).write_text(text)
    assert "never started" in why(directory)

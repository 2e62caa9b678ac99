"""What is told of a task that was lost: the same by everybody, while it waits and when it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fxhpc import FuncXClient, errors
from tests.process.homes import TestHome
from tests.waiting import eventually


def hold_on(folder: str) -> None:
    print("hold on", file=sys.stderr, flush=True)
    with open(os.path.join(folder, str(os.getpid())), "w"):
        pass
    time.sleep(1000)


def asked(home: TestHome, *arguments: str) -> Any:
    ended = subprocess.run(
        [sys.executable, "-m", "fxhpc.cli.main", "task", *arguments, "--json"],
        env=home.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(ended.stdout)


def test_w01_each_attempts_story_is_told_alike_by_all(
    client: FuncXClient, home: TestHome, tmp_path: Path
) -> None:
    """W1: a task whose worker dies says so while it is tried again: `get_task`, `TaskPending` and
    `fxhpc task explain`. When it has ended, its error, `get_task` and `fxhpc task show` have the
    story of each attempt in their order: worker, host, signal; and the last of its stderr.
    """
    folder = tmp_path / "tries"
    folder.mkdir()
    function = client.register_function(hold_on)
    task = client.run(str(folder), endpoint_id="local", function_id=function)
    pids: list[int] = []
    for number in range(3):
        (pid,) = eventually(lambda: {int(name) for name in os.listdir(folder)} - set(pids))
        pids.append(pid)
        os.kill(pid, signal.SIGKILL)
        if number == 0:
            reason = eventually(lambda: client.get_task(task).get("reason", ""))
            assert f"it was lost once: worker {pid} on " in reason
            assert "was killed by signal 9 (SIGKILL)" in reason
            with pytest.raises(errors.TaskPending) as raised:
                client.get_result(task, wait=0)
            assert "lost once" in raised.value.reason
            assert "lost once" in " ".join(asked(home, "explain", task)["explanation"])
    stories = [f"worker {pid} on " for pid in pids]

    with pytest.raises(errors.WorkerDied) as died:
        client.get_result(task, timeout=60)
    error = died.value
    text = str(error)
    positions = [text.index(f"{number}. {story}") for number, story in enumerate(stories[:2], 1)]
    assert positions == sorted(positions)
    assert stories[2] in text.partition("\n")[0]
    assert "peak memory" in text
    assert "hold on" in error.stderr

    known = client.get_task(task)
    attempts = known["details"]["attempts"]
    assert attempts == list(error.attempts)
    assert all(story in told for story, told in zip(stories, attempts, strict=False))
    assert str(known["exception"].e_value) == text
    shown = asked(home, "show", task)
    assert shown["attempts"] == attempts
    assert shown["error"] == text
    assert stories[0] in " ".join(asked(home, "explain", task)["explanation"])

"""An endpoint whose login node ends all processes of its user, as at a logout, or kills them again
and again: the jobs stay, nothing is lost, nothing runs twice.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fxhpc import FuncXClient
from fxhpc.endpoint.state import State, look
from tests.faults.supervised import Supervised, check, spans, submit
from tests.process.homes import TestHome, title
from tests.waiting import eventually

#: What runs on a login node; managers and workers run on nodes.
_HERE = ("fxhpc: supervisor", "fxhpc: interchange", "fxhpc: provisioner", "fxhpc: forwarder")


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[Supervised]:
    endpoint = Supervised(home)
    endpoint.run("start")
    yield endpoint
    endpoint.stop()


def _here(home: TestHome) -> list[psutil.Process]:
    return [process for process in home.processes() if title(process).startswith(_HERE)]


def _end(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def test_a_logout_that_ends_processes_leaves_jobs_and_tasks(
    home: TestHome, client: FuncXClient, endpoint: Supervised, tmp_path: Path
) -> None:
    """I10: SIGTERM for all at once, then SIGKILL, while two of four tasks run."""
    path = tmp_path / "marks"
    ids = submit(client, endpoint.endpoint_id, path, 4, [1.0])
    eventually(lambda: len(spans(path)) == 2)
    managers = [process.pid for process in endpoint.managers()]
    client.close()
    victims = _here(home)
    assert len(victims) >= 3, victims
    _end(victims, signal.SIGTERM)
    daemons = [one for one in victims if not title(one).startswith("fxhpc: forwarder")]
    eventually(lambda: not any(one.is_running() and title(one) for one in daemons))
    state = look(endpoint.directory)
    assert state.state == State.FAILED
    assert "as at a logout" in state.trouble
    _end(victims, signal.SIGKILL)
    eventually(lambda: not _here(home))
    # What runs ends meanwhile, and nobody here knows.
    eventually(lambda: sum(end > 0 for _, _, end in spans(path)) >= 2)
    assert [process.pid for process in endpoint.managers()] == managers

    endpoint.run("start")
    with FuncXClient() as later:
        check(later, ids, path)
    assert [process.pid for process in endpoint.managers()] == managers


def test_who_is_killed_again_and_again_is_started_again_and_no_more_often(
    home: TestHome, client: FuncXClient, endpoint: Supervised, tmp_path: Path
) -> None:
    """I10: an administrator's rule kills forwarder and interchange again and again."""
    path = tmp_path / "marks"
    ids = submit(client, endpoint.endpoint_id, path, 40, [0.1])
    kills = 0
    used = time.process_time()
    for _ in range(3):
        endpoint.kill_interchange()
        forwarder = home.forwarder()
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(forwarder.pid).kill()
        kills += 1
        eventually(lambda before=forwarder.pid: home.forwarder().pid != before)
    check(client, ids, path)
    assert time.process_time() - used < 3.0, "who waits for them does so busily"
    assert endpoint.log().count("is started again") == kills
    assert endpoint.log("interchange").count("started: fxhpc") == kills + 1

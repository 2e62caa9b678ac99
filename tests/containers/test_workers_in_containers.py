"""Workers of an endpoint in containers of podman: what tasks find there, and how these end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fxhpc import FuncXClient
from fxhpc.endpoint.configuration.config import load_config_dict
from fxhpc.endpoint.specs import interchange_spec
from fxhpc.testing.endpoint import RunningEndpoint
from tests.containers.conftest import MARK, Podman, processes, stopped
from tests.process.homes import TestHome
from tests.waiting import eventually

Submit = Callable[..., str]


def look_around(mark: str, key: str, seconds: float = 0.0) -> dict[str, Any]:
    """What the tests run: what a task finds."""
    import os
    import platform
    import time

    time.sleep(seconds)
    with open("written", "w"):
        pass
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            open(key).close()
            os.write(writer, b"read")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    return {
        "image": os.path.exists(mark),
        "first": os.path.basename(os.readlink("/proc/1/exe")),
        "host": platform.node(),
        "user": os.getuid(),
        "home": os.path.expanduser("~"),
        "cwd": os.getcwd(),
        "block": os.environ["FXHPC_BLOCK"],
        "ties": [name for name in os.environ if name.startswith("FXHPC_TIE")],
        "umask": os.umask(0o022),
        "a stranger": os.read(reader, 4),
    }


@pytest.fixture
def endpoint(home: TestHome, podman: Podman) -> Iterator[RunningEndpoint]:
    """An endpoint that is not started yet; it is stopped after the test."""
    endpoint = RunningEndpoint(home.path, "midway", managers=0)
    with stopped(endpoint):
        yield endpoint


@pytest.fixture
def start(endpoint: RunningEndpoint, podman: Podman, tmp_path: Path) -> Callable[..., None]:
    """Starts the endpoint, configured so that its image has this test's Python."""

    def start(**values: Any) -> None:
        config = load_config_dict(
            {
                **podman.configuration,
                "python": sys.executable,
                "working_dir": str(tmp_path / "where tasks run"),
                "max_workers_per_node": 1,
                "poll_interval": 1,
                "stop_timeout": 0,
                **values,
            }
        )
        assert config.warnings == [] or config.engine.container_type != "podman"
        spec = interchange_spec(config, "midway", endpoint.directory, umask=0o027)
        endpoint.start_interchange(spec)

    return start


@pytest.fixture
def submit(client: FuncXClient, endpoint: RunningEndpoint) -> Submit:
    """Submits a call of `look_around`."""

    def submit(seconds: float = 0.0) -> str:
        task = client.run(
            MARK,
            str(endpoint.directory.manager_key),
            seconds,
            endpoint_id=endpoint.endpoint_id,
            function_id=client.register_function(look_around),
        )
        assert isinstance(task, str)
        return task

    return submit


@pytest.fixture
def running(client: FuncXClient, start: Callable[..., None], submit: Submit) -> Callable[[], str]:
    """Starts the endpoint, and a task that runs in its container."""

    def running() -> str:
        start()
        task = submit(1000.0)
        eventually(lambda: client.get_task(task).get("status") == "running")
        return task

    return running


def test_tasks_run_in_the_image_as_the_user_and_nothing_is_left(
    client: FuncXClient,
    endpoint: RunningEndpoint,
    podman: Podman,
    start: Callable[..., None],
    submit: Submit,
    tmp_path: Path,
) -> None:
    start()
    found = client.get_result(submit(), timeout=60)
    place = tmp_path / "where tasks run"
    assert found == {
        "image": True,
        "first": os.path.basename(os.path.realpath(sys.executable)),  # the manager
        "host": os.uname().nodename,
        "user": os.getuid(),
        "home": str(Path.home()),
        "cwd": str(place),
        "block": "1",
        "ties": [],
        "umask": 0o027,
        "a stranger": b"",
    }
    assert (place / "written").stat().st_uid == os.getuid()
    assert not list(endpoint.directory.blocks.glob("tie-*"))
    assert len(podman.containers()) == 1
    assert endpoint.interchange is not None
    endpoint.interchange.terminate()
    assert endpoint.interchange.wait(30) == 0
    assert podman.containers() == []
    assert not processes("conmon")


def test_a_killed_manager_takes_its_container_along(
    client: FuncXClient,
    endpoint: RunningEndpoint,
    podman: Podman,
    running: Callable[[], str],
) -> None:
    task = running()
    (manager,) = processes("fxhpc: manager")
    manager.kill()
    (ended,) = eventually(lambda: list(endpoint.directory.blocks.glob("*.ended")))
    assert ended.read_text() == "137\n"
    assert podman.containers() == []
    assert not processes("fxhpc: worker")
    eventually(lambda: "it was lost once" in client.get_task(task).get("reason", ""))


def test_a_killed_job_takes_its_container_along(
    client: FuncXClient,
    endpoint: RunningEndpoint,
    podman: Podman,
    running: Callable[[], str],
) -> None:
    """A batch system kills what it knows of a job, and that is not what runs in the container."""
    running()
    (name,) = podman.containers()
    (run,) = [one for one in processes("podman") if "run" in one.cmdline()]
    for process in (*run.parents()[:2], run):
        assert process.pid != os.getpid()
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended with its parent
            process.send_signal(signal.SIGKILL)
    eventually(lambda: name not in podman.containers())
    (log,) = endpoint.directory.manager_logs.glob("manager-1-*.log")
    assert "leaving: what had started its container is gone" in log.read_text()


def test_without_the_runtime_nothing_runs(
    client: FuncXClient, podman: Podman, start: Callable[..., None], submit: Submit
) -> None:
    start(container_type="podman-hpc", worker_init=": it might bring it")
    task = submit()
    said = "there is no podman-hpc on node"
    eventually(lambda: said in client.get_task(task).get("reason", ""))
    assert "nothing is run without it" in client.get_task(task)["reason"]
    assert podman.containers() == []

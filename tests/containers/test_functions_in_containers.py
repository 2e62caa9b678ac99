"""Functions in containers of podman that they have chosen: all that a task can do works in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fxhpc import FuncXClient, errors
from fxhpc.endpoint.configuration.config import load_config_dict
from fxhpc.endpoint.specs import interchange_spec
from fxhpc.testing.endpoint import RunningEndpoint
from tests.containers.conftest import MARK, Podman, processes, stopped
from tests.process.homes import TestHome
from tests.waiting import eventually


def where(mark: str, *large: bytes) -> dict[str, Any]:
    """What the tests run: what a task finds."""
    import os
    import sys

    print("seen")
    print("told", file=sys.stderr)
    with open("written", "w"):
        pass
    return {
        "image": os.path.exists(mark),
        "sizes": [len(data) for data in large],
        "user": os.getuid(),
        "cwd": os.getcwd(),
        "cores": os.environ.get("FXHPC_CORES"),
        "mode": os.environ.get("MODE"),
        "pid": os.getpid(),
    }


def fill(size: int) -> int:
    return len(b"x" * size)


def die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def run_for(seconds: float, begun: str) -> None:
    import subprocess
    import time

    subprocess.Popen(["/usr/bin/sleep", "1234"], start_new_session=True)
    open(begun, "w").close()
    time.sleep(seconds)


def large(size: int) -> bytes:
    return bytes(size)


@pytest.fixture
def endpoint(home: TestHome, podman: Podman, tmp_path: Path) -> Iterator[RunningEndpoint]:
    """An endpoint whose manager runs on this host, in no container."""
    endpoint = RunningEndpoint(home.path, "midway", managers=0)
    options = f"{podman.configuration['container_cmd_options']} -e PATH={sys.prefix}/bin:/usr/bin"
    options += " --pull never"
    config = load_config_dict(
        {
            "python": sys.executable,
            "working_dir": str(tmp_path / "where tasks run"),
            "max_workers_per_node": 2,
            "poll_interval": 1,
            "stop_timeout": 0,
            "containers": {"options": {"podman": options}},
        }
    )
    assert config.warnings == []
    endpoint.start_interchange(interchange_spec(config, "midway", endpoint.directory))
    with stopped(endpoint):
        yield endpoint


class Submitter:
    """Submits calls in the image, or in another one.

    Attributes:
        place: where they run: what they write there is seen outside.
    """

    def __init__(
        self, client: FuncXClient, endpoint: RunningEndpoint, image: str, place: Path
    ) -> None:
        self.place = place
        self.client = client
        self.endpoint = endpoint
        self.container = client.register_container(image, "podman")

    def submit(self, function: Callable[..., Any], *args: Any, **options: Any) -> str:
        registered = self.client.register_function(function, container_uuid=self.container)
        batch = self.client.create_batch(**options)
        batch.add(*args, endpoint_id=self.endpoint.endpoint_id, function_id=registered)
        task: str = self.client.batch_run(batch)[0]
        return task

    def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self.client.get_result(self.submit(function, *args, **options), timeout=60)


@pytest.fixture
def inside(
    client: FuncXClient, endpoint: RunningEndpoint, podman: Podman, tmp_path: Path
) -> Submitter:
    return Submitter(client, endpoint, podman.name, tmp_path / "where tasks run")


def test_all_that_a_task_can_do_works_in_the_image(
    client: FuncXClient, inside: Submitter, podman: Podman
) -> None:
    place = inside.place
    needs = {"cores": 1, "environment": {"MODE": "fast"}}
    sent = (bytes(20_000), bytes(200_000), bytes(2_000_000))
    task = inside.submit(where, MARK, *sent, resource_specification=needs, capture_output=True)
    found = client.get_result(task, timeout=60)
    pid = found.pop("pid")
    assert found == {
        "image": True,
        "sizes": [20_000, 200_000, 2_000_000],
        "user": os.getuid(),
        "cwd": str(place),
        "cores": "1",
        "mode": "fast",
    }
    assert (place / "written").stat().st_uid == os.getuid()
    details = client.get_task(task)["details"]
    assert (details["stdout"], details["stderr"]) == ("seen\n", "told\n")
    # Another class of tasks, in the same container; and one that is in none.
    found = inside.run(where, MARK)
    assert (found["image"], found["pid"] == pid) == (True, False)
    outside = client.run(
        MARK,
        endpoint_id=inside.endpoint.endpoint_id,
        function_id=client.register_function(where),
    )
    assert client.get_result(outside, timeout=60)["image"] is False
    assert len(podman.containers()) == 1
    # A result in the socket, in a file in memory, and in one of the file system.
    assert len(inside.run(large, 3_000_000)) == 3_000_000
    client.max_payload, client.on_exceed = 100_000, "spill"
    assert len(inside.run(large, 200_000)) == 200_000
    _end_tasks(client, inside)


def _end_tasks(client: FuncXClient, inside: Submitter) -> None:
    """They are ended as elsewhere, and tell the same of that."""
    client.retries = 0
    with pytest.raises(errors.WorkerDied, match=r"SIGKILL"):
        inside.run(die)
    with pytest.raises(errors.TaskMemoryExceeded, match=r"its limit is 100\.0 MB"):
        inside.run(fill, 300 * 2**20, resource_specification={"memory": "100MB"})
    walltime = {"walltime": 0.3}
    with pytest.raises(errors.TaskWalltimeExceeded):
        inside.run(run_for, 60.0, str(inside.place / "1"), resource_specification=walltime)
    task = inside.submit(run_for, 1000.0, str(inside.place / "2"))
    eventually((inside.place / "2").exists)
    client.cancel(task, interrupt=True)
    with pytest.raises(errors.TaskCancelled):
        client.get_result(task, timeout=10)
    eventually(lambda: not processes("sleep"))
    other = Submitter(client, inside.endpoint, "localhost/no-such-image:1", inside.place)
    with pytest.raises(errors.WorkerStartFailed, match="no-such-image") as raised:
        other.run(fill, 10)
    assert "nothing is run without it" in str(raised.value)
    missing = client.register_container("img", "podman-hpc")
    function = client.register_function(fill, container_uuid=missing)
    with pytest.raises(errors.ResourcesTooLarge, match="podman-hpc container of img"):
        client.run(1, endpoint_id=inside.endpoint.endpoint_id, function_id=function)
    assert inside.run(fill, 10) == 10


def test_no_container_outlives_its_manager_or_its_seed(
    client: FuncXClient, inside: Submitter, podman: Podman
) -> None:
    task = inside.submit(run_for, 1000.0, str(inside.place / "begun"))
    eventually((inside.place / "begun").exists)
    (first,) = podman.containers()
    for inside_it in (True, False):  # what ran in it runs again, in another one
        (seed,) = [one for one in processes("fxhpc: seed") if _is_inside(one) is inside_it]
        (inside.place / "begun").unlink()
        seed.kill()
        eventually((inside.place / "begun").exists)
    eventually(lambda: first not in podman.containers())
    (manager,) = processes("fxhpc: manager")
    manager.kill()
    eventually(lambda: podman.containers() == [])
    assert not [one for one in processes("fxhpc: worker") if _is_inside(one)]
    eventually(lambda: "it was lost" in client.get_task(task).get("reason", ""))


def _is_inside(process: psutil.Process) -> bool:
    return Path(f"/proc/{process.pid}/root{MARK}").exists()

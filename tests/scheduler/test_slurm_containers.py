"""Workers in containers of podman, within a job of Slurm."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import submit

from fxhpc import FuncXClient
from tests.containers.conftest import MARK, Podman, podman

__all__ = ["podman"]


def where(mark: str, begun: str, seconds: float) -> tuple[bool, str, str | None, str]:
    """Whether it is in the image, on which node, in which job, and where."""
    import os
    import platform
    import time

    open(begun, "w").close()
    time.sleep(seconds)
    return os.path.exists(mark), platform.node(), os.environ.get("SLURM_JOB_ID"), os.getcwd()


def managers() -> list[psutil.Process]:
    """Managers that are first in a container, on any node."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = Path(f"/proc/{process.pid}/root{MARK}").exists()
            if inside and process.cmdline()[0].startswith("fxhpc: manager"):
                found.append(process)
        except (psutil.Error, OSError, IndexError):
            continue  # it has ended meanwhile
    return found


def test_a_job_that_is_cancelled_takes_its_container_along(
    podman: Podman, login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    """Slurm signals podman, and whatever that has started to hand a signal on; not what runs in
    the container.
    """
    engine = {
        **podman.configuration,
        "python": sys.executable,
        "working_dir": str(tmp_path / "where tasks run"),
    }
    endpoint = login.endpoint("midway", configuration(engine))
    endpoint.start()
    first, second = tmp_path / "where tasks run" / "1", tmp_path / "where tasks run" / "2"
    (task,) = submit(client, endpoint, where, (MARK, str(first), 0.0))
    found = client.get_result(task, timeout=60)
    (job,) = slurm.job_ids()
    assert found == (True, slurm.jobs()[0].nodes, job, str(tmp_path / "where tasks run"))
    submit(client, endpoint, where, (MARK, str(second), 1000.0))
    soon(second.exists)
    (manager,) = managers()
    slurm.cancel(job)
    soon(lambda: manager not in managers(), within=20)
    (log,) = (endpoint.directory / "manager-logs").glob("manager-1-*.log")
    assert "leaving: the manager got SIGTERM" in log.read_text()
    endpoint.stop("--now")
    soon(lambda: not managers(), within=10)

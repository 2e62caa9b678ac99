"""Functions in containers of podman that they have chosen, on a node of Slurm."""

from __future__ import annotations

import sys
from pathlib import Path

from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster

from fxhpc import FuncXClient
from tests.containers.conftest import MARK, Podman, podman

__all__ = ["podman"]


def where(mark: str, begun: str, seconds: float) -> tuple[bool, str, list[str | None]]:
    """Whether it is in the image, on which node, in which job, and with how many cores."""
    import os
    import platform
    import time

    open(begun, "w").close()
    time.sleep(seconds)
    told = [os.environ.get(name) for name in ("SLURM_JOB_ID", "FXHPC_CORES")]
    return os.path.exists(mark), platform.node(), told


def test_a_container_of_a_function_is_in_its_job_and_ends_with_it(
    podman: Podman, login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    place = tmp_path / "where tasks run"
    options = f"{podman.configuration['container_cmd_options']} -e PATH={sys.prefix}/bin:/usr/bin"
    engine = {
        "python": sys.executable,
        "working_dir": str(place),
        "max_workers_per_node": 2,
        "containers": {"options": {"podman": options}},
    }
    endpoint = login.endpoint("midway", configuration(engine))
    endpoint.start()
    image = client.register_container(podman.name, "podman")
    needs = {"cores": 1}
    function = client.register_function(where, container_uuid=image, resource_specification=needs)
    task = client.run(MARK, str(place / "1"), 0.0, endpoint_id=endpoint.id, function_id=function)
    found = client.get_result(task, timeout=60)
    (job,) = slurm.job_ids()
    assert found == (True, slurm.jobs()[0].nodes, [job, "1"])
    client.run(MARK, str(place / "2"), 1000.0, endpoint_id=endpoint.id, function_id=function)
    soon((place / "2").exists)
    (name,) = podman.containers()
    slurm.cancel(job)
    soon(lambda: name not in podman.containers(), within=20)
    endpoint.stop("--now")
    soon(lambda: not podman.containers(), within=10)

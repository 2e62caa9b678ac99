"""Nodes whose Python is another one: without fxhpc, or of another minor version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from login_node import LoginNode, configuration
from slurm_cluster import SlurmCluster
from tasks_on_nodes import all_tell, executing, submit

from fxhpc import FuncXClient


def _activate(directory: Path) -> str:
    """What people write into worker_init for a virtual environment."""
    return f'export PATH="{directory}/bin:$PATH"'


def test_a_python_without_fxhpc_is_told_before_three_blocks_are_wasted(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=60
    )
    endpoint = login.endpoint("midway", configuration(worker_init=_activate(bare)))
    endpoint.start()
    (task,) = submit(client, endpoint, abs, (-1,))
    version = ".".join(str(number) for number in sys.version_info[:2])
    all_tell(client, endpoint, task, "fxhpc", str(bare / "bin"), version, "pip install")
    assert len(slurm.calls()) == 1


def test_the_python_of_worker_init_runs_the_tasks(
    login: LoginNode, client: FuncXClient, public_python: str
) -> None:
    where = Path(public_python).parent.parent
    endpoint = login.endpoint("midway", configuration(worker_init=_activate(where)))
    endpoint.start()
    with executing(client, endpoint) as executor:

        def which() -> str:
            import sys

            return sys.prefix

        assert executor.submit(which).result(60) == str(where)

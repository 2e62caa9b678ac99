"""An ordinary user; and that stop and delete leave nothing."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster
from tasks_on_nodes import executing

from fxhpc import FuncXClient

_SQUARES = """
    import os, sys
    from fxhpc import Executor

    def square(x):
        import getpass, os, platform
        return x * x, os.getuid(), platform.node(), os.environ.get("SLURM_JOB_ID")

    if __name__ == "__main__":
        with Executor(endpoint_id="midway") as executor:
            told = list(executor.map(square, range(50)))
        assert [one[0] for one in told] == [x * x for x in range(50)], told
        assert {one[1] for one in told} == {os.getuid()}, told
        assert all(one[3] for one in told), told
        print(*sorted({one[2] for one in told}))
"""


def test_an_ordinary_user_runs_an_endpoint(alice: LoginNode, slurm: SlurmCluster) -> None:
    endpoint = alice.endpoint(
        "midway", configuration(nodes_per_block=2, launcher={"type": "SrunLauncher"})
    )
    endpoint.start()
    assert set(alice.python_script(_SQUARES).split()) <= set(slurm.nodes)
    # All that lies in her home is hers alone; what a job writes has the modes that she works with.
    uid = pwd.getpwnam("alice").pw_uid
    for folder, _, files in os.walk(alice.home):
        assert (os.stat(folder).st_uid, os.stat(folder).st_mode & 0o077) == (uid, 0), folder
        for name in files:
            if not name.endswith((".stdout", ".stderr")) and not name.startswith("cmd_"):
                mode = os.lstat(os.path.join(folder, name)).st_mode & 0o077
                assert mode == 0, f"{folder}/{name} has mode {mode:o}"
    endpoint.stop()
    alice.check_nothing_left()


def test_stop_and_delete_leave_nothing(
    login: LoginNode, client: FuncXClient, slurm: SlurmCluster, tmp_path: Path
) -> None:
    state = tmp_path / "a state's directory"
    state.mkdir(mode=0o700)
    config = configuration(init_blocks=2, max_blocks=2, walltime="00:05:00")
    endpoint = login.endpoint("midway", config + f'state_dir: "{state}"\n')
    endpoint.start()
    with executing(client, endpoint) as executor:
        assert executor.submit(abs, -3).result(60) == 3
    soon(lambda: endpoint.status().get("managers") == 2)
    endpoint.stop()
    soon(lambda: not slurm.jobs(), within=15)
    assert not login.titled("fxhpc: supervisor", "fxhpc: interchange", "fxhpc: provisioner")
    soon(lambda: not slurm.processes(), within=15)
    assert not (endpoint.directory / "interchange.json").exists()
    endpoint.delete()
    assert not endpoint.directory.exists()
    assert not list(state.rglob("*")), "something of the endpoint is left in its state_dir"
    assert "midway" not in login.fxhpc("endpoint", "list")

"""Executor without a daemon: with a configuration of its own, or inside an allocation."""

from __future__ import annotations

import shlex
import signal

import pytest
from login_node import LoginNode, configuration, soon
from slurm_cluster import SlurmCluster

_TWO_NODES = """
    import sys, time
    from fxhpc import Executor

    def where(x):
        import platform, time
        time.sleep(0.05)
        return platform.node(), x

    if __name__ == "__main__":
        with Executor({executor}) as executor:
            print("begun", flush=True)
            told = list(executor.map(where, range(200)))
            assert [one[1] for one in told] == list(range(200))
            print("hosts", *sorted({{one[0] for one in told}}), flush=True)
            time.sleep({rest})
"""


def test_an_executor_with_a_configuration_cancels_its_blocks(
    login: LoginNode, slurm: SlurmCluster
) -> None:
    login.script(
        "slurm.yaml",
        configuration(nodes_per_block=2, init_blocks=1, launcher={"type": "SrunLauncher"}),
    )
    out = login.python_script(_TWO_NODES.format(executor="config='slurm.yaml'", rest=0))
    assert len(out.split("hosts")[1].split()) == 2
    login.check_nothing_left(within=10)
    assert not list((login.home / "executors").glob("*")), "an endpoint's directory is left"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_executor_that_is_killed_leaves_no_block(
    login: LoginNode, slurm: SlurmCluster, how: signal.Signals
) -> None:
    # Two blocks of which only one finds room.
    login.script(
        "slurm.yaml",
        configuration(
            nodes_per_block=3, init_blocks=2, max_blocks=2, launcher={"type": "SrunLauncher"}
        ),
    )
    script = login.script("script.py", _TWO_NODES.format(executor="config='slurm.yaml'", rest=60))
    process = login.start(login.python, str(script))
    soon(lambda: slurm.job_ids("RUNNING") and slurm.job_ids("PENDING"), within=30)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("hosts"):
        assert process.poll() is None
    process.send_signal(how)
    login.check_nothing_left(within=20)
    assert not list((login.home / "executors").glob("*")), "an endpoint's directory is left"


def test_an_executor_inside_an_allocation_uses_all_its_nodes(
    login: LoginNode, slurm: SlurmCluster
) -> None:
    login.script("script.py", _TWO_NODES.format(executor="", rest=0))
    login.script("job.sh", f"#!/bin/sh\n'{login.python}' script.py\n")
    code, out, err = login.run("sbatch", "-W", "-N2", "--exclusive", "-o", "out", "job.sh")
    printed = (login.work / "out").read_text()
    assert code == 0, f"{out}{err}{printed}"
    assert len(printed.split("hosts")[1].split("\n")[0].split()) == 2, printed
    login.check_nothing_left(within=10)


def test_an_executor_in_a_shell_of_salloc_does_not_run_on_the_login_node(
    login: LoginNode, slurm: SlurmCluster
) -> None:
    script = login.script("script.py", _TWO_NODES.format(executor="", rest=0))
    code, out, err = login.run("salloc", "-N1", "--exclusive", login.python, str(script))
    assert code == 0, f"{out}{err}"
    assert out.split("hosts")[1].split()[0].startswith("node"), out
    assert "runs on the node of job" in err
    login.check_nothing_left(within=10)


def test_a_killed_executor_inside_an_allocation_leaves_nothing(
    login: LoginNode, slurm: SlurmCluster
) -> None:
    login.script("script.py", _TWO_NODES.format(executor="", rest=60))
    login.script("job.sh", f"#!/bin/sh\n'{login.python}' script.py & echo $! > pid; wait\nsleep 20")
    login.run("sbatch", "-N2", "--exclusive", "-o", "out", "job.sh")
    out = login.work / "out"
    soon(lambda: out.exists() and "hosts" in out.read_text(), within=40)
    (job,) = slurm.jobs()
    batch_node = slurm.slurm("scontrol", "show", "job", job.id).split("BatchHost=")[1].split()[0]
    slurm.on_node(batch_node, "kill", "-9", (login.work / "pid").read_text().strip())
    # The job goes on, and has its nodes for itself.
    soon(lambda: not [line for line in slurm.processes() if "fxhpc: " in line], within=15)
    assert slurm.job_ids("RUNNING") == [job.id]
    slurm.cancel_all()


@pytest.mark.parametrize("how", ["sbatch", "salloc", "srun"])
def test_nodes_of_any_allocation_join_an_endpoint(
    login: LoginNode, slurm: SlurmCluster, how: str
) -> None:
    # An endpoint that asks for no blocks itself.
    endpoint = login.endpoint("midway", configuration({"strategy": "none"}))
    endpoint.start()
    join = [login.python, "-m", "fxhpc.cli.main", "manager", "start", "--endpoint", "midway"]
    if how == "sbatch":
        join = [str(login.script("job.sh", f"#!/bin/sh\n{shlex.join(join)}\n"))]
    process = login.start(how, "-N2", "--exclusive", *join)
    soon(lambda: endpoint.status().get("managers") == 2, within=30)
    out = login.python_script(_TWO_NODES.format(executor="endpoint_id='midway'", rest=0))
    assert len(out.split("hosts")[1].split()) == 2
    (job,) = slurm.job_ids()
    slurm.cancel(job)
    process.communicate(timeout=30)
    soon(lambda: endpoint.status().get("managers") == 0, within=20)

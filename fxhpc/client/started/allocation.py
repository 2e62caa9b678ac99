"""Which nodes the batch system has given to this process's job, and how an executor uses them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxhpc.cores import is_on_node_of_job

#: Set to 0, an executor without arguments stays on its node.
SWITCH = "FXHPC_ALLOCATION"

#: Set where tasks run, whose executors must not take the nodes that run them.
_IN_TASK = ("FXHPC_BLOCK", "PARSL_WORKER_RANK")


@dataclass(frozen=True)
class Allocation:
    """The nodes of this job, others than this host, and what starts processes on them."""

    nodes: int
    starter: str  # srun or mpiexec
    job: str

    def config(self, workers: int | None = None) -> dict[str, Any]:
        """A private endpoint's configuration: one block, all nodes, which is there already.

        Args:
            workers: on each node; None takes what the job was given there.
        """
        provider: dict[str, Any] = {
            "type": "LocalProvider",
            "nodes_per_block": self.nodes,
            "init_blocks": 1,
            "min_blocks": 1,
            "max_blocks": 1,
            "launcher": self._launcher(),
        }
        config: dict[str, Any] = {"provider": provider}
        if workers is not None:
            config["max_workers_per_node"] = workers
        return config

    def _launcher(self) -> dict[str, Any]:
        if self.starter == "srun":
            overrides = f"--overlap --nodes={self.nodes} --ntasks-per-node=1"
            return {"type": "SrunLauncher", "overrides": overrides}
        return {"type": "MpiExecLauncher"}

    @property
    def note(self) -> str:
        """One line for the user."""
        where = f"all {self.nodes} nodes" if self.nodes > 1 else "the node"
        return (
            f"fxhpc: this executor runs on {where} of job {self.job}, by {self.starter}; "
            f"{SWITCH}=0 keeps it on this host."
        )


def find_allocation(
    environ: Mapping[str, str], which: Callable[[str], str | None] = shutil.which
) -> Allocation | None:
    """The nodes of the job that this process is the script of; None if there is but this one.

    A process that is one of several ranks of a step is not the script. A shell of salloc on a login
    node is none of the job's nodes: there one node is another one, too.

    Args:
        environ: the environment.
        which: finds a command.
    """
    if environ.get(SWITCH) == "0" or any(environ.get(name) for name in _IN_TASK):
        return None
    if job := environ.get("SLURM_JOB_ID"):
        nodes = environ.get("SLURM_JOB_NUM_NODES") or environ.get("SLURM_NNODES") or ""
        is_rank = environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"
        least = 2 if is_on_node_of_job(environ) else 1
        if is_rank or not nodes.isdigit() or int(nodes) < least or not which("srun"):
            return None
        return Allocation(int(nodes), "srun", job)
    if job := environ.get("PBS_JOBID"):
        hosts = _hosts(environ.get("PBS_NODEFILE", ""))
        if hosts < 2 or _is_mpi_rank(environ) or not which("mpiexec"):
            return None
        return Allocation(hosts, "mpiexec", job)
    return None


def _hosts(path: str) -> int:
    """How many different hosts a file names, one a line."""
    try:
        return len(set(Path(path).read_text().split()))
    except OSError:
        return 0


def _is_mpi_rank(environ: Mapping[str, str]) -> bool:
    sizes = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "PALS_RANKID")
    return any(environ.get(name) for name in sizes)


def workers_per_node(environ: Mapping[str, str]) -> int | None:
    """What FXHPC_WORKERS asks for, on each node."""
    given = environ.get("FXHPC_WORKERS", "")
    return int(given) if given.isdigit() and int(given) > 0 else None


def current() -> Allocation | None:
    """The allocation of this process."""
    return find_allocation(os.environ)

"""The nodes of a task with ranks in files: one for programs that want one, and one for any srun."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence

#: The variable that says where the first one is, with one line for each node.
VARIABLE = "FXHPC_NODEFILE"

#: Slurm's variable: an srun without --nodelist takes as many lines of that file as it has tasks.
_OF_SRUN = "SLURM_HOSTFILE"


def variables(own: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Write them, for this process: where they are.

    Args:
        own: the variables that its task has; see `fxhpc.manager.resources.ranks.variables`.
        environ: all.
    """
    told = {VARIABLE: write(own["PARSL_MPI_NODELIST"].split(","))}
    nodes = own.get("SLURM_JOB_NODELIST")
    if nodes and _OF_SRUN not in own:
        # Without this an srun takes any nodes of the job, as many as it wants.
        cores = environ.get("SLURM_CPUS_ON_NODE", "")
        most = max(int(own["PARSL_RANKS_PER_NODE"]), int(cores) if cores.isdecimal() else 1)
        told[_OF_SRUN] = write(nodes.split(",") * most)
    return told


def write(nodes: Sequence[str]) -> str:
    """Write names of nodes, one a line, and return where others on this node read them.

    The file has no name: it is this process's, and goes with it, however that ends.
    """
    with tempfile.TemporaryFile() as file:
        file.write("".join(f"{node}\n" for node in nodes).encode())
        file.flush()
        return f"/proc/{os.getpid()}/fd/{os.dup(file.fileno())}"

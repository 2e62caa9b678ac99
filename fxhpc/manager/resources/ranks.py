"""What a program of several ranks finds around it: where its ranks run, and how to start them.

The names and the prefixes are Parsl's, so that functions and commands written for it run here.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from fxhpc.protocol.needs import Needs

#: Which mpiexec it is: they disagree about their options. That of Slurm's wrappers for Torque calls
#: srun, and knows none of them.
HYDRA, OPEN_MPI, SLURM = "hydra", "openmpi", "slurm"

#: What starts ranks.
LAUNCHERS = ("srun", "mpiexec", "aprun")

#: Seconds that mpiexec has to say its version.
_VERSION_S = 5.0

#: Variables of the manager's own step, which such tasks do not have: an srun in them would take
#: these for its own options.
OF_THE_STEP = (
    "SLURM_CPU_BIND",
    "SLURM_CPU_BIND_LIST",
    "SLURM_CPU_BIND_TYPE",
    "SLURM_CPU_BIND_VERBOSE",
    "SLURM_DISTRIBUTION",
    "SLURM_GTIDS",
    "SLURM_LAUNCH_NODE_IPADDR",
    "SLURM_LOCALID",
    "SLURM_MEM_BIND",
    "SLURM_MEM_PER_CPU",
    "SLURM_MEM_PER_GPU",
    "SLURM_MEM_PER_NODE",
    "SLURM_NODEID",
    "SLURM_NPROCS",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_PROCID",
    "SLURM_SRUN_COMM_HOST",
    "SLURM_SRUN_COMM_PORT",
    "SLURM_STEPID",
    "SLURM_STEP_ID",
    "SLURM_STEP_LAUNCHER_PORT",
    "SLURM_STEP_NODELIST",
    "SLURM_STEP_NUM_NODES",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_TASK_PID",
    "SLURM_TRES_PER_TASK",
)


def variables(
    needs: Needs,
    hosts: Sequence[str],
    launcher: str,
    flavour: str,
    mpi_type: str = "",
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The variables of tasks that have ranks, or several nodes, beside `OF_THE_STEP`.

    Args:
        hosts: where they run.
        environ: those of the job.
        launcher: which of the prefixes is PARSL_MPI_PREFIX: one of `LAUNCHERS`.
        flavour: which mpiexec there is.
        mpi_type: for srun's --mpi; empty: Slurm's own choice.
    """
    nodes, ranks = str(len(hosts)), needs.ranks or len(hosts)
    per_node = needs.ranks_per_node or 1
    prefixes = {
        "srun": _srun(needs, hosts, ranks, per_node, mpi_type),
        "mpiexec": _mpiexec(hosts, ranks, per_node, flavour),
        "aprun": _aprun(hosts, ranks, per_node),
    }
    if needs.launcher_options:  # the user's, for the shell to take apart
        prefixes = {name: f"{own} {needs.launcher_options}" for name, own in prefixes.items()}
    told = {
        "PARSL_NUM_NODES": nodes,
        "PARSL_NUM_RANKS": str(ranks),
        "PARSL_RANKS_PER_NODE": str(per_node),
        "PARSL_MPI_NODELIST": ",".join(hosts),
        **{f"PARSL_{name.upper()}_PREFIX": prefix for name, prefix in prefixes.items()},
        "PARSL_MPI_PREFIX": prefixes[launcher],
        # The manager's own step has the processors: without this, one within it waits for them.
        "SLURM_OVERLAP": "1",
    }
    if len(hosts) == 1:  # MPICH needs no srun, nor ssh, on its own node
        told["HYDRA_LAUNCHER"] = "fork"
    return told | _as_a_job(hosts, per_node, environ or {})


def _as_a_job(hosts: Sequence[str], per_node: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Slurm's variables of the job, as if the task's nodes and ranks were all that it has.

    An mpiexec starts no more ranks on a node than these say: Open MPI's refuses to, whatever its
    options say; and a block says one for each node, its manager. One without options takes them.
    """
    if "SLURM_JOB_ID" not in environ:
        return {}
    nodes, count = ",".join(_short(host) for host in hosts), len(hosts)
    told = {
        "SLURM_JOB_NODELIST": nodes,
        "SLURM_NODELIST": nodes,
        "SLURM_JOB_NUM_NODES": str(count),
        "SLURM_NNODES": str(count),
        "SLURM_TASKS_PER_NODE": f"{per_node}(x{count})",
    }
    if same := re.fullmatch(r"(\d+)(\(x\d+\))?", environ.get("SLURM_JOB_CPUS_PER_NODE", "")):
        told["SLURM_JOB_CPUS_PER_NODE"] = f"{same[1]}(x{count})"
    return told


def _short(host: str) -> str:
    """Slurm's name of a node: what comes before the first dot."""
    return host.partition(".")[0]


def _srun(needs: Needs, hosts: Sequence[str], ranks: int, per_node: int, mpi_type: str) -> str:
    parts = ["srun", "--overlap"]
    if mpi_type:
        parts.append(f"--mpi={mpi_type}")
    parts += ["--ntasks", str(ranks), "--ntasks-per-node", str(per_node)]
    parts += ["--cpus-per-task", str(needs.cores_per_rank or 1)]
    names = [_short(host) for host in hosts]
    return shlex.join([*parts, "--nodelist", ",".join(names), "--nodes", str(len(hosts))])


def _mpiexec(hosts: Sequence[str], ranks: int, per_node: int, flavour: str) -> str:
    """That of Hydra (MPICH, Intel, Cray); or of Open MPI, which refuses -ppn and -hosts."""
    parts = ["mpiexec", "-n", str(ranks)]
    if flavour == OPEN_MPI:
        each = ",".join(f"{host}:{per_node}" for host in hosts)
        return shlex.join([*parts, "--host", each, "--map-by", f"ppr:{per_node}:node"])
    return shlex.join([*parts, "-ppn", str(per_node), "-hosts", ",".join(hosts)])


def _aprun(hosts: Sequence[str], ranks: int, per_node: int) -> str:
    parts = ["aprun", "-n", str(ranks), "-N", str(per_node)]
    return shlex.join([*parts, "-node-list", ",".join(hosts)])


def flavour_of(version: str) -> str:
    """Which mpiexec says this of its version (`mpiexec --version`)."""
    text = version.lower()
    if "mpiexec.slurm" in text:
        return SLURM
    return OPEN_MPI if "open mpi" in text or "openrte" in text or "prrte" in text else HYDRA


def launcher_here(asked: str, environ: Mapping[str, str]) -> str:
    """What starts ranks on this node: what the endpoint says, or what is there."""
    if asked:
        return asked
    path = environ.get("PATH")
    if "SLURM_JOB_ID" not in environ or not shutil.which("srun", path=path):
        return "mpiexec"
    if not shutil.which("mpiexec", path=path) or flavour_here(path or "") == SLURM:
        return "srun"
    return "mpiexec"


@functools.cache
def flavour_here(path: str) -> str:
    """Which mpiexec is found in this PATH; it is asked once."""
    mpiexec = shutil.which("mpiexec", path=path)
    if mpiexec is None:
        return HYDRA
    try:
        told = subprocess.run(
            [mpiexec, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return HYDRA
    return flavour_of((told.stdout + told.stderr).decode(errors="replace"))

"""What a manager's node gives it: how many workers, and for each its cores, devices, variables."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from fxhpc.cores import allowed_cores, batch_cores, job_of, usable_cores, usable_memory
from fxhpc.manager.accelerators import Devices, device_variables, machine_devices
from fxhpc.manager.pinning import Unfit, core_sets, listed_cores
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.units import format_bytes

_OMP_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Place:
    """What one worker has for itself. If it dies, its successor gets the same."""

    cores: list[int] = field(default_factory=list)  # that it is bound to; empty: to none
    environ: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """This node, or the share of it that the batch job has."""

    places: list[Place]  # one for each worker
    host: str
    cores: int
    memory: int  # bytes
    accelerators: int = 0
    block: str = ""
    job: str = ""
    cwd: str = ""  # of the tasks
    walltime_s: float = 0.0  # of the job; 0: it has none, or that is not known
    ends: float = 0.0  # wall clock, when the batch system ends the job; 0: it does not
    notes: list[str] = field(default_factory=list)  # what whoever looks for a reason should know

    @property
    def slots(self) -> int:
        """How many workers."""
        return len(self.places)

    @property
    def shared_environ(self) -> dict[str, str]:
        """The variables of all workers: also for what is imported before these are forked.

        Libraries look at them once. Where workers are to have different numbers of threads, that
        is the least.
        """
        if not self.places:
            return {}
        first, *others = (place.environ for place in self.places)
        shared = {
            name: value
            for name, value in first.items()
            if all(other.get(name) == value for other in others)
        }
        if all(_OMP_THREADS in environ for environ in (first, *others)):
            counts = (int(environ[_OMP_THREADS]) for environ in (first, *others))
            shared[_OMP_THREADS] = str(min(counts))
        return shared


def is_own(spec: ManagerSpec) -> bool:
    """Whether the manager is a client's own, and its tasks' surroundings are the client's."""
    return bool(spec.watch_pid)


def examine(
    spec: ManagerSpec,
    environ: Mapping[str, str],
    now: float,
    devices: Devices | None = None,
) -> Node:
    """What the manager of this specification has here.

    Args:
        environ: the manager's environment: what the batch system and `worker_init` have set.
        now: the wall clock.
        devices: what the machine shows of its accelerators; it is looked at if None.

    Raises:
        Unfit: no worker can be had as the specification wants it.
    """
    host = platform.node()
    cores = usable_cores(environ)
    memory = usable_memory(environ, cores)
    notes: list[str] = []
    given, allowed = batch_cores(environ), len(allowed_cores())
    if not spec.workers and 0 < given < allowed:
        notes.append(
            f"the batch system gave this job {given} of the {allowed} cores of {host}: to use "
            f"more, ask for them (Slurm: cores_per_node or exclusive, PBS: cpus_per_node)"
        )
    seen: list[dict[str, str]] = []
    if spec.accelerators:
        found = machine_devices() if devices is None else devices
        seen = device_variables(spec.accelerators, environ, found)
        if len(seen) < len(spec.accelerators):
            notes.append(_few_accelerators(spec, len(seen), host))
        if not seen:
            raise Unfit(notes[-1])
    slots = spec.workers or _slots(spec, host, cores, memory, len(seen))
    if seen:
        slots = min(slots, len(seen))
    sets = core_sets(spec.affinity or ("block" if spec.pin else ""), allowed_cores(), slots)
    if spec.affinity not in ("", "none") and not sets:
        notes.append(
            f"cpu_affinity {spec.affinity!r} binds nobody: {slots} workers, and {allowed} cores "
            f"on {host}"
        )
    # A client inside a task finds the variables of the task's block; its manager is not of that.
    block = spec.block or ("" if is_own(spec) else environ.get("FXHPC_BLOCK", ""))
    places: list[Place] = []
    for rank in range(slots):
        bound = sets[rank] if sets else []
        variables: dict[str, str] = {}
        if not is_own(spec):
            variables = _variables(spec, rank, slots, block)
        if not is_own(spec) or spec.affinity:
            variables |= _threads(spec, environ, bound)
        if seen:
            variables |= seen[rank]
        places.append(Place(bound, variables))
    walltime_s, ends = _walltime(spec, environ, block, now)
    return Node(
        places,
        host,
        cores,
        memory,
        len(seen),
        block,
        job_of(environ),
        _directory(spec),
        walltime_s,
        ends,
        notes,
    )


def _slots(spec: ManagerSpec, host: str, cores: int, memory: int, accelerators: int) -> int:
    """As many workers as cores, memory, accelerators and the specification allow."""
    limits: list[int] = []
    if spec.max_workers:
        limits.append(spec.max_workers)
    if spec.cores_per_worker > 0:
        # A hair more, since 0.1 + 0.2 is none less than 0.3 for whoever wrote it.
        limits.append(math.floor(cores / spec.cores_per_worker + 1e-9))
        if limits[-1] < 1:
            raise Unfit(
                f"no worker fits on {host}: cores_per_worker is {spec.cores_per_worker:g}, and "
                f"the job has {cores} cores there"
            )
    if spec.memory_per_worker > 0 and memory:
        limits.append(memory // spec.memory_per_worker)
        if limits[-1] < 1:
            raise Unfit(
                f"no worker fits on {host}: mem_per_worker is "
                f"{format_bytes(spec.memory_per_worker)}, and the job has "
                f"{format_bytes(memory)} there"
            )
    if accelerators:
        limits.append(accelerators)
    if listed := listed_cores(spec.affinity):
        limits.append(len(listed))
    return min(limits, default=cores)


def _few_accelerators(spec: ManagerSpec, count: int, host: str) -> str:
    return (
        f"available_accelerators names {len(spec.accelerators)} on {host}, and the job was given "
        f"{count} of them there"
    )


def _variables(spec: ManagerSpec, rank: int, count: int, block: str) -> dict[str, str]:
    """What HTEX tells its workers, and fxhpc its own."""
    variables = {
        "PARSL_WORKER_RANK": str(rank),
        "PARSL_WORKER_COUNT": str(count),
        "PARSL_WORKER_POOL_ID": spec.manager,
        "PARSL_WORKER_BLOCK_ID": block,
    }
    if block:
        variables["FXHPC_BLOCK"] = block
    return variables


def _threads(spec: ManagerSpec, environ: Mapping[str, str], bound: list[int]) -> dict[str, str]:
    """How many threads OpenMP makes, and where it puts them, unless the user has said it."""
    count = len(bound) or max(1, math.floor(spec.cores_per_worker + 1e-9))
    variables = {_OMP_THREADS: str(count)}
    if bound:
        listed = ",".join(map(str, bound))
        variables["GOMP_CPU_AFFINITY"] = listed
        variables["KMP_AFFINITY"] = f"explicit,proclist=[{listed}]"
    threads = environ.get(_OMP_THREADS)
    # PBS sets it to all cores of the job: nobody's choice, and wrong for more than one worker.
    by_pbs = bool(threads and environ.get("PBS_JOBID") and threads == environ.get("NCPUS"))
    said = {*environ, *spec.environ} - ({_OMP_THREADS} if by_pbs else set())
    return {name: value for name, value in variables.items() if name not in said}


def _walltime(
    spec: ManagerSpec, environ: Mapping[str, str], block: str, now: float
) -> tuple[float, float]:
    """How long the job may take, and when it ends by the wall clock; 0: that is not known."""
    walltime_s = spec.walltime_s if block else 0.0
    started = _seconds(environ, "FXHPC_BLOCK_STARTED") or now
    ends = [started + walltime_s] if walltime_s else []
    if end := _seconds(environ, "SLURM_JOB_END_TIME"):
        ends.append(end)
        if begin := _seconds(environ, "SLURM_JOB_START_TIME"):
            walltime_s = end - begin
    return walltime_s, min(ends, default=0.0)


def _seconds(environ: Mapping[str, str], name: str) -> float:
    try:
        return max(0.0, float(environ.get(name, "")))
    except ValueError:
        return 0.0


def _directory(spec: ManagerSpec) -> str:
    """Where tasks begin: what the specification says, or the directory of the job."""
    if spec.cwd:
        return os.fsdecode(spec.cwd)
    try:
        return os.getcwd()
    except OSError:
        return "/"  # it was removed

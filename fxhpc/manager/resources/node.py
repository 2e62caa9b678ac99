"""What a manager's node gives it: how many workers, and for each its cores, devices, variables."""

from __future__ import annotations

import math
import os
import platform
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from fxhpc.cores import (
    PROMISED,
    allowed_cores,
    batch_cores,
    job_of,
    machine_cores,
    usable_cores,
    usable_memory,
)
from fxhpc.manager.resources.accelerators import Devices, hidden, items_of, machine_devices, visible
from fxhpc.manager.resources.pinning import Unfit, core_sets, listed_cores, seats
from fxhpc.manager.resources.places import Place, Places, threads
from fxhpc.protocol import containers
from fxhpc.protocol.needs import UNIT, Cell, Size
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.units import format_bytes

_OMP_THREADS = "OMP_NUM_THREADS"

#: Descriptors that a manager needs for itself, and for each worker: its socket, page and output,
#: two files for what its tasks print, and one on the way.
OWN_DESCRIPTORS, WORKER_DESCRIPTORS = 64, 6


class Node(msgspec.Struct, frozen=True):
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
    notes: list[str] = []  # what whoever looks for a reason should know
    size: Size = Size(())  # what tasks can ask for
    names: Sequence[str] = ()  # of its accelerators, by their numbers in `size`
    said: frozenset[str] = frozenset()  # variables of threads that the user has set
    devices: Devices = Devices()
    mpi_launcher: str = ""  # what starts ranks of tasks; empty: what is there
    mpi_type: str = ""  # for srun's --mpi; empty: Slurm's own choice

    @property
    def slots(self) -> int:
        """How many workers."""
        return len(self.places)

    @property
    def most_sized(self) -> int:
        """How many workers there may be at a time beside these, for tasks with needs of their own,
        as far as this process's limit on open files allows.
        """
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        files = math.inf if soft == resource.RLIM_INFINITY else soft
        allowed = (files - OWN_DESCRIPTORS) / WORKER_DESCRIPTORS - self.slots
        return math.floor(min(most_sized(self.slots), max(1, allowed)))

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


def most_sized(slots: int) -> int:
    """How many workers there may be at a time beside so many, for tasks with needs of their own.

    Such tasks may ask for parts of a core: each takes a process, and some open files.
    """
    return 2 * slots + 16


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
    found, seen = Devices(), list[list[str]]()
    if spec.accelerators:
        found = machine_devices() if devices is None else devices
        seen = items_of(spec.accelerators, environ, found)
        if len(seen) < len(spec.accelerators):
            notes.append(_few_accelerators(spec, len(seen), host))
        if not seen:
            raise Unfit(notes[-1])
    each = bool(seen) and not spec.accelerators_on_request  # has one
    slots = spec.workers or _slots(spec, host, cores, memory, len(seen) if each else 0)
    if each:
        slots = min(slots, len(seen))
    sets = core_sets(spec.affinity, allowed_cores(), slots)
    if spec.affinity not in ("", "none") and not sets:
        notes.append(
            f"cpu_affinity {spec.affinity!r} binds nobody: {slots} workers, and {allowed} cores "
            f"on {host}"
        )
    # A client inside a task finds the variables of the task's block; its manager is not of that.
    block = spec.block or ("" if is_own(spec) else environ.get("FXHPC_BLOCK", ""))
    claims = [_cores(spec, sets[rank] if sets else []) for rank in range(slots)]
    seated = [dict.fromkeys(cores, UNIT) for cores in sets]
    if not spec.affinity and block and _is_alone(spec, environ, allowed):
        seated = seats(claims, allowed_cores())
    places: list[Place] = []
    for rank in range(slots):
        bound = sets[rank] if sets else []
        variables: dict[str, str] = {}
        if not is_own(spec):
            variables = _variables(spec, rank, slots, block)
        if not is_own(spec) or spec.affinity:
            variables |= _threads(spec, environ, bound)
        if seen:
            variables |= (visible(seen[rank], environ, found) or {}) if each else hidden()
        places.append(Place(bound, variables, seat=seated[rank] if seated else {}))
    names = list(dict.fromkeys(item for items in seen for item in items))
    users = Counter(item for items in seen[:slots] for item in items)
    # Several workers may share an accelerator.
    share = UNIT // max(users.values(), default=1) if each else UNIT
    cells = tuple(
        Cell(
            claim,
            tuple(names.index(item) for item in seen[rank]) if each else (),
            share,
        )
        for rank, claim in enumerate(claims)
    )
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
        Size(cells, len(names), int(PROMISED * memory), _containers(spec, environ)),
        names,
        frozenset(_said(spec, environ)),
        found,
        spec.mpi_launcher,
        spec.mpi_type,
    )


def places_of(node: Node, environ: Mapping[str, str]) -> Places:
    """What its workers have, and what tasks with needs of their own get."""
    return Places(
        node.places,
        node.names,
        environ,
        node.said,
        node.devices,
        node.host,
        node.mpi_launcher,
        node.mpi_type,
    )


def _containers(spec: ManagerSpec, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Patterns of the containers that functions can have here."""
    if sys.platform != "linux" or not spec.container_images:
        return ()
    path = environ.get("PATH")
    found = [kind for kind in containers.KINDS if shutil.which(kind, path=path)]
    return containers.patterns(found, spec.container_images)


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
    said = _said(spec, environ)
    return {name: value for name, value in threads(count, bound).items() if name not in said}


def _said(spec: ManagerSpec, environ: Mapping[str, str]) -> set[str]:
    """Which of the variables of threads the user has set."""
    count = environ.get(_OMP_THREADS)
    # PBS sets it to all cores of the job: nobody's choice, and wrong for more than one worker.
    by_pbs = bool(count and environ.get("PBS_JOBID") and count == environ.get("NCPUS"))
    said = {*environ, *spec.environ} - ({_OMP_THREADS} if by_pbs else set())
    return said & {*threads(1, [0])}


def _cores(spec: ManagerSpec, bound: Sequence[int]) -> int:
    """Thousandths of a core that a worker has for itself."""
    return max(1, len(bound) * UNIT or round(spec.cores_per_worker * UNIT) or UNIT)


def _is_alone(spec: ManagerSpec, environ: Mapping[str, str], allowed: int) -> bool:
    """Whether the cores that this process may run on are its batch job's, and nobody else's.

    If the job is not confined to what it was given, nobody knows which of all cores that is. A
    batch system that gives more cores than there are gives them to several.
    """
    given = batch_cores(environ)
    return spec.own_cores and bool(job_of(environ)) and allowed <= given <= machine_cores()


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

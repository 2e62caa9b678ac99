"""What of this machine its processes may use: cores, memory, and which batch job they are in.

Whoever runs a batch job was given a share of a node, and the batch system's variables say which.
Where there are none, affinity, the cgroups' limits and the machine itself decide.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")

#: The share of a node's memory that can be promised to tasks: managers and seeds take some too.
PROMISED = 0.95

#: Where batch systems write the number of a job.
JOB_VARIABLES = (
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "JOB_ID",
    "FLUX_JOB_ID",
    "_CONDOR_JOB_ID",
)

_MB, _GB = 2**20, 2**30
#: A cgroup without a limit in version 1 has one that is no memory's size.
_NO_LIMIT = 2**60


def job_of(environ: Mapping[str, str]) -> str:
    """The batch system's id of the job that this process is in; empty: it is in none."""
    return next((environ[name] for name in JOB_VARIABLES if environ.get(name)), "")


def is_on_node_of_job(environ: Mapping[str, str]) -> bool:
    """Whether this process is in a job, and on a node of it: salloc's shell may be on a login node.

    There it has the job's variables, but for those that Slurm sets on its nodes.
    """
    if environ.get("SLURM_JOB_ID"):
        return bool(environ.get("SLURM_NODEID") or environ.get("SLURMD_NODENAME"))
    return bool(job_of(environ))


def allowed_cores() -> list[int]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def machine_cores() -> int:
    """How many cores this machine has."""
    return os.cpu_count() or 1


def usable_cores(environ: Mapping[str, str], cgroup: Path = _CGROUPS) -> int:
    """How many cores this process and its children may keep busy, at least 1.

    What the batch system has given counts, but no more than an affinity that is narrower than the
    machine. Without a batch system, affinity and the cgroups' quota.
    """
    allowed = len(allowed_cores())
    given = batch_cores(environ)
    if given:
        # A machine may have fewer cores than its batch system says, where that was meant so.
        return given if allowed == os.cpu_count() else min(given, allowed)
    quota = cgroup_cores(cgroup)
    return max(1, min(allowed, quota) if quota else allowed)


def usable_memory(environ: Mapping[str, str], cores: int, cgroup: Path = _CGROUPS) -> int:
    """How many bytes of memory this process and its children may use.

    Args:
        cores: how many cores it may use; some batch systems give memory for each.
    """
    known = [batch_memory(environ, cores), cgroup_memory(cgroup), machine_memory()]
    return min((size for size in known if size), default=0)


def batch_cores(environ: Mapping[str, str]) -> int:
    """The cores of this node that its batch job was given; 0: that is not known."""
    if cores := _number(environ, "PARSL_CORES"):
        return cores  # a Parsl provider's cores_per_node
    if cores := _number(environ, "SLURM_CPUS_ON_NODE"):
        return cores
    if cores := _slurm_per_node(environ, "SLURM_JOB_CPUS_PER_NODE"):
        return cores
    for name in ("NCPUS", "PBS_NUM_PPN"):
        if cores := _number(environ, name):
            return cores
    if cores := _lsf_cores(environ):
        return cores
    # These count the cores of all nodes.
    for name, nodes in (("PBS_NP", "PBS_NUM_NODES"), ("NSLOTS", "NHOSTS")):
        if (cores := _number(environ, name)) and environ.get(nodes, "1") == "1":
            return cores
    return 0


def batch_memory(environ: Mapping[str, str], cores: int) -> int:
    """Bytes of this node's memory that its batch job was given; 0: that is not known, or all."""
    try:
        if (given := float(environ.get("PARSL_MEMORY_GB", ""))) > 0:
            return int(given * _GB)
    except ValueError:
        pass
    if size := _number(environ, "SLURM_MEM_PER_NODE"):
        return size * _MB
    return _number(environ, "SLURM_MEM_PER_CPU") * _MB * cores


def machine_memory() -> int:
    """Bytes of memory that this machine has; 0: it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def cgroup_cores(root: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """Cores by the quota of this process's cgroups and their parents, rounded up; 0: no quota."""
    quotas = [_quota_v2(folder) for folder in _folders(root, own, "")]
    quotas += [_quota_v1(folder) for folder in _folders(root, own, "cpu")]
    found = [quota for quota in quotas if quota > 0]
    return max(1, -int(-min(found) // 1)) if found else 0


def cgroup_memory(root: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """Bytes of memory by the limits of this process's cgroups and their parents; 0: no limit."""
    texts = [_read(folder / "memory.max") for folder in _folders(root, own, "")]
    texts += [_read(folder / "memory.limit_in_bytes") for folder in _folders(root, own, "memory")]
    limits = [int(text) for text in map(str.strip, texts) if text.isdigit()]
    return min((limit for limit in limits if 0 < limit < _NO_LIMIT), default=0)


def memory_cgroups(root: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> list[Path]:
    """The directories that account for this process's memory: its cgroup, then those above it."""
    folders = [*_folders(root, own, ""), *_folders(root, own, "memory")]
    files = ("memory.events", "memory.oom_control")
    return [folder for folder in folders if any((folder / name).exists() for name in files)]


def _number(environ: Mapping[str, str], name: str) -> int:
    value = environ.get(name, "").strip()
    return int(value) if value.isdigit() else 0


def _slurm_per_node(environ: Mapping[str, str], name: str) -> int:
    """Of "4(x2),2": what is said of this node, if this is one: salloc sets it on a login node."""
    if "SLURM_NODEID" not in environ:
        return 0
    counts: list[int] = []
    for part in environ.get(name, "").split(","):
        count, _, times = part.partition("(x")
        times = times.rstrip(")") or "1"
        if not count.strip().isdigit() or not times.isdigit():
            return 0
        counts += [int(count)] * min(int(times), 100_000)
    node = environ["SLURM_NODEID"]
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else 0


def _lsf_cores(environ: Mapping[str, str]) -> int:
    """Of "one 4 two 8": what is said of this host."""
    words = environ.get("LSB_MCPU_HOSTS", "").split()
    host = platform.node().partition(".")[0]
    for name, count in zip(words[::2], words[1::2], strict=False):
        if (name.partition(".")[0] == host or len(words) == 2) and count.isdigit():
            return int(count)
    return 0 if words else _number(environ, "LSB_DJOB_NUMPROC")


def _folders(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """This process's cgroup and those above it; `controller` empty: of version 2."""
    for line in _read(own).splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controller:
            if hierarchy == "0" and not controllers:
                yield from _up(root, path)
        elif controller in controllers.split(","):
            for mount in dict.fromkeys((root / controller, root / controllers)):
                yield from _up(mount, path)


def _up(root: Path, path: str) -> list[Path]:
    folder = root / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _quota_v2(folder: Path) -> float:
    fields = _read(folder / "cpu.max").split()
    if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit():
        return int(fields[0]) / int(fields[1])
    return 0.0


def _quota_v1(folder: Path) -> float:
    quota = _read(folder / "cpu.cfs_quota_us").strip()
    period = _read(folder / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

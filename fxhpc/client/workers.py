"""How many workers a `local` endpoint gets, where nobody says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Workers on a login node, and how much their niceness is raised there.
LOGIN_WORKERS = 2
LOGIN_NICE = 10

_JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "FLUX_JOB_ID")
_CORE_VARIABLES = ("SLURM_CPUS_ON_NODE", "PBS_NP", "NCPUS", "LSB_DJOB_NUMPROC", "NSLOTS")


@dataclass(frozen=True)
class Share:
    """The share of this machine that workers may take."""

    workers: int
    nice: int = 0
    note: str = ""  # one line for the user, where there is something to say


def check_number(
    name: str, given: object, kind: type | tuple[type, ...], least: int, unit: str
) -> None:
    """Make sure that an option is a number of something, or was not given.

    Raises:
        ValueError: it is not.
    """
    if given is None:
        return
    is_number = isinstance(given, kind) and not isinstance(given, bool)
    if not is_number or given < least:  # type: ignore[operator]
        raise ValueError(f"{name}={given!r}: it is a number of {unit}, {least} or more")


def local_share(environ: Mapping[str, str], asked: int | None = None) -> Share:
    """How many workers to start here.

    Args:
        environ: the environment; `FXHPC_WORKERS` decides, if it is set.
        asked: what the caller wants, which counts before everything else.

    Raises:
        ValueError: FXHPC_WORKERS is not a number of workers.
    """
    if asked is not None:
        return Share(asked)
    given = environ.get("FXHPC_WORKERS")
    if given:
        if not given.isdigit() or int(given) < 1:
            raise ValueError(f"FXHPC_WORKERS is {given!r}; it is a number of workers, 1 or more")
        return Share(int(given))
    cores = usable_cores(environ)
    in_job = any(environ.get(name) for name in _JOB_VARIABLES)
    if in_job or not (shutil.which("sbatch") or shutil.which("qsub")):
        return Share(cores)
    workers = min(cores, LOGIN_WORKERS)
    return Share(
        workers,
        LOGIN_NICE,
        f"fxhpc: this looks like a login node, so `local` runs {workers} workers with low "
        f"priority; FXHPC_WORKERS=N changes it.",
    )


def usable_cores(environ: Mapping[str, str], cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that affinity, the cgroup's quota and the batch system leave to this process."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cgroup_cores(cgroup)
    if quota:
        cores = min(cores, quota)
    for name in _CORE_VARIABLES:
        value = environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            cores = min(cores, int(value))
    return max(1, cores)


def cgroup_cores(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Cores by the quota of this process's cgroups and their parents, rounded up; 0: no quota."""
    quotas = []
    for line in _read(own).splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:  # version 2
            quotas += [_quota_v2(folder) for folder in _up(root, path)]
        elif "cpu" in controllers.split(","):
            for mount in (root / "cpu", root / "cpu,cpuacct"):
                quotas += [_quota_v1(folder) for folder in _up(mount, path)]
    found = [quota for quota in quotas if quota > 0]
    return max(1, -int(-min(found) // 1)) if found else 0


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

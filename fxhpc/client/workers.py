"""How many workers a `local` endpoint gets, where nobody says."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from fxhpc.cores import job_of, usable_cores

#: Workers on a login node, and how much their niceness is raised there.
LOGIN_WORKERS = 2
LOGIN_NICE = 10


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
    if job_of(environ) or not (shutil.which("sbatch") or shutil.which("qsub")):
        return Share(cores)
    workers = min(cores, LOGIN_WORKERS)
    return Share(
        workers,
        LOGIN_NICE,
        f"fxhpc: this looks like a login node, so `local` runs {workers} workers with low "
        f"priority; FXHPC_WORKERS=N changes it.",
    )

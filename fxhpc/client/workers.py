"""How many workers a `local` endpoint gets, where nobody says."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from fxhpc.client.arguments import MOST_WORKERS
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
        if not given.isdigit() or not 1 <= int(given) <= MOST_WORKERS:
            raise ValueError(
                f"FXHPC_WORKERS is {given!r}; it is a number of workers, 1 to {MOST_WORKERS:,}"
            )
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

"""How many workers a `local` endpoint gets, where nobody says."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping

import msgspec

from fxhpc import errors
from fxhpc.client.declared.arguments import MOST_WORKERS
from fxhpc.cores import is_on_node_of_job, usable_cores
from fxhpc.site import SITE_FILE, is_there

#: Workers on a login node, and how much their niceness is raised there.
LOGIN_WORKERS = 2
LOGIN_NICE = 10


_told: set[str] = set()


class Share(msgspec.Struct, frozen=True):
    """The share of this machine that workers may take."""

    workers: int
    nice: int = 0
    note: str = ""  # one line for the user, where there is something to say


def local_share(
    environ: Mapping[str, str], asked: int | None = None, site_file: str = SITE_FILE
) -> Share:
    """How many workers to start here.

    Args:
        environ: the environment; `FXHPC_WORKERS` decides, if it is set.
        asked: what the caller wants, which counts before everything else.
        site_file: what the administrators of this host have set, which limits it.

    Raises:
        ValueError: FXHPC_WORKERS is not a number of workers.
        UsageError: the caller asks for more than the administrators allow.
        ConfigError: the site file cannot be used.
    """
    share = _chosen(environ, asked)
    if not is_there(site_file):
        return share
    from fxhpc.site.reading import login_limit_here  # here: few hosts have such a file

    most, site = login_limit_here(site_file)
    if site is None or not most or share.workers <= most:
        return share  # 0: none is started at all, see `refusal`
    because = site.because("login_nodes.max_workers")
    if asked is not None:
        raise errors.UsageError(
            f"{asked} workers are more than {most}, the most on this login node {because}"
        )
    note = f"fxhpc: `local` runs {most} workers here, the most on this login node {because}"
    return Share(most, LOGIN_NICE, note)


def tell(share: Share) -> None:
    """Print its note, once in a process: a notebook makes many clients."""
    if share.note and share.note not in _told:
        _told.add(share.note)
        print(share.note, file=sys.stderr)


def refusal(site_file: str = SITE_FILE) -> str:
    """Why no worker may be started on this host, or nothing."""
    if not is_there(site_file):
        return ""
    from fxhpc.site.reading import login_limit_here
    from fxhpc.site.rules import login_refusal

    try:
        most, site = login_limit_here(site_file)
    except errors.ConfigError as error:
        return str(error)
    return login_refusal(site) if site is not None and most == 0 else ""


def _chosen(environ: Mapping[str, str], asked: int | None) -> Share:
    """What the caller, the environment or the machine says."""
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
    if is_on_node_of_job(environ) or not (shutil.which("sbatch") or shutil.which("qsub")):
        return Share(cores)
    workers = min(cores, LOGIN_WORKERS)
    return Share(
        workers,
        LOGIN_NICE,
        f"fxhpc: this looks like a login node, so `local` runs {workers} workers with low "
        f"priority; FXHPC_WORKERS=N changes it.",
    )

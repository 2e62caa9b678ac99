"""What each worker of a node has for itself: the cores that it is bound to, and its variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fxhpc.manager.resources import ranks
from fxhpc.manager.resources.accelerators import Devices, hidden, visible
from fxhpc.manager.resources.pinning import Seats
from fxhpc.protocol.needs import UNIT, Lease, Needs


class Place(msgspec.Struct, frozen=True):
    """What one worker has for itself. If it dies, its successor gets the same."""

    cores: list[int] = []  # that it is bound to; empty: to none
    environ: dict[str, str] = {}
    name: str = ""  # in its log's; empty: its number. There may be very many with leases
    without: list[str] = []  # variables that it is not to have
    # Cores, and thousandths of them, for whoever has a lease of its cell.
    seat: dict[int, int] = {}


class Places:
    """All places of a node: a cell's for each ordinary worker, and what leases make of them.

    Args:
        cells: what each ordinary worker has.
        accelerators: what those are called that the job has, by their numbers.
        environ: the manager's environment.
        said: the variables of threads that the user has set: these are left alone.
        devices: what the machine shows of its accelerators.
        host: this node.
        mpi_launcher: what starts ranks; empty: what is there. `mpi_type`: for srun's --mpi.
    """

    def __init__(
        self,
        cells: Sequence[Place],
        accelerators: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        said: frozenset[str] = frozenset(),
        devices: Devices | None = None,
        host: str = "localhost",
        mpi_launcher: str = "",
        mpi_type: str = "",
    ) -> None:
        self._host = host
        self._mpi_launcher, self._mpi_type = mpi_launcher, mpi_type
        self._cells = cells
        self._accelerators = accelerators
        self._environ = {} if environ is None else environ
        self._said = said
        self._devices = devices or Devices()
        self._seats = Seats([place.seat for place in cells])
        self._ranks: dict[int, int] = {}  # of workers that have a lease

    def cell(self, cell: int) -> Place:
        """That of an ordinary worker."""
        return self._cells[cell]

    def lease(self, worker: int, lease: Lease, needs: Needs, hosts: Sequence[str] = ()) -> Place:
        """That of a worker that is made for such tasks; `free` gives it back.

        Args:
            hosts: of the task, if it has several nodes.
        """
        cores = self._seats.take(worker, lease)
        first = self._cells[lease.cores[0][0]] if lease.cores else Place()
        if not first.cores and (not needs.cores or needs.nodes > 1):
            cores = []  # others are not bound here: only who asks for cores, on one node
        rank = next(n for n in range(len(self._ranks) + 1) if n not in self._ranks.values())
        self._ranks[worker] = rank
        variables = {
            name: value for name, value in first.environ.items() if name.startswith(_OF_ALL)
        }
        if "PARSL_WORKER_RANK" in variables:
            variables["PARSL_WORKER_RANK"] = str(len(self._cells) + rank)
        variables |= self._threads(lease, needs, cores)
        variables |= self._seen(lease, needs)
        variables |= _told(lease)
        if needs.ranks or hosts:
            variables |= self._launching(needs, hosts or (self._host,))
        variables |= dict(needs.environ)
        without = list(ranks.OF_THE_STEP) if needs.ranks or hosts else []
        return Place(cores, variables, f"lease-{rank + 1}", without)

    def free(self, worker: int) -> None:
        """A worker is gone."""
        self._seats.give_back(worker)
        self._ranks.pop(worker, None)

    def _launching(self, needs: Needs, hosts: Sequence[str]) -> dict[str, str]:
        environ = {**self._environ, **dict(needs.environ)}
        launcher = ranks.launcher_here(self._mpi_launcher, environ)
        flavour = ranks.flavour_here(environ.get("PATH", ""))
        return ranks.variables(needs, hosts, launcher, flavour, self._mpi_type, environ)

    def _threads(self, lease: Lease, needs: Needs, cores: list[int]) -> dict[str, str]:
        count = needs.cores_per_rank or max(1, sum(part for _, part in lease.cores) // UNIT)
        # Ranks are bound each by whoever starts them.
        variables = threads(count, [] if needs.ranks > 1 else cores)
        return {name: value for name, value in variables.items() if name not in self._said}

    def _seen(self, lease: Lease, needs: Needs) -> dict[str, str]:
        if not self._accelerators:
            return {}
        items = [self._accelerators[device] for device, _ in lease.devices]
        return (visible(items, self._environ, self._devices) or {}) if items else hidden()


#: Variables that a worker with a lease has as any other: who it is, not what it has.
_OF_ALL = ("PARSL_WORKER_", "FXHPC_BLOCK")


def threads(count: int, bound: Sequence[int]) -> dict[str, str]:
    """How many threads OpenMP makes, and where it puts them."""
    variables = {"OMP_NUM_THREADS": str(count)}
    if bound:
        listed = ",".join(map(str, bound))
        variables["GOMP_CPU_AFFINITY"] = listed
        variables["KMP_AFFINITY"] = f"explicit,proclist=[{listed}]"
    return variables


def _told(lease: Lease) -> dict[str, str]:
    variables = {
        "FXHPC_CELLS": ",".join(str(cell) for cell, _ in lease.cores),
        "FXHPC_CORES": f"{sum(part for _, part in lease.cores) / UNIT:g}",
        "FXHPC_GPUS": f"{sum(part for _, part in lease.devices) / UNIT:g}",
    }
    if lease.memory:
        variables["FXHPC_MEMORY"] = str(lease.memory)
    return variables

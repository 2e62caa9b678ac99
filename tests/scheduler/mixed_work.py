"""Work of all sizes: tasks that see for themselves what they have, and what it amounts to."""

from __future__ import annotations

import fcntl
import os
import platform
import shlex
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

#: Of each node of the cluster.
CORES, ACCELERATORS = 4, 2

#: Bytes that a hungry task may have, and that it takes.
LIMIT, HUNGER = 100_000_000, 250_000_000


class Size(NamedTuple):
    """Tasks of one size, half as long as others to half as long again: no two end together."""

    name: str
    tasks: int
    seconds: float  # on average
    cores: int
    specification: Mapping[str, Any]
    accelerators: int = 0
    nodes: int = 1

    @property
    def all_cores(self) -> int:
        """What one of them has, on all of its nodes."""
        return self.cores * self.nodes

    def durations(self) -> Iterator[float]:
        """Seconds of each, spread evenly."""
        return (self.seconds * (0.5 + 0.618034 * index % 1) for index in range(self.tasks))


class Note(NamedTuple):
    """What a task tells: where it ran and what it had there. Its times are of one clock for all."""

    size: str
    began: float
    ended: float
    places: tuple[str, ...]  # "node1/core0": nobody else had any of these meanwhile
    variables: Mapping[str, str]
    said: str = ""


def furnish(directory: Path, nodes: Iterable[str]) -> None:
    """A file for each core and each accelerator of each node: who has these, locks them."""
    for node in nodes:
        (directory / node).mkdir(parents=True)
        for number in range(CORES):
            (directory / node / f"core{number}").touch()
        for number in range(ACCELERATORS):
            (directory / node / f"accelerator{number}").touch()


def places(hosts: Sequence[str] = ()) -> list[str]:
    """What the task that calls this has, by what its variables say."""
    if hosts:
        return [f"{host}/core{number}" for host in hosts for number in range(CORES)]
    host = platform.node()
    cells = os.environ.get("FXHPC_CELLS") or os.environ["PARSL_WORKER_RANK"]
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    found = [f"{host}/core{cell}" for cell in cells.split(",")]
    return found + [f"{host}/accelerator{number}" for number in devices.split(",") if number]


@contextmanager
def alone(directory: str, names: Iterable[str]) -> Iterator[None]:
    """Have all these; what has been killed has nothing any more.

    Raises:
        RuntimeError: somebody else has one.
        OSError: there is no such thing.
    """
    with ExitStack() as stack:
        told = f"{os.getpid()} {places()}"
        for name in names:
            file = stack.enter_context(open(os.path.join(directory, name), "r+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"{told} is to have {name}, which {file.read()} has") from None
            file.truncate(0)
            file.write(told)
            file.flush()
        yield


def work(directory: str, size: str, seconds: float, program: str = "") -> Note:
    """A task that has its place for so long; it starts no program."""
    began = time.monotonic()
    found = places()
    with alone(directory, found):
        time.sleep(seconds)
    return Note(size, began, time.monotonic(), tuple(found), dict(os.environ))


def across(directory: str, size: str, seconds: float, program: str) -> Note:
    """A program of several ranks, which has its nodes for so long, in whole seconds."""
    began = time.monotonic()
    found = places(os.environ["PARSL_MPI_NODELIST"].split(","))
    with alone(directory, found):
        done = subprocess.run(
            ["bash", "-c", f"$PARSL_MPI_PREFIX {shlex.quote(program)} {round(seconds)}"],
            capture_output=True,
            text=True,
        )
    said = done.stdout + done.stderr
    return Note(size, began, time.monotonic(), tuple(found), dict(os.environ), said)


def hunger(directory: str) -> str:
    """A task that takes more memory than it was declared to."""
    with alone(directory, places()):
        taken = bytearray(HUNGER)
        taken[::4096] = b"x" * len(taken[::4096])
        time.sleep(30)
    return f"{len(taken)} bytes, and nobody has ended it"


class Account(NamedTuple):
    """What the notes of a workload amount to.

    Attributes:
        took: seconds from the first begin to the last end.
        ideal: seconds that it takes if no core is idle.
        waits: by size, the longest time in which one was waiting and none began, in seconds.
        longest: seconds of the longest task.
    """

    took: float
    ideal: float
    waits: Mapping[str, float]
    longest: float

    @property
    def utilisation(self) -> float:
        return self.ideal / self.took


def account(notes: Sequence[Note], sizes: Iterable[Size], cores: int, begun: float) -> Account:
    """Reckon.

    Args:
        cores: of all nodes.
        begun: when all of it had been submitted.
    """
    took = max(note.ended for note in notes) - min(note.began for note in notes)
    each = {size.name: size.all_cores for size in sizes}
    busy = sum((note.ended - note.began) * each[note.size] for note in notes)
    waits = {}
    for name in each:
        begins = sorted(note.began for note in notes if note.size == name)
        waits[name] = max((b - a for a, b in pairwise([begun, *begins])), default=0.0)
    longest = max(note.ended - note.began for note in notes)
    return Account(took, busy / cores, waits, longest)


def check(note: Note, size: Size) -> None:
    """Whether a task had what it needed, and no more."""
    cores = [place for place in note.places if "/core" in place]
    devices = [place for place in note.places if "/accelerator" in place]
    hosts = {place.split("/")[0] for place in note.places}
    assert len(cores) == size.all_cores, note
    assert len(devices) == size.accelerators, note
    assert len(hosts) == size.nodes, note
    # Ordinary tasks run in workers that have what the endpoint gives each.
    if size.specification and size.nodes == 1:
        assert note.variables["FXHPC_CORES"] == str(size.cores), note
        assert note.variables["FXHPC_GPUS"] == str(size.accelerators), note
    assert note.variables["OMP_NUM_THREADS"] == str(size.cores), note
    if size.nodes > 1:
        # Each rank has seen the token; each was on another node.
        count, *ranks = note.said.replace(":", "").split(" of ", 1)[1].split()
        assert note.said.startswith(f"{count} of {count}: "), note
        assert sorted(ranks) == sorted(hosts), note

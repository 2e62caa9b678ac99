"""The rows of the suite: what each measures, in a file of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from benchmarks.report import Values
from benchmarks.systems import System

#: What one measurement found: figures by name.
Figures = dict[str, float]

#: What was found of all cases, by system and label.
Found = dict[tuple[str, str], Values]


class Case(NamedTuple):
    """One thing to measure.

    Attributes:
        label: what tells it from other cases of the same system.
        settings: what `Row.measure` is given; `--set` changes them.
        repeats: at most so many, however many are asked for.
    """

    system: type[System]
    label: str
    settings: dict[str, Any]
    repeats: int = 1000


class Row:
    """A row of the suite.

    Attributes:
        name: as the command line has it; systems say by it that they are in the row.
        title: the heading of its table.
        about: what stands below that.
        peak_memory: the most memory that all processes had is measured from outside: "peak_mb".
        peers_once: peers that are packages are measured once: most take their time to start.
        limit_s: when a measurement is given up.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    peak_memory: ClassVar[bool] = False
    peers_once: ClassVar[bool] = True
    limit_s: ClassVar[float] = 240.0

    def cases(self, systems: list[type[System]], quick: bool) -> Iterator[Case]:
        """What is measured of these systems."""
        for system in systems:
            yield Case(system, "", {})

    def environ(self, settings: dict[str, Any], home: str) -> dict[str, str]:
        """Variables for the process that measures."""
        return {}

    def measure(self, system: System, settings: dict[str, Any]) -> Figures:
        """Measure it, in a process of its own. What is left of it is ended afterwards."""
        raise NotImplementedError

    def show(self, found: Found) -> str:
        """The table, in Markdown."""
        raise NotImplementedError


def check(found: list[Any], wanted: list[Any]) -> None:
    """A system that is quick and wrong is not measured."""
    if found != wanted:
        raise SystemExit("results are missing, wrong, or not in the order of their tasks")


def all_rows() -> tuple[Row, ...]:
    """Every row, in the order of the report."""
    from benchmarks.rows import (
        death,
        fsync,
        idle,
        latency,
        memory,
        payload,
        queued,
        reader,
        scale,
        shared,
        sleepers,
        start,
        throughput,
    )

    return (
        throughput.Throughput(),
        latency.Latency(),
        payload.Payload(),
        shared.Shared(),
        sleepers.Sleepers(),
        sleepers.Mixed(),
        scale.Scale(),
        memory.Memory(),
        queued.Queued(),
        reader.Reader(),
        start.Start(),
        idle.Idle(),
        death.Death(),
        fsync.Fsync(),
    )


def named(name: str) -> Row:
    """The row of this name."""
    return next(row for row in all_rows() if row.name == name)

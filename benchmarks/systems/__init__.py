"""The systems that are measured beside each other, through one interface.

A system is made, started, given work and stopped in a process of its own. `submit` hands over one
call for each value and returns what `results` makes the list of results from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

#: Where nothing else is said.
WORKERS = 2

PATIENCE_S = 600.0


class System:
    """What a system says of itself, and what most have in common.

    Attributes:
        name: as `--only` and the tables have it.
        needs: the module that must be installed for it.
        environment: where that is, if not beside fxhpc; see `environments`.
        versions: the distributions whose versions are told.
        tasks: how many no-op tasks are measured, in a quick run and in a whole one: fewer for the
            slow.
        rows: the rows that it is in.
        quick_rows: those of them that it is in too when it must be quick.
        options: what its constructor is given beside the number of workers; a row may change it.
    """

    name: ClassVar[str]
    needs: ClassVar[str] = "fxhpc"
    environment: ClassVar[str] = ""
    versions: ClassVar[tuple[str, ...]] = ("fxhpc", "pyzmq", "msgspec")
    tasks: ClassVar[tuple[int, int]] = (20_000, 100_000)
    rows: ClassVar[tuple[str, ...]]
    quick_rows: ClassVar[tuple[str, ...] | None] = None

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    def prepare(self) -> None:
        """What is done before the constructor is timed: imports."""

    def start(self, workers: int = WORKERS) -> None:
        """Make it, as far as its users would before their first task."""
        raise NotImplementedError

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        """Hand over the call `function(*first, value)` for each value."""
        raise NotImplementedError

    def results(self, handle: Any) -> list[Any]:
        """The results of what was submitted, when all are there."""
        raise NotImplementedError

    def call(self, function: Callable[..., Any], value: Any) -> Any:
        """One call, there and back."""
        return self.results(self.submit(function, [value]))[0]

    def stop(self) -> None:
        """End it, and all its processes."""
        raise NotImplementedError


class Futures(System):
    """A system with `concurrent.futures`."""

    executor: Any

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        submit = self.executor.submit
        return [submit(function, *first, value) for value in values]

    def results(self, handle: Any) -> list[Any]:
        return [future.result() for future in handle]

    def stop(self) -> None:
        self.executor.shutdown()


class Mapped(System):
    """A system with a chunked `map`; the number of chunks is 32, as people choose it."""

    tasks = (100_000, 100_000)
    executor: Any

    def submit(self, function: Callable[..., Any], values: Sequence[Any], *first: Any) -> Any:
        return self.executor.map(function, values, chunksize=max(1, len(values) // 32))

    def results(self, handle: Any) -> list[Any]:
        return list(handle)

    def stop(self) -> None:
        self.executor.shutdown()


def all_systems() -> tuple[type[System], ...]:
    """Every system, in the order of the tables. Nothing of the peers is imported for it."""
    from benchmarks.systems import ours, peers, standard

    return (*ours.ALL, *standard.ALL, *peers.ALL)


def named(name: str) -> type[System]:
    """The system of this name."""
    return next(system for system in all_systems() if system.name == name)

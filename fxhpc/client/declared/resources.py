"""What a user declares of tasks: what they need, and how much of their output is kept."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fxhpc import errors
from fxhpc.client.declared.labels import Labelling
from fxhpc.client.declared.specification import Said, check_ranks, over, said, settled
from fxhpc.protocol.containers import Container
from fxhpc.protocol.needs import needs_of, pack
from fxhpc.protocol.service import FunctionRecord

if TYPE_CHECKING:
    from fxhpc.serialize import PackedFunction

#: Bytes of stdout, and of stderr, that `capture_output=True` keeps; and the most that can be kept.
CAPTURE_BYTES = 64 * 1024
MAX_CAPTURE_BYTES = 2**20


class Default(NamedTuple):
    """What a function says of its tasks; it holds where their submission says nothing else."""

    walltime_s: float = 0.0  # 0: nothing
    needs: bytes = b""  # packed
    ranks_for: str = ""  # its name, if its tasks must have ranks


class Declared(NamedTuple):
    """What the tasks of a stream are declared to be."""

    walltime_s: float = 0.0  # 0: nobody knows
    capture: int = 0  # bytes of stdout, and of stderr, that are kept
    needs: bytes = b""  # what was said of them, packed; see `fxhpc.client.declared.specification`
    labels: tuple[str, ...] = ()
    metadata: str = ""  # a JSON object, or nothing

    def settled(self, default: Default | None = None) -> Declared:
        """This as a stream has it: with what follows from it.

        Args:
            default: what its function says, which holds where this says nothing.

        Raises:
            InvalidResourceSpecification: it does not fit together.
        """
        walltime_s, needs = self.walltime_s, self.needs
        if default is not None:
            own = Said(walltime_s, needs_of(needs))
            other = Said(default.walltime_s, needs_of(default.needs))
            walltime_s, together = over(own, other)
            needs = pack(together)
        elif not needs:
            return self
        needs = settled(needs)
        if default is not None and default.ranks_for:
            check_ranks(default.ranks_for, needs)
        return self._replace(walltime_s=walltime_s, needs=needs)

    def of_stream(self, calls: int) -> dict[str, Any]:
        """What the `StreamInfo` of such tasks has of this, by its names.

        Args:
            calls: the most that a chunk has, which may take the time of all of these; 0: the tasks
                are calls.
        """
        return {
            "walltime_s": self.walltime_s * (calls or 1),
            "capture": self.capture,
            "needs": self.needs,
            "labels": self.labels,
            "metadata": self.metadata,
            "calls": calls,
        }


NOTHING_DECLARED = Declared()


class Declaring(Labelling):
    """What `Executor` and `FuncXClient` let users say of the tasks that they submit next.

    Attributes:
        declared: the same, as streams have it.
    """

    declared: Declared = NOTHING_DECLARED
    _specification: Mapping[str, Any] | None = None
    _runs_in: Container | None = None  # what they run in, if all in the same

    @property
    def resource_specification(self) -> Mapping[str, Any] | None:
        """What the next tasks need, as it was set: to be changed, it is set again."""
        return self._specification

    @resource_specification.setter
    def resource_specification(self, specification: Mapping[str, Any] | None) -> None:
        walltime_s, needs = needed(specification, self._runs_in)
        self.declared = self.declared._replace(walltime_s=walltime_s, needs=needs)
        # It is known as it is now: who changes a dictionary later would not be heard.
        copied = None if specification is None else MappingProxyType(dict(specification))
        self._specification = copied

    @property
    def capture_output(self) -> int:
        """Bytes of stdout, and of stderr, that are kept of each of the next tasks."""
        return self.declared.capture

    @capture_output.setter
    def capture_output(self, capture: bool | int | None) -> None:
        self.declared = self.declared._replace(capture=capture_bytes(capture))


def needed(
    specification: Mapping[str, Any] | None, container: Container | None = None
) -> tuple[float, bytes]:
    """Of a resource_specification: seconds that a task takes at most, 0 if it does not say; and
    what it says of needs, packed, which a stream has when that is settled.

    Args:
        container: what such tasks run in.

    Raises:
        InvalidResourceSpecification: it cannot be meant so.
    """
    walltime_s, needs = said(specification)
    if container is not None:
        needs = msgspec.structs.replace(needs, container=container)
        settled(pack(needs))  # what cannot be together is told now
    return walltime_s, pack(needs)


def default_of(record: FunctionRecord) -> Default | None:
    """What a registered function says of its tasks; None if that is nothing."""
    ranks_for = record.name if record.wants_ranks else ""
    said_of_it = Default(record.walltime_s, record.needs, ranks_for)
    return said_of_it if any(said_of_it) else None


def default_in(function: PackedFunction) -> Default | None:
    """What a function that is not registered says of its tasks; None if that is nothing."""
    ranks_for = function.name if function.wants_ranks else ""
    said_of_it = Default(function.walltime_s, ranks_for=ranks_for)
    return said_of_it if any(said_of_it) else None


def capture_bytes(capture_output: bool | int | None) -> int:
    """Bytes of a task's stdout, and of its stderr, that are kept.

    Args:
        capture_output: True for 64 KB, or a number of bytes of at most 1 MB.

    Raises:
        UsageError: it is something else.
    """
    if capture_output is None or capture_output is False:
        return 0
    if capture_output is True:
        return CAPTURE_BYTES
    try:
        size = operator.index(capture_output)  # NumPy's, too
    except TypeError:
        size = -1
    if not 0 <= size <= MAX_CAPTURE_BYTES:
        raise errors.UsageError(
            f"capture_output is {capture_output!r}; it is True (the last {CAPTURE_BYTES:,} bytes "
            f"of stdout and of stderr are kept) or a number of bytes up to {MAX_CAPTURE_BYTES:,}."
        )
    return size

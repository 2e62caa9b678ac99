"""What a task needs of a node, and the one arithmetic of what a node has left for others.

All tasks of a stream need the same. It travels packed, as bytes that are equal if the needs are,
and are empty for an ordinary task: one that takes a worker as it comes. Whoever gives tasks a place
(the forwarder that refuses, the interchange that chooses a manager, the manager itself) asks a
`Room`, so that they agree.

Cores and accelerators are counted in thousandths, so that parts of them add up exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

import msgspec

from fxhpc.protocol.containers import Container, can_have

#: Thousandths of one core, or of one accelerator.
UNIT = 1000

#: Bytes of packed needs, at most: every run of tasks carries them.
MOST_BYTES = 4096

#: What a stream or a run says of its tasks' needs; empty: they are ordinary.
PackedNeeds = Annotated[bytes, msgspec.Meta(max_length=MOST_BYTES)]

_Count = Annotated[int, msgspec.Meta(ge=0, le=10**6)]
_Amount = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
_Memory = Annotated[int, msgspec.Meta(ge=0, le=2**60)]
_Text = Annotated[str, msgspec.Meta(max_length=1000, pattern=r"\A[^\x00]*\Z")]
#: The name of a variable.
_Name = Annotated[str, msgspec.Meta(max_length=200, pattern=r"\A[^\x00=]+\Z")]
#: What a variable is set to.
_Value = Annotated[str, msgspec.Meta(max_length=MOST_BYTES, pattern=r"\A[^\x00]*\Z")]


class Needs(msgspec.Struct, array_like=True, frozen=True):
    """What each task of a stream needs. What is said of amounts is per node, if it has several."""

    cores: _Amount = 0  # thousandths; 0: a worker's, or the accelerators' part of the node's
    gpus: Annotated[int, msgspec.Meta(ge=-1, le=10**9)] = -1  # thousandths; -1: a worker's
    memory: _Memory = 0  # bytes, reserved and at most; 0: it is not limited
    nodes: _Count = 0  # 2 or more: whole nodes of one block; 0: nothing is said, one
    ranks: _Count = 0  # in all; 0: it has none
    ranks_per_node: _Count = 0
    cores_per_rank: _Count = 0
    launcher_options: _Text = ""
    # Thousandths; less goes first. None: nothing is said.
    priority: Annotated[int, msgspec.Meta(ge=-(10**12), le=10**12)] | None = None
    labels: tuple[_Text, ...] = ()  # sorted: what a node must have
    environ: tuple[tuple[_Name, _Value], ...] = ()  # sorted: variables of its process
    container: Container | None = None  # its process runs in this; None: in none


#: Those of an ordinary task.
NO_NEEDS = Needs()

#: The priority of who says nothing of it, in thousandths.
DEFAULT_PRIORITY = 100 * UNIT


def priority_of(needs: Needs) -> int:
    """Who goes first: less does. In thousandths."""
    return DEFAULT_PRIORITY if needs.priority is None else needs.priority


_DEFAULTS = msgspec.structs.astuple(NO_NEEDS)
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Needs)


def pack(needs: Needs) -> bytes:
    """These needs as streams carry them; equal for equal needs, and empty if nothing is needed.

    Raises:
        ValueError: they are larger than MOST_BYTES.
    """
    values = list(msgspec.structs.astuple(needs))
    while values and values[-1] == _DEFAULTS[len(values) - 1]:
        values.pop()
    if not values:
        return b""
    packed = _encode(values)
    if len(packed) > MOST_BYTES:
        raise ValueError(f"they take {len(packed):,} bytes, and may take {MOST_BYTES:,}")
    return packed


@functools.lru_cache(1024)
def needs_of(packed: bytes) -> Needs:
    """The needs that `pack` has packed.

    Raises:
        msgspec.DecodeError: these bytes are none.
    """
    return _decoder.decode(packed) if packed else NO_NEEDS


def needs_several(packed: bytes) -> bool:
    """Whether a task that needs this has several nodes for itself."""
    return needs_of(packed).nodes > 1


class Cell(msgspec.Struct, array_like=True, frozen=True):
    """What one worker of a node has."""

    cores: Annotated[int, msgspec.Meta(ge=1, le=10**9)]  # thousandths
    devices: tuple[_Count, ...] = ()  # numbers of the accelerators that it sees
    share: Annotated[int, msgspec.Meta(ge=1, le=UNIT)] = UNIT  # thousandths of each of these


class Size(msgspec.Struct, array_like=True, frozen=True):
    """What a node has in all."""

    cells: Annotated[tuple[Cell, ...], msgspec.Meta(max_length=10_000)]
    devices: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    memory: _Memory = 0  # bytes; 0: that is not known, and nobody can be promised any
    # Patterns of those that can be started, see `containers`; older managers say none.
    containers: tuple[_Text, ...] = ()

    @property
    def cores(self) -> int:
        """Thousandths of a core in all cells."""
        return sum(cell.cores for cell in self.cells)


def is_ordinary(needs: Needs, cell: Cell) -> bool:
    """Whether a worker that has this cell can run it as it runs any task.

    Where it runs, and when, may matter: its labels and its priority do not count here. Who says how
    many cores it needs is told how many these are, also if a worker has as many.
    """
    if (
        needs.cores
        or needs.memory
        or needs.environ
        or needs.ranks
        or needs.nodes > 1
        or needs.launcher_options
        or needs.container is not None
    ):
        return False
    own = cell.share * len(cell.devices)
    return needs.gpus in (-1, own)


@functools.lru_cache(1024)
def is_ordinary_on(size: Size, needs: Needs) -> bool:
    """Whether any worker of such a node can run it as it runs any task."""
    return all(is_ordinary(needs, cell) for cell in {*size.cells})


class Lease(NamedTuple):
    """What a task has of a node, until it is given back."""

    cores: tuple[tuple[int, int], ...] = ()  # number of a cell, thousandths of a core there
    devices: tuple[tuple[int, int], ...] = ()  # number of an accelerator, thousandths of it
    memory: int = 0


class Room:
    """What a node has left. It is exact: what was given back can be taken again, to the last part.

    Args:
        size: what it has in all.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.cores = [cell.cores for cell in size.cells]  # left in each cell
        self.devices = [UNIT] * size.devices  # left of each accelerator
        self.memory = size.memory
        self._left = sum(self.cores)

    def is_free(self, cell: int) -> bool:
        """Whether nobody has anything of this cell."""
        own = self.size.cells[cell]
        return self.cores[cell] == own.cores and all(
            self._has(device, own.share) for device in own.devices
        )

    def occupy(self, cell: int) -> Lease | None:
        """Take this cell for an ordinary task; None if it is not free."""
        lease = self._cell(cell) if self.is_free(cell) else None
        return self._taken(lease)

    def fits(self, needs: Needs) -> bool:
        """Whether a task that needs this can be had now."""
        return self._found(needs) is not None

    def take(self, needs: Needs) -> Lease | None:
        """Take what a task needs; None if it does not fit now."""
        return self._taken(self._found(needs))

    def cell(self, cell: int) -> Lease:
        """What an ordinary task on this cell has, or would have."""
        return self._cell(cell)

    def take_left(self, lease: Lease) -> Lease:
        """Take what is left of all this, somebody's now or to be; what of it was left."""
        left = Lease(
            tuple(
                (cell, min(part, self.cores[cell]))
                for cell, part in lease.cores
                if self.cores[cell]
            ),
            tuple(
                (device, min(part, self.devices[device]))
                for device, part in lease.devices
                if self._left_of(device)
            ),
            min(lease.memory, self.memory),
        )
        self._change(left, -1)
        return left

    def give_back(self, lease: Lease) -> None:
        """The task has ended.

        Raises:
            ValueError: it was not taken here.
        """
        cells, most = self.size.cells, self.size.memory
        if (
            self.memory + lease.memory > most
            or any(self.cores[cell] + part > cells[cell].cores for cell, part in lease.cores)
            or any(self.devices[device] + part > UNIT for device, part in lease.devices)
        ):
            raise ValueError(f"given back, and not taken: {lease}")
        self._change(lease, 1)

    # --- what to take ---------------------------------------------------------------------------

    def _found(self, needs: Needs) -> Lease | None:
        cores = needs.cores
        if not cores and needs.gpus > 0 and self.devices:
            # Its part of the node's cores is that of the accelerators.
            cores = max(1, self.size.cores * needs.gpus // (UNIT * len(self.devices)))
        if cores > self._left or needs.memory > self.memory:
            return None
        if needs.container is not None and not can_have(self.size.containers, needs.container):
            return None
        if needs.nodes > 1:
            return self._whole(needs)
        if needs.gpus > 0:
            lease = self._with_devices(cores, needs.gpus)
        elif cores:
            lease = self._gathered(cores, self._order(cores), seen=needs.gpus < 0)
        else:
            cell = next((cell for cell in range(len(self.cores)) if self.is_free(cell)), None)
            lease = None if cell is None else self._cell(cell)
            if lease is not None and needs.gpus == 0:
                lease = lease._replace(devices=())
        return None if lease is None else lease._replace(memory=needs.memory)

    def _cell(self, cell: int) -> Lease:
        own = self.size.cells[cell]
        return Lease(((cell, own.cores),), tuple((device, own.share) for device in own.devices))

    def _whole(self, needs: Needs) -> Lease | None:
        """All of the node, if nobody has anything of it and it is large enough."""
        size = self.size
        idle = self._left == size.cores and self.memory == size.memory
        if not idle or any(left != UNIT for left in self.devices):
            return None
        if self._found(msgspec.structs.replace(needs, nodes=1)) is None:
            return None
        return Lease(
            tuple((cell, own.cores) for cell, own in enumerate(size.cells)),
            tuple((device, UNIT) for device in range(size.devices)),
            size.memory,
        )

    def _with_devices(self, cores: int, gpus: int) -> Lease | None:
        """Whole accelerators and a part of one more, and cores, of the same cells if possible."""
        whole, part = divmod(gpus, UNIT)
        chosen = [device for device, left in enumerate(self.devices) if left == UNIT][:whole]
        if len(chosen) < whole:
            return None
        devices = [(device, UNIT) for device in chosen]
        if part:
            # Of the one that has the least left, so that others stay whole.
            fitting = [
                (left, device)
                for device, left in enumerate(self.devices)
                if left >= part and device not in chosen
            ]
            if not fitting:
                return None
            devices.append((min(fitting)[1], part))
        used = {device for device, _ in devices}
        near = [
            cell for cell, own in enumerate(self.size.cells) if not used.isdisjoint(own.devices)
        ]
        near_cores = sum(self.cores[cell] for cell in near)
        others = self._order(max(1, cores - near_cores), apart=near)
        lease = self._gathered(cores, [*near, *others], seen=False)
        return None if lease is None else lease._replace(devices=tuple(devices))

    def _order(self, need: int, apart: Sequence[int] = ()) -> list[int]:
        """All cells but those, the best to take so many cores from first.

        That is the cell that has just enough, so that others stay whole for ordinary tasks; else
        the fewest that are neighbours, and of these those that have the least left. Who needs whole
        cores shares none, if so many are free.
        """
        left = [0 if cell in apart else free for cell, free in enumerate(self.cores)]
        enough = [
            (free, self._devices_left(cell), cell) for cell, free in enumerate(left) if free >= need
        ]
        if enough:
            first = [min(enough)[2]]
        else:
            whole = [0 if free % UNIT or need % UNIT else free for free in left]
            near = [cell for cell in _neighbours(need, whole) if whole[cell]]
            first = near or _neighbours(need, left)
        known = {*first, *apart}
        return [*first, *(cell for cell in range(len(left)) if cell not in known)]

    def _gathered(self, need: int, cells: Iterable[int], seen: bool) -> Lease | None:
        """So many cores of these cells, in this order; None if they have not so many.

        Args:
            seen: as much of each cell's accelerators goes with them as of its cores.
        """
        parts: list[tuple[int, int]] = []
        devices: dict[int, int] = {}
        for cell in cells:
            own = self.size.cells[cell]
            part = min(need, self.cores[cell])
            for device in own.devices if seen else ():
                rest = self._left_of(device) - devices.get(device, 0)
                # The largest part whose share, rounded down, is no more than the rest.
                part = min(part, ((rest + 1) * own.cores - 1) // own.share if rest > 0 else 0)
            if part <= 0:
                continue
            parts.append((cell, part))
            for device in own.devices if seen else ():
                devices[device] = devices.get(device, 0) + own.share * part // own.cores
            need -= part
            if not need:
                return Lease(tuple(sorted(parts)), tuple(sorted(devices.items())))
        return None

    # --- what is left ---------------------------------------------------------------------------

    def _has(self, device: int, part: int) -> bool:
        return self._left_of(device) >= part

    def _left_of(self, device: int) -> int:
        # A cell may name an accelerator that its node has not: then nobody gets that.
        return self.devices[device] if device < len(self.devices) else 0

    def _devices_left(self, cell: int) -> int:
        return sum(map(self._left_of, self.size.cells[cell].devices))

    def _taken(self, lease: Lease | None) -> Lease | None:
        if lease is not None:
            self._change(lease, -1)
        return lease

    def _change(self, lease: Lease, sign: int) -> None:
        self.memory += sign * lease.memory
        for cell, part in lease.cores:
            self.cores[cell] += sign * part
            self._left += sign * part
        for device, part in lease.devices:
            self.devices[device] += sign * part


@functools.lru_cache(1024)
def could_ever(size: Size, needs: Needs) -> bool:
    """Whether a task that needs this can be had on such a node when nobody else has anything."""
    return Room(size).fits(needs)


def _neighbours(need: int, left: Sequence[int]) -> list[int]:
    """The fewest neighbouring cells that have so many cores left; none if there are none."""
    best: tuple[int, int, int] | None = None  # how many, what they have left, the first of them
    begin = total = 0
    for end, free in enumerate(left):
        total += free
        while total - left[begin] >= need:
            total -= left[begin]
            begin += 1
        if total >= need:
            found = (end + 1 - begin, total, begin)
            best = found if best is None else min(best, found)
    return [] if best is None else list(range(best[2], best[2] + best[0]))

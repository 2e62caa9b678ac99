"""What a task needs, packed; and what a node has left: never more than there is, and all of it."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxhpc.protocol import codec, messages, service
from fxhpc.protocol.link import Envelope
from fxhpc.protocol.needs import (
    MOST_BYTES,
    NO_NEEDS,
    UNIT,
    Cell,
    Lease,
    Needs,
    Room,
    Size,
    could_ever,
    is_ordinary,
    needs_of,
    pack,
)

GB = 2**30

#: Four workers with a core and an accelerator each.
FOUR = Size(tuple(Cell(UNIT, (n,)) for n in range(4)), 4, 16 * GB)

#: One worker with eight cores and an accelerator.
ONE = Size((Cell(8 * UNIT, (0,)),), 1, 64 * GB)

#: Four workers, two of which share an accelerator each.
SHARED = Size(tuple(Cell(2 * UNIT, (n // 2,), 500) for n in range(4)), 2, 8 * GB)

NAMES = st.text("ABC_", min_size=1, max_size=5)
AMOUNTS = st.sampled_from([1, 250, 333, 500, 999, 1000, 1500, 2000, 2500, 4000, 8000, 10**9])

NEEDS = st.builds(
    Needs,
    cores=st.just(0) | AMOUNTS,
    gpus=st.sampled_from([-1, 0]) | AMOUNTS,
    memory=st.sampled_from([0, 1, GB, 7 * GB, 2**60]),
    nodes=st.sampled_from([0, 0, 0, 1, 2]),
    ranks=st.integers(0, 8),
    priority=st.none() | st.integers(-5, 5),
    environ=st.lists(st.tuples(NAMES, st.text("xyz"))).map(lambda pairs: tuple(sorted(pairs))),
)


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    """A node whose workers have accelerators of their own, share some, or have none."""
    cores = draw(st.lists(st.sampled_from([250, 500, 1000, 3000, 8000]), min_size=1, max_size=6))
    devices, sharing = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    cells = [
        Cell(each, (rank // sharing,) if rank // sharing < devices else (), UNIT // sharing)
        for rank, each in enumerate(cores)
    ]
    return Size(tuple(cells), devices, draw(st.sampled_from([0, GB, 16 * GB])))


SIZES = sizes()


@given(NEEDS)
def test_what_is_packed_is_unpacked(needs: Needs) -> None:
    assert needs_of(pack(needs)) == needs
    assert bool(pack(needs)) == (needs != NO_NEEDS)


def test_the_last_that_is_not_said_takes_no_bytes() -> None:
    assert pack(Needs(cores=4000)) == msgspec.msgpack.encode([4000])
    assert len(pack(Needs(gpus=1000, memory=GB))) < 16


def test_what_is_too_large_is_not_packed() -> None:
    with pytest.raises(ValueError, match=f"may take {MOST_BYTES:,}"):
        pack(Needs(environ=(("X", "x" * MOST_BYTES),)))


@pytest.mark.parametrize(
    "wrong",
    [
        b"f" * 32,
        b"\xc1",
        msgspec.msgpack.encode([-1]),
        msgspec.msgpack.encode([0, -2]),
        msgspec.msgpack.encode(["4"]),
        msgspec.msgpack.encode([*msgspec.structs.astuple(NO_NEEDS)[:-1], [["A=B", "x"]]]),
        msgspec.msgpack.encode([*msgspec.structs.astuple(NO_NEEDS)[:-1], [["A", "x\0"]]]),
    ],
)
def test_other_bytes_are_no_needs_and_no_message_has_them(wrong: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        needs_of(wrong)
    run = messages.TaskRun(b"s" * 12, 0, b"f" * 32, [b"x"], needs=wrong)
    info = messages.StreamInfo(b"s" * 12, "e", b"f" * 32, needs=wrong)
    record = service.FunctionRecord("id", b"f" * 32, "name", needs=wrong)
    refused: list[tuple[Any, Any]] = [
        (codec.TO_MANAGER, messages.Tasks([run])),
        (codec.TO_INTERCHANGE, messages.Tasks([run])),
        (codec.FROM_CLIENT, service.Submit(1, [service.Submission(info, 0, [])])),
        (codec.FROM_CLIENT, service.RegisterFunction(1, record, b"")),
    ]
    for link, message in refused:
        with pytest.raises(codec.DecodeError):
            link.decode(link.encode(Envelope(0, 0, message)))


# --- what a node has left ------------------------------------------------------------------------


@settings(max_examples=40)
@given(SIZES, st.lists(st.tuples(NEEDS, st.integers(0, 5)), max_size=12))
def test_never_more_than_there_is_and_all_of_it_comes_back(
    size: Size, asked: list[tuple[Needs, int]]
) -> None:
    room, leases = Room(size), list[Lease]()
    for needs, then in asked:
        fits = room.fits(needs)
        lease = room.take(needs)
        assert fits == (lease is not None)
        if lease is not None:
            assert could_ever(size, needs)
            _has_what_it_needs(lease, needs, size)
            leases.append(lease)
        _adds_up(room, leases)
        if leases and then < 3:
            room.give_back(leases.pop(then % len(leases)))
            _adds_up(room, leases)
    for lease in leases:
        room.give_back(lease)
    fresh = Room(size)
    assert (room.cores, room.devices, room.memory) == (fresh.cores, fresh.devices, fresh.memory)
    for needs, _ in asked:
        assert room.fits(needs) == could_ever(size, needs)


def _adds_up(room: Room, leases: list[Lease]) -> None:
    cores, devices = [0] * len(room.cores), [0] * len(room.devices)
    for lease in leases:
        for cell, part in lease.cores:
            cores[cell] += part
        for device, part in lease.devices:
            devices[device] += part
    assert room.cores == [
        cell.cores - taken for cell, taken in zip(room.size.cells, cores, strict=True)
    ]
    assert room.devices == [UNIT - taken for taken in devices]
    assert room.memory == room.size.memory - sum(lease.memory for lease in leases)
    assert min(room.cores) >= 0
    assert min(room.devices, default=0) >= 0
    assert room.memory >= 0


def _has_what_it_needs(lease: Lease, needs: Needs, size: Size) -> None:
    cells = [cell for cell, _ in lease.cores]
    devices = [device for device, _ in lease.devices]
    assert len({*cells}) == len(cells)
    assert len({*devices}) == len(devices)
    cores = sum(part for _, part in lease.cores)
    if needs.nodes > 1:
        assert (cores, lease.memory) == (size.cores, size.memory)
        assert cores >= needs.cores
        return
    assert cores == needs.cores or (not needs.cores and cores > 0)
    assert lease.memory == needs.memory
    if needs.gpus >= 0:
        parts = sorted(part for _, part in lease.devices)
        whole, rest = divmod(needs.gpus, UNIT)
        assert parts == ([rest] if rest else []) + [UNIT] * whole


@given(SIZES, st.lists(st.integers(0, 5), max_size=8))
def test_ordinary_tasks_have_whole_cells(size: Size, cells: list[int]) -> None:
    room = Room(size)
    leases = [room.occupy(cell) for cell in cells if cell < len(size.cells)]
    _adds_up(room, [lease for lease in leases if lease is not None])


def test_what_was_not_taken_is_not_given_back() -> None:
    room = Room(FOUR)
    lease = room.take(Needs(cores=2500, memory=GB))
    assert lease is not None
    room.give_back(lease)
    with pytest.raises(ValueError, match="not taken"):
        room.give_back(lease)
    assert room.take(Needs(nodes=2)) is not None  # all is there


# --- what is taken first -------------------------------------------------------------------------


def cells_of(lease: Lease | None) -> list[int]:
    assert lease is not None
    return [cell for cell, _ in lease.cores]


def devices_of(lease: Lease | None) -> list[tuple[int, int]]:
    assert lease is not None
    return [*lease.devices]


def test_who_says_nothing_has_a_worker_and_what_it_sees() -> None:
    room = Room(FOUR)
    assert room.take(Needs(memory=GB)) == Lease(((0, UNIT),), ((0, UNIT),), GB)
    assert room.take(Needs(gpus=0)) == Lease(((1, UNIT),))
    assert room.take(Needs(cores=1000)) == Lease(((2, UNIT),), ((2, UNIT),))
    # Nobody sees the second accelerator; its cell's core is taken.
    assert devices_of(room.take(Needs(cores=500, gpus=1000))) == [(1, UNIT)]


def test_cores_are_neighbours_and_break_as_few_cells_as_they_can() -> None:
    room = Room(Size(tuple(Cell(2 * UNIT) for _ in range(5))))
    assert room.occupy(1)
    assert cells_of(room.take(Needs(cores=500))) == [0]
    assert cells_of(room.take(Needs(cores=1500))) == [0]  # it has just that left
    assert cells_of(room.take(Needs(cores=4000))) == [2, 3]
    assert room.take(Needs(cores=4000)) is None
    assert cells_of(room.take(Needs(cores=2000))) == [4]
    assert not room.fits(Needs(cores=1))


def test_cores_that_are_not_neighbours_do_as_well() -> None:
    room = Room(Size(tuple(Cell(UNIT) for _ in range(3))))
    assert room.occupy(1)
    assert cells_of(room.take(Needs(cores=2000))) == [0, 2]


def test_who_needs_whole_cores_shares_none_if_others_are_free() -> None:
    room = Room(Size(tuple(Cell(UNIT) for _ in range(5))))
    halves = [room.take(Needs(cores=500)) for _ in range(9)]
    for number in (0, 1, 2, 4, 5, 8):  # the cells 0, 2 and 4, and half of 1
        room.give_back(halves[number] or Lease())
    assert room.cores == [UNIT, 500, UNIT, 0, UNIT]
    assert cells_of(room.take(Needs(cores=2000))) == [0, 2]
    assert cells_of(room.take(Needs(cores=1500))) == [1, 4]  # what is broken is used up
    for half in (6, 7):
        room.give_back(halves[half] or Lease())
    assert room.take(Needs(cores=1000)) == Lease(((3, UNIT),))


def test_four_share_an_accelerator() -> None:
    room = Room(ONE)
    leases = [room.take(Needs(gpus=250)) for _ in range(4)]
    assert [devices_of(lease) for lease in leases] == [[(0, 250)]] * 4
    assert all(lease is not None and lease.cores == ((0, 2 * UNIT),) for lease in leases)
    assert not room.fits(Needs(gpus=1, cores=1))


def test_parts_come_of_one_accelerator_the_most_used_first() -> None:
    room = Room(FOUR)
    assert devices_of(room.take(Needs(cores=1, gpus=600))) == [(0, 600)]
    assert devices_of(room.take(Needs(cores=1, gpus=600))) == [(1, 600)]
    assert devices_of(room.take(Needs(cores=1, gpus=300))) == [(0, 300)]
    assert devices_of(room.take(Needs(cores=1, gpus=2400))) == [(2, UNIT), (3, UNIT), (1, 400)]
    assert not room.fits(Needs(cores=1, gpus=200))  # a tenth is left


def test_accelerators_come_with_their_part_of_the_cores() -> None:
    assert cells_of(Room(FOUR).take(Needs(gpus=2000))) == [0, 1]
    room = Room(Size((Cell(8 * UNIT, (0,)),), 4))  # one worker, and three that nobody uses
    lease = room.take(Needs(gpus=1000))
    assert lease is not None
    assert lease.cores == ((0, 2 * UNIT),)


def test_workers_that_share_an_accelerator() -> None:
    room = Room(SHARED)
    assert room.occupy(0) == Lease(((0, 2 * UNIT),), ((0, 500),))
    assert room.is_free(1)
    assert devices_of(room.take(Needs(cores=1000, gpus=1000))) == [(1, UNIT)]
    assert not room.is_free(2)
    assert not room.is_free(3)  # for an ordinary task: what it is to see is taken
    assert cells_of(room.take(Needs(cores=1000))) == [1]  # and so for who wants what it sees
    assert cells_of(room.take(Needs(cores=1000, gpus=0))) == [2]


def test_several_nodes_are_whole_ones() -> None:
    room = Room(FOUR)
    needs = Needs(nodes=2, cores=4000)
    lease = room.take(Needs(cores=1))
    assert lease is not None
    assert not room.fits(needs)
    room.give_back(lease)
    assert room.take(needs) is not None
    assert not room.fits(Needs(cores=1))
    assert not could_ever(FOUR, Needs(nodes=2, cores=5000))


@pytest.mark.parametrize(
    ("needs", "size", "can"),
    [
        (Needs(cores=4000), FOUR, True),
        (Needs(cores=4001), FOUR, False),
        (Needs(gpus=4000), FOUR, True),
        (Needs(gpus=4001), FOUR, False),
        (Needs(gpus=1), Size((Cell(UNIT),)), False),
        (Needs(gpus=0), Size((Cell(UNIT),)), True),
        (Needs(memory=16 * GB), FOUR, True),
        (Needs(memory=16 * GB + 1), FOUR, False),
        (Needs(memory=1), Size((Cell(UNIT),)), False),  # nobody knows what it has
        (Needs(cores=1), Size(()), False),
        (Needs(), Size(()), False),
        (Needs(), Size((Cell(UNIT, (7,)),), 1), False),  # a device that is not there
    ],
)
def test_what_a_node_can_ever_have(needs: Needs, size: Size, can: bool) -> None:
    assert could_ever(size, needs) is can


def test_what_an_ordinary_worker_can_run() -> None:
    plain, seeing = Cell(UNIT), Cell(2 * UNIT, (0,))
    for needs in (NO_NEEDS, Needs(priority=5), Needs(labels=("big",)), Needs(nodes=1)):
        assert is_ordinary(needs, plain)
    assert is_ordinary(Needs(gpus=0), plain)
    assert is_ordinary(Needs(gpus=1000), seeing)
    for change in (
        {"cores": 500},
        {"cores": 1000},  # its variables say so, a worker's do not
        {"cores": 2000},
        {"gpus": 1000},
        {"memory": 1},
        {"nodes": 2},
        {"ranks": 1},
        {"environ": (("A", ""),)},
    ):
        assert not is_ordinary(Needs(**change), plain), change
    for cores, gpus in itertools.product((1000, 2000), (0, 250, 2000)):
        assert not is_ordinary(Needs(cores=cores, gpus=gpus), seeing)


def test_needs_and_sizes_are_known_again() -> None:
    assert len({Needs(cores=1), Needs(cores=1), Needs(cores=2)}) == 2
    assert hash(FOUR) == hash(Size(FOUR.cells, 4, 16 * GB))


# --- neighbours of the version before ------------------------------------------------------------


def _as_before(struct: Any, first: str) -> bytes:
    """A struct as a version packs it that knows neither this field nor those after it."""
    fields = struct.__struct_fields__
    tag = struct.__struct_config__.tag
    values = [getattr(struct, field) for field in fields[: fields.index(first)]]
    return msgspec.msgpack.encode(values if tag is None else [tag, *values])


def test_a_manager_of_before_says_nothing_of_its_size() -> None:
    register = messages.Register("m", b"e", 2, "1", size=FOUR, labels=("big",))
    again = msgspec.msgpack.decode(_as_before(register, "size"), type=messages.Register)
    assert again == messages.Register("m", b"e", 2, "1")


def test_what_was_sent_or_stored_before_is_ordinary() -> None:
    run = messages.TaskRun(b"s" * 12, 0, b"f" * 32, [b"x"])
    info = messages.StreamInfo(b"s" * 12, "e", b"f" * 32)
    record = service.FunctionRecord("id", b"f" * 32, "name")
    for one in (run, info, record):
        assert msgspec.msgpack.decode(_as_before(one, "needs"), type=type(one)) == one

"""The interchange's count of a node: exact, whatever comes and goes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from fxhpc.interchange.placement.ledger import Ledger
from fxhpc.protocol.needs import UNIT, Cell, Needs, Size, pack

CELLS = tuple(Cell(UNIT) for _ in range(4))
FOUR = Size(CELLS, 1, 8 << 30)
STREAM = b"stream------"

some_needs = st.builds(
    Needs,
    cores=st.sampled_from([0, 250, 500, 1000, 1500, 2000, 4000, 9000]),
    gpus=st.sampled_from([-1, -1, 0, 250, 1000]),
    memory=st.sampled_from([0, 0, 1 << 30, 6 << 30]),
).map(pack)


def task(index: int) -> tuple[bytes, int]:
    return STREAM, index


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), some_needs), max_size=60))
def test_what_is_released_is_free_again_and_nothing_is_given_twice(
    steps: list[tuple[bool, int, bytes]],
) -> None:
    total: Counter[bytes] = Counter()
    ledger = Ledger(FOUR)
    ledger.join(total)
    there: dict[int, bytes] = {}
    for holds, index, packed in steps:
        if not packed:
            continue
        if holds:
            ledger.hold(task(index), packed)
            there[index] = packed
        else:
            ledger.release(task(index))
            there.pop(index, None)
        assert len(ledger) == len(there)
        assert total == Counter(there.values())
        assert 0 <= ledger.free_cells <= 4
        assert 0 <= ledger.cores <= FOUR.cores
        assert len(there) <= ledger.slots <= 4 + len(there)
        if ledger.waiting:
            assert ledger.fitting(pack(Needs(cores=UNIT)), 1, 0) == 0
    for index in list(there):
        ledger.release(task(index))
    assert (ledger.free_cells, ledger.cores, ledger.slots, len(ledger)) == (4, 4000, 4, 0)
    assert not total


def test_cells_of_sized_tasks_are_no_slots() -> None:
    ledger = Ledger(FOUR)
    ledger.hold(task(0), pack(Needs(cores=3 * UNIT)))
    assert (ledger.free_cells, ledger.slots) == (1, 2)
    # Two halves share a cell.
    ledger.hold(task(1), pack(Needs(cores=500)))
    ledger.hold(task(2), pack(Needs(cores=500)))
    assert (ledger.free_cells, ledger.slots, ledger.waiting) == (0, 3, {})


def test_the_first_that_waits_keeps_its_cells() -> None:
    ledger = Ledger(FOUR)
    big, small = pack(Needs(cores=3 * UNIT)), pack(Needs(cores=2 * UNIT))
    ledger.hold(task(0), small)
    ledger.hold(task(1), big)
    assert list(ledger.waiting) == [task(1)]
    assert ledger.slots == 2  # those two, and nobody beside them
    assert ledger.fitting(small, 1, 0) == 0
    ledger.release(task(0))
    assert not ledger.waiting
    assert ledger.slots == 2  # it, and one cell


def test_cells_of_ordinary_tasks_are_counted() -> None:
    ledger = Ledger(FOUR)
    two = pack(Needs(cores=2 * UNIT))
    assert ledger.fitting(two, 9, 0) == 2
    assert ledger.fitting(two, 9, 1) == 1
    assert ledger.fitting(two, 9, 3) == 0
    assert ledger.free_cells == 4


def test_labels_and_what_a_node_has_say_whether_it_ever_fits() -> None:
    ledger = Ledger(FOUR, ["big", "host:node1"])
    assert ledger.wanted(pack(Needs(cores=5 * UNIT))).cells == 0
    assert ledger.wanted(pack(Needs(gpus=2 * UNIT))).cells == 0
    assert ledger.wanted(pack(Needs(labels=("small",)))).cells == 0
    assert ledger.wanted(pack(Needs(labels=("big",)))) == (1, 1000)
    assert ledger.wanted(pack(Needs(cores=2 * UNIT, labels=("host:node1",)))) == (2, 2000)

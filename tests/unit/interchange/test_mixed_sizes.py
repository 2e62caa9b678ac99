"""Tasks of all sizes on one endpoint, in simulated time: it is full, and none starves."""

from __future__ import annotations

import pytest

from fxhpc.protocol.needs import UNIT, Cell, Size
from tests.unit.interchange.nodes_of_cells import Nodes, packed

FOUR = Size(tuple(Cell(UNIT) for _ in range(4)), 1, 8 << 30)
SMALL, BIG, GPU = b"small-------", b"big---------", b"gpu---------"
BIG_NEEDS, GPU_NEEDS = packed(cores=4 * UNIT), packed(cores=UNIT, gpus=UNIT)

MIX = {
    SMALL: (500, b"", 0.5),
    BIG: (50, BIG_NEEDS, 1.0),
    GPU: (20, GPU_NEEDS, 1.0),
}


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("order", [(SMALL, BIG, GPU), (BIG, GPU, SMALL), (GPU, BIG, SMALL)])
def test_a_mix_fills_four_nodes_and_none_of_it_starves(
    order: tuple[bytes, ...], seed: int | None
) -> None:
    nodes = Nodes([FOUR] * 4, seed)
    for stream in order:
        nodes.submit(stream, *MIX[stream])
    nodes.run()
    assert len(nodes.ran) == 570
    assert nodes.utilisation() >= 0.9
    for stream in order:
        # What ran when it came had to end, and one of those that were longer.
        assert nodes.first(stream) <= 3.0
        assert nodes.longest_gap(stream) <= 3.0


@pytest.mark.parametrize("nodes_there", [1, 4])
def test_a_large_task_among_very_many_small_ones_starts_when_a_node_has_been_emptied(
    nodes_there: int,
) -> None:
    nodes = Nodes([FOUR] * nodes_there, 2)
    nodes.submit(SMALL, 400, b"", 0.5)
    nodes.submit(BIG, 1, BIG_NEEDS, 1.0)
    nodes.run()
    assert nodes.first(BIG) <= 0.75
    assert nodes.utilisation() >= 0.9


@pytest.mark.parametrize("nodes_there", [1, 4])
def test_a_small_task_behind_very_many_large_ones_starts_among_the_next(nodes_there: int) -> None:
    nodes = Nodes([FOUR] * nodes_there, 3)
    nodes.submit(BIG, 60, BIG_NEEDS, 1.0)
    nodes.submit(SMALL, 1, b"", 0.1)
    nodes.run()
    assert nodes.first(SMALL) <= 4.0


def test_sizes_of_all_kinds_share_a_single_node() -> None:
    nodes = Nodes([FOUR], 4)
    nodes.submit(SMALL, 200, b"", 0.5)
    nodes.submit(BIG, 20, BIG_NEEDS, 1.0)
    nodes.submit(b"two---------", 40, packed(cores=2 * UNIT), 0.7)
    nodes.run()
    assert nodes.utilisation() >= 0.85
    assert all(nodes.longest_gap(stream) <= 6.0 for stream in (SMALL, BIG, b"two---------"))


def test_the_more_urgent_comes_first() -> None:
    nodes = Nodes([FOUR] * 2, 5)
    nodes.submit(SMALL, 100, b"", 0.5)
    nodes.submit(b"later-------", 20, packed(cores=UNIT, priority=200 * UNIT), 0.5)
    nodes.submit(b"urgent------", 40, packed(cores=UNIT, priority=10 * UNIT), 0.5)
    nodes.run()
    last = {ran.stream: ran.begin for ran in nodes.ran}
    assert last[b"urgent------"] < last[SMALL] <= last[b"later-------"]
    assert nodes.first(b"urgent------") <= 0.75
    assert nodes.first(b"later-------") >= last[SMALL] - 1000.0 - 0.75


def test_nodes_of_different_sizes_get_what_fits_them() -> None:
    two = Size((Cell(UNIT), Cell(UNIT)), 0, 4 << 30)
    nodes = Nodes([two, two, FOUR])
    nodes.submit(BIG, 10, packed(cores=3 * UNIT), 1.0)
    nodes.submit(b"halves------", 40, packed(cores=500), 0.5)
    nodes.submit(GPU, 5, GPU_NEEDS, 0.5)
    nodes.submit(SMALL, 40, b"", 0.5)
    nodes.run()
    assert len(nodes.ran) == 95
    assert {ran.node for ran in nodes.ran if ran.stream in (BIG, GPU)} == {2}

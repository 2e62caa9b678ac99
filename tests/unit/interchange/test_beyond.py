"""Tasks that no node of a block could ever run: blocks are not asked for over and over."""

from __future__ import annotations

from fxhpc.interchange.placement.beyond import TRIES
from fxhpc.protocol.needs import UNIT, Cell, Needs, Size, pack
from fxhpc.protocol.provision import ScalingPolicy
from tests.unit.interchange.batch_system import STEP_S, Site

FOUR = Size(tuple(Cell(UNIT) for _ in range(4)), 0, 8 << 30)
SIXTEEN = Size(FOUR.cells * 4, 0, 8 << 30)
NINE_CORES = pack(Needs(cores=9 * UNIT))
REASON = (
    "needs 9 cores on one node, and the largest node that blocks have brought had 4 cores, "
    "0 accelerators and 8.0 GB of memory: no more blocks are asked for that"
)


def site(**policy: object) -> Site:
    made: dict[str, object] = {"max_blocks": 1, "poll_s": 5.0, "max_idle_s": 30.0, **policy}
    there = Site(ScalingPolicy(**made))  # type: ignore[arg-type]
    there.size, there.slots = FOUR, 4
    there.start_provisioner()
    return there


def play(there: Site, seconds: float) -> None:
    for _ in range(int(seconds / STEP_S)):
        there.step()


def reasons(there: Site) -> dict[bytes, str]:
    report = there.core.status().report
    assert report is not None
    return {one.needs: one.reason for one in report.waiting}


def test_three_blocks_show_that_none_will_do() -> None:
    there = site()
    there.submit(3, needs=NINE_CORES)
    play(there, 1800)
    assert len(there.slurm.submissions) == TRIES
    assert not there.slurm.alive(), "they were given back"
    assert reasons(there) == {NINE_CORES: REASON}
    assert there.core.status().reason == REASON


def test_other_tasks_bring_blocks_as_ever() -> None:
    there = site()
    there.submit(3, needs=NINE_CORES)
    play(there, 120)
    there.submit(6, stream=b"ordinary----")
    play(there, 120)
    there.submit(2, stream=b"four--------", needs=pack(Needs(cores=4 * UNIT)))
    play(there, 120)
    assert len(there.outcomes) == 8
    assert len(there.slurm.submissions) == TRIES + 2


def test_the_next_block_may_bring_a_larger_node() -> None:
    there = site()
    there.submit(1, needs=NINE_CORES)
    play(there, 45)
    assert len(there.slurm.submissions) == TRIES - 1
    there.size = SIXTEEN
    play(there, 75)
    assert len(there.outcomes) == 1
    assert len(there.slurm.submissions) == TRIES


def test_a_larger_node_makes_them_run_and_brings_more() -> None:
    there = site()
    there.submit(1, needs=NINE_CORES)
    play(there, 120)
    there.size = SIXTEEN
    there.submit(1, stream=b"ordinary----")  # brings a block, on a node of another kind
    play(there, 60)
    assert len(there.outcomes) == 2
    play(there, 120)
    there.submit(1, needs=NINE_CORES)
    play(there, 60)
    assert len(there.outcomes) == 3


def test_a_label_that_no_node_had() -> None:
    there = site()
    fat, host = pack(Needs(labels=("fat",))), pack(Needs(labels=("host:node7",)))
    there.submit(1, needs=fat)
    play(there, 120)
    there.submit(1, stream=b"host--------", needs=host)
    play(there, 600)
    assert reasons(there) == {
        fat: "needs the label 'fat' on one node, and no node that blocks have brought had the "
        "label 'fat': no more blocks are asked for that",
        host: "needs the label 'host:node7' on one node, and which nodes a block brings is the "
        "batch system's choice: no more blocks are asked for that",
    }
    assert len(there.slurm.submissions) == TRIES

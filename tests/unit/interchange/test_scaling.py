"""The pure function that says how many blocks are wanted, rule by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxhpc.interchange.blocks.scaling import QUEUED_S, TRIES, BlockView, Plan, View, plan
from fxhpc.protocol.provision import ScalingPolicy

POLICY = ScalingPolicy(max_blocks=10, max_idle_s=60.0)


def ready(number: int, slots: int = 4, idle_s: float = 0.0, leaving: bool = False) -> BlockView:
    return BlockView(number, slots, True, leaving, idle_s)


def coming(number: int, unneeded_s: float = 0.0, queued_s: float = 0.0) -> BlockView:
    return BlockView(number, 0, False, False, unneeded_s, queued_s)


def planned(blocks: list[BlockView], outstanding: int, **more: object) -> Plan:
    policy = more.pop("policy", POLICY)
    assert isinstance(policy, ScalingPolicy)
    return plan(View(blocks, outstanding, 4, **more), policy)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("blocks", "outstanding", "submit"),
    [
        ([], 0, 0),
        ([], 1, 1),
        ([], 9, 3),
        ([], 10_000, 10),
        ([ready(1)], 4, 0),
        ([ready(1)], 5, 1),
        ([coming(1)], 4, 0),
        ([coming(1)], 9, 2),
        ([ready(1, leaving=True)], 4, 1),
        ([ready(number, leaving=True) for number in range(10)], 4, 0),
    ],
)
def test_out(blocks: list[BlockView], outstanding: int, submit: int) -> None:
    assert planned(blocks, outstanding).submit == submit


def test_managers_outside_of_blocks_count() -> None:
    assert planned([], 10, other_slots=8).submit == 1


def test_what_does_not_fit_wants_a_block_though_slots_are_free() -> None:
    assert planned([ready(1, slots=40)], 5, unfit=5).submit == 2
    assert planned([ready(1, slots=40), coming(2), coming(3)], 5, unfit=5).submit == 0


def test_an_idle_block_makes_room_for_what_does_not_fit() -> None:
    policy = ScalingPolicy(max_blocks=1, min_blocks=1, max_idle_s=60.0)
    idle = [ready(1, idle_s=61.0)]
    assert planned(idle, 1, unfit=1, policy=policy) == Plan(0, [1])
    assert planned(idle, 1, policy=policy) == Plan()


@pytest.mark.parametrize(
    ("failures", "proven", "blocks", "submit"),
    [
        (0, False, [], TRIES),
        (0, False, [coming(1)], TRIES - 1),
        (0, False, [coming(1, queued_s=QUEUED_S)], TRIES),
        (1, True, [], TRIES - 1),
        (2, True, [], 1),
        (2, True, [coming(1)], 0),
        (0, True, [coming(1)], 9),
    ],
)
def test_few_are_tried_until_one_works(
    failures: int, proven: bool, blocks: list[BlockView], submit: int
) -> None:
    assert planned(blocks, 100, failures=failures, proven=proven).submit == submit


def test_during_a_pause_one_is_tried() -> None:
    assert planned([], 100, failures=3, paused=True).submit == 1
    assert planned([coming(1, queued_s=1e6)], 100, failures=3, paused=True).submit == 0
    assert planned([], 100, may_submit=False).submit == 0


def test_what_waits_is_given_back_before_what_is_idle() -> None:
    policy = ScalingPolicy(max_blocks=10, min_blocks=1, max_idle_s=60.0)
    blocks = [ready(1, idle_s=70.0), ready(2, idle_s=90.0), coming(3, 70.0), coming(4, 70.0)]
    assert planned(blocks, 0, policy=policy) == Plan(0, [2], [3, 4], [3, 4])


def test_the_least_is_kept_of_those_that_are_ready() -> None:
    policy = ScalingPolicy(max_blocks=10, min_blocks=2, max_idle_s=60.0)
    assert planned([ready(1, idle_s=70.0), coming(2, 70.0)], 0, policy=policy) == Plan()


blocks_of_any_kind = st.lists(
    st.builds(
        BlockView,
        st.integers(1, 10**6),
        st.integers(0, 8),
        st.booleans(),
        st.booleans(),
        st.floats(0, 200),
        st.floats(0, 200),
    ),
    max_size=12,
    unique_by=lambda block: block.number,
)


@given(
    blocks_of_any_kind,
    st.integers(0, 1000),
    st.integers(0, 8),
    st.builds(
        ScalingPolicy,
        min_blocks=st.integers(0, 3),
        max_blocks=st.integers(0, 12),
        parallelism=st.floats(0, 1),
        scale=st.booleans(),
        max_idle_s=st.just(60.0),
    ),
    st.booleans(),
)
def test_what_never_happens(
    blocks: list[BlockView],
    outstanding: int,
    slots_per_block: int,
    policy: ScalingPolicy,
    proven: bool,
) -> None:
    view = View(blocks, outstanding, slots_per_block, proven=proven)
    done = plan(view, policy)
    assert done == plan(view, policy), "the same view, the same plan"
    assert done.submit >= 0
    assert not done.submit or len(blocks) + done.submit <= policy.max_blocks
    by_number = {block.number: block for block in blocks}
    assert all(by_number[number].ready for number in done.drain)
    assert not any(by_number[number].ready for number in done.cancel)
    gone = {*done.drain, *done.cancel}
    assert not any(by_number[number].leaving for number in gone)
    staying = [block for block in blocks if not block.leaving]
    if gone:
        assert len(staying) - len(gone) >= policy.min_blocks
        assert policy.scale
    assert not (done.submit and done.cancel), "never one for the other"

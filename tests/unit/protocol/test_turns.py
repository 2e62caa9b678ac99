"""Lanes that take turns, and outcomes of losses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxhpc.protocol.outcome import (
    Loss,
    LossCause,
    is_charged,
    is_final,
    pack_loss,
    unpack_loss,
)
from fxhpc.protocol.turns import QUANTUM, SharedTurns, Turns

Item = tuple[str, int, int]  # lane, first, count


def make() -> Turns[Item]:
    return Turns(
        lambda item: item[2],
        lambda item, n: ((item[0], item[1], n), (item[0], item[1] + n, item[2] - n)),
    )


def expand(items: list[Item]) -> list[tuple[str, int]]:
    return [(lane, first + i) for lane, first, count in items for i in range(count)]


def test_one_lane_gives_all_that_is_wanted() -> None:
    turns = make()
    turns.push("a", ("a", 0, 10_000))
    assert len(expand(turns.take(5000))) == 5000
    assert len(turns) == 5000


def test_a_lone_task_comes_after_one_quantum() -> None:
    turns = make()
    turns.push("a", ("a", 0, 1_000_000))
    turns.push("b", ("b", 0, 1))
    assert ("b", 0) in expand(turns.take(QUANTUM + 1))


def test_what_is_put_in_front_comes_first() -> None:
    turns = make()
    turns.push("a", ("a", 5, 2))
    turns.push("b", ("b", 0, 1))
    turns.push_front("b", ("b", 9, 1))
    assert expand(turns.take(1)) == [("b", 9)]


def make_shared() -> SharedTurns[Item]:
    return SharedTurns(
        lambda item: item[2],
        lambda item, n: ((item[0], item[1], n), (item[0], item[1] + n, item[2] - n)),
    )


@pytest.mark.parametrize("owner", ["me", "another"])
def test_a_lone_task_comes_soon_whoever_has_a_thousand_batches(owner: str) -> None:
    turns = make_shared()
    lanes = 1000 if owner == "another" else 1
    for lane in range(lanes):
        turns.push("me", f"batch {lane}", (f"batch {lane}", 0, 1_000_000))
    turns.push(owner, "lone", ("lone", 0, 1))
    assert ("lone", 0) in expand(turns.take(2 * QUANTUM))
    assert len(turns) == lanes * 1_000_000 + 1 - 2 * QUANTUM


def test_what_is_put_in_front_comes_first_of_all_owners() -> None:
    turns = make_shared()
    turns.push("me", "a", ("a", 0, 5))
    turns.push("another", "b", ("b", 1, 1))
    turns.push_front("another", "b", ("b", 0, 1))
    assert expand(turns.take(3)) == [("b", 0), ("b", 1), ("a", 0)]
    assert len(list(turns)) == 1
    assert len(expand(turns.take(99))) == 4
    assert (len(turns), turns.take(1)) == (0, [])


@given(
    pushes=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 100)), max_size=20),
    takes=st.lists(st.integers(1, 90), max_size=40),
)
def test_everything_comes_out_once_and_each_lane_in_order(
    pushes: list[tuple[str, int]], takes: list[int]
) -> None:
    turns = make()
    next_of: dict[str, int] = {}
    for lane, count in pushes:
        first = next_of.get(lane, 0)
        turns.push(lane, (lane, first, count))
        next_of[lane] = first + count
    total = sum(next_of.values())
    out: list[tuple[str, int]] = []
    for limit in takes:
        taken = expand(turns.take(limit))
        assert len(taken) == min(limit, total - len(out))
        out += taken
        assert len(turns) == total - len(out)
    for lane in next_of:
        indices = [index for one, index in out if one == lane]
        assert indices == list(range(len(indices)))


def test_replacing_a_lane_counts() -> None:
    turns = make()
    turns.push("a", ("a", 0, 5))
    turns.push("b", ("b", 0, 2))
    turns.replace_lane("a", [("a", 3, 1)])
    assert len(turns) == 3
    turns.replace_lane("a", [])
    assert len(turns) == 2
    assert turns.peek_lane("a") == []


@pytest.mark.parametrize("cause", list(LossCause))
def test_only_an_unexplained_death_is_charged(cause: LossCause) -> None:
    assert is_charged(cause) == (cause is LossCause.WORKER_KILLED)


@pytest.mark.parametrize(
    ("cause", "charged", "retries", "final"),
    [
        (LossCause.WORKER_KILLED, 1, 2, False),
        (LossCause.WORKER_KILLED, 3, 2, True),
        (LossCause.WORKER_EXITED, 0, 9, True),
        (LossCause.WORKER_UNSTARTABLE, 0, 9, True),
        (LossCause.MANAGER_LOST, 0, 1, False),
        (LossCause.MANAGER_LOST, 0, 0, True),
        (LossCause.INTERRUPTED, 0, 0, True),
        (LossCause.UNDELIVERED, 0, 0, False),
    ],
)
def test_when_a_task_is_given_up(cause: LossCause, charged: int, retries: int, final: bool) -> None:
    assert is_final(cause, charged, retries) == final


def test_a_loss_is_packed_and_unpacked() -> None:
    loss = Loss(LossCause.WORKER_KILLED, "it died", "n1", 5, 9, -1, 1 << 30, "last words", ["a"])
    assert unpack_loss(pack_loss(loss)) == loss

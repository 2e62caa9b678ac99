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
from fxhpc.protocol.turns import QUANTUM, SharedTurns, Turns, UrgentTurns

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


def test_who_wants_few_gets_some_of_each_lane() -> None:
    turns = make()
    turns.push("a", ("a", 0, 1000))
    turns.push("b", ("b", 0, 1000))
    turns.push("c", ("c", 0, 1))
    assert expand(turns.take(3)) == [("a", 0), ("b", 0), ("c", 0)]
    assert expand(turns.take(3)) == [("a", 1), ("b", 1), ("a", 2)]


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
    assert expand(turns.take(4)) == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    assert len(list(turns)) == 1
    assert len(expand(turns.take(99))) == 3
    assert (len(turns), turns.take(1)) == (0, [])


def test_of_one_owner_it_is_taken_out_of_turn() -> None:
    turns = make_shared()
    turns.push("me", "a", ("a", 0, 5))
    turns.push("another", "b", ("b", 0, 3))
    assert expand(turns.take_from("another", 2)) == [("b", 0), ("b", 1)]
    assert (len(turns), [*turns.owners]) == (6, ["me", "another"])
    assert expand(turns.take_from("another", 2)) == [("b", 2)]
    assert (len(turns), [*turns.owners]) == (5, ["me"])
    assert turns.take_from("another", 2) == []


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


def test_what_is_more_urgent_goes_first_and_equals_take_turns() -> None:
    turns: UrgentTurns[tuple[str, int]] = UrgentTurns(
        lambda item: item[1],
        lambda item, count: ((item[0], count), (item[0], item[1] - count)),
        lambda item: {"u": 1, "n": 5, "l": 9}[item[0][0]],
    )
    for owner, name, count in (("a", "later", 4), ("a", "normal", 3), ("b", "urgent", 2)):
        turns.push(owner, name, (name, count))
    turns.push("b", "normal b", ("normal b", 3))
    assert len(turns) == 12
    assert set(turns.owners) == {"a", "b"}
    assert [name for name, _ in turns] == ["urgent", "normal", "normal b", "later"]
    assert turns.take(1) == [("urgent", 1)]
    assert sum(count for _, count in turns.take(5)) == 5
    assert set(turns) == {("later", 4)} | {item for item in turns if item[0][0] == "n"}
    assert turns.take_from("a", 10)[-1] == ("later", 4)
    turns.push_front("b", "urgent", ("urgent", 1))
    assert turns.take(9)[0] == ("urgent", 1)
    assert len(turns) == 0
    assert not turns.take(1)
    assert not list(turns.owners)

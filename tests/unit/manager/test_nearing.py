"""When a limited worker is looked at next."""

from __future__ import annotations

import pytest

from fxhpc.manager.resources.nearing import FILL_BYTES_S, LONGEST_S, SHORTEST_S, Nearing

GB = 2**30
MB = 2**20


def waits(nearing: Nearing, used: int, now: float, least_s: float = 0.0) -> float:
    nearing.note(used, now, least_s)
    return nearing.due - now


def test_it_is_looked_at_at_once() -> None:
    assert Nearing(GB, 5.0).due == 5.0


def test_far_from_the_limit_it_is_looked_at_seldom() -> None:
    assert waits(Nearing(4 * GB, 0.0), GB, 0.0) == LONGEST_S


def test_near_the_limit_it_is_looked_at_often() -> None:
    assert waits(Nearing(GB, 0.0), GB - MB, 0.0) == SHORTEST_S


def test_it_cannot_come_far_over_its_limit_between_two_looks() -> None:
    nearing, used, now = Nearing(GB, 0.0), 0, 0.0
    while used <= GB:
        nearing.note(used, now)
        used += int((nearing.due - now) * FILL_BYTES_S)
        now = nearing.due
    assert used <= GB + FILL_BYTES_S * SHORTEST_S + 1


def test_one_that_is_faster_than_expected_is_looked_at_sooner() -> None:
    slow, fast = Nearing(8 * GB, 0.0), Nearing(8 * GB, 0.0)
    for nearing, before in ((slow, 7.4 * GB), (fast, GB)):
        nearing.note(int(before), 0.0)
    assert waits(fast, int(7.5 * GB), 0.2) < waits(slow, int(7.5 * GB), 0.2) / 2


def test_one_that_stays_near_its_limit_is_left_alone_until_it_grows() -> None:
    nearing, now = Nearing(GB, 0.0), 0.0
    for _ in range(10):
        wait = waits(nearing, GB - MB, now)
        now += wait
    assert wait == pytest.approx(8 * SHORTEST_S)
    assert waits(nearing, GB - MB // 2, now) == pytest.approx(8 * SHORTEST_S)  # a few pages more
    assert waits(nearing, GB + 8 * MB, now) == pytest.approx(SHORTEST_S)


def test_a_look_that_is_dear_is_not_made_often() -> None:
    assert waits(Nearing(GB, 0.0), 2 * GB, 0.0, least_s=1.5) == 1.5

"""Managers with room: found in order, and without a look at all of them."""

from __future__ import annotations

import random

import pytest

from fxhpc.interchange.roster import Roster
from fxhpc.protocol import messages as msg
from tests.unit.interchange.acting import Stage, attempts


def many(count: int) -> Stage:
    stage = Stage()
    for number in range(count):
        stage.register(b"%d" % number, tasks=2, slots=2, host=f"node{number}")
    stage.take()
    return stage


@pytest.mark.parametrize("busy", [False, True])
def test_a_task_costs_the_same_among_thousands_of_managers(
    busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = Roster._look

    def count(self: Roster, manager: object) -> None:
        nonlocal looks
        looks += 1
        look(self, manager)  # type: ignore[arg-type]

    stage = many(2_000)
    if busy:
        stage.submit(4_100)
    monkeypatch.setattr(Roster, "_look", count)
    stage.take()
    for index in range(100):
        if busy:
            stage.finish(b"%d" % (index // 2), [index], number=index + 1)
        stage.submit(1, first=10_000 + index)
    assert looks <= 100 * 6


def test_the_window_follows_the_credit_of_all() -> None:
    stage = many(3)
    stage.manager(b"1", msg.Capacity(10, 1000, 2))
    assert stage.up(msg.Window)[-1].tasks == 64 + 2 * (2 + 10 + 2)
    stage.manager(b"0", msg.Bye("over"))
    assert stage.up(msg.Window)[-1].tasks == 64 + 2 * (10 + 2)
    stage.manager(b"1", msg.Bye("over"))
    stage.manager(b"2", msg.Bye("over"))
    assert stage.up(msg.Window)[-1].tasks == 64


def test_what_is_noted_is_what_is_there() -> None:
    """After many events in an order of chance, nothing is forgotten or counted twice."""
    chance = random.Random(5)
    stage = many(20)
    running: dict[bytes, list[tuple[int, int]]] = {}
    first = number = 0
    for step in range(2_000):
        for peer in list(stage.core._state.managers):
            for message in stage.to(peer, msg.Tasks):
                running.setdefault(peer, []).extend(attempts(message))
        stage.take()
        peers = list(stage.core._state.managers)
        what = chance.random()
        peer = chance.choice(peers)
        if what < 0.3:
            stage.submit(count := chance.randrange(1, 9), first=first)
            first += count
        elif what < 0.8 and running.get(peer):
            index, attempt = running[peer].pop()
            number += 1
            stage.finish(peer, [index], number=number, attempt=attempt)
        elif what < 0.9:
            stage.manager(peer, msg.Capacity(chance.randrange(0, 5), 1 << 30, 2))
        elif what < 0.92 and len(peers) > 5:
            running.pop(peer, None)
            stage.manager(peer, msg.Bye("over"))
        elif what < 0.95:
            stage.register(b"new-%d" % step, tasks=2, host="new")
        roster, managers = stage.core._state.roster, stage.core._state.managers.values()
        assert set(roster._ready) == {one for one in managers if one.free}
        assert set(roster.idle) == {
            one for one in managers if one.held_tasks < one.slots and one.takes_work
        }
        assert roster._idle_ready == sum(one in roster.idle for one in roster._ready)
        assert roster.credit_tasks == sum(one.credit_tasks for one in managers if not one.draining)
        assert sum(roster.hosts.values()) == sum(one.takes_work for one in managers)
        if stage.core._state.queue:
            assert not roster._ready

"""Nobody waits behind somebody else's work: what is held ahead, in time, tasks and bytes."""

from __future__ import annotations

import random

import pytest
from endpoint_simulation import Endpoint
from simulation import Node

from fxhpc.manager import events as ev
from fxhpc.protocol import messages as msg

S, T = b"s" * 12, b"t" * 12

#: Two workers: of one manager, of two; and four, of two.
LAYOUTS = [(2,), (1, 1), (2, 2)]


def once(endpoint: Endpoint) -> bool:
    return set(endpoint.ran.values()) == {1}


@pytest.mark.parametrize("retries", [2, 0])
@pytest.mark.parametrize("place", [0, "random", 1000])
@pytest.mark.parametrize("slots", LAYOUTS, ids=str)
def test_one_long_task_among_short_ones(
    slots: tuple[int, ...], place: int | str, retries: int
) -> None:
    endpoint = Endpoint(*slots)
    at = random.Random(7).randrange(1000) if isinstance(place, str) else place
    seconds = [0.001] * 1000
    seconds.insert(at, 10.0)
    endpoint.submit(S, seconds, retries=retries)
    took_s = endpoint.run_all(1000, 2.0)
    assert (S, at) not in endpoint.told
    workers = sum(slots)
    # Until the long one begins all work; then all but one.
    ideal_s = 0.001 * (at / workers + (1000 - at) / (workers - 1))
    assert took_s < ideal_s * 1.05 + 0.08
    endpoint.run_all(1001, 10.0)
    assert once(endpoint)


@pytest.mark.parametrize("retries", [2, 0])
@pytest.mark.parametrize("slots", LAYOUTS, ids=str)
def test_durations_that_change_suddenly(slots: tuple[int, ...], retries: int) -> None:
    endpoint = Endpoint(*slots)
    endpoint.submit(S, [0.0001] * 1000 + [1.0] * 100, retries=retries)
    took_s = endpoint.run_all(1100, 60.0)
    assert took_s < (0.1 + 100) / sum(slots) * 1.05
    assert once(endpoint)


def test_who_is_busy_for_long_keeps_nobody_waiting_although_others_have_enough_to_do() -> None:
    """The queue does not run empty, so that no manager ever asks for what another one holds."""
    endpoint = Endpoint(1, 1)
    endpoint.submit(S, [0.001] * 200)
    endpoint.run_all(200, 1.0)
    endpoint.submit(S, [10.0] + [0.001] * 8_000, first=200)
    endpoint.run_for(0.01)
    endpoint.submit(T, [0.001] * 60)
    endpoint.run_for(1.0)
    assert len([task for task in endpoint.told if task[0] == T]) == 60
    held = [manager.held_tasks for manager in endpoint.core._state.managers.values()]
    assert min(held) == 1
    assert endpoint.core._state.queue
    assert once(endpoint)


@pytest.mark.parametrize("slots", LAYOUTS, ids=str)
def test_a_lone_task_behind_many_that_have_become_long(slots: tuple[int, ...]) -> None:
    endpoint = Endpoint(*slots)
    endpoint.submit(S, [0.00001] * 3000)
    endpoint.run_all(3000, 1.0)
    endpoint.submit(S, [0.1] * 3000, first=3000)
    endpoint.run_for(0.05)
    endpoint.submit(T, [0.1])
    endpoint.run_for(1.0)
    assert (T, 0) in endpoint.told
    assert once(endpoint)


@pytest.mark.parametrize("retries", [2, 0])
@pytest.mark.parametrize("seconds", [[0.0001] * 100 + [1.0] * 100, [1.0] * 100], ids=["hidden", ""])
def test_a_manager_that_comes_into_the_middle_of_long_tasks_has_work_at_once(
    seconds: list[float], retries: int
) -> None:
    endpoint = Endpoint(2)
    endpoint.submit(S, seconds, retries=retries)
    endpoint.run_for(2.5)
    began = endpoint.now
    node = endpoint.add(2)
    endpoint.run_for(1.0, lambda: len(node.ran) == 2)
    assert endpoint.now - began < 0.01
    endpoint.run_all(len(seconds), 30.0)
    assert once(endpoint)


def test_what_lies_ahead_at_one_manager_is_there_for_a_new_one() -> None:
    """All of it had been sent to the first, and that does not know yet how long they take."""
    endpoint = Endpoint(2)
    endpoint.submit(S, [0.00001] * 3000)
    endpoint.run_all(3000, 1.0)
    endpoint.submit(S, [5.0] * 4, first=3000)
    endpoint.run_for(0.01)
    began = endpoint.now
    node = endpoint.add(2)
    endpoint.run_for(1.0, lambda: len(node.ran) == 2)
    assert endpoint.now - began < 0.05
    assert endpoint.run_all(3004, 6.0) < 5.1
    assert once(endpoint)


def test_bytes_bound_what_a_manager_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fxhpc.manager.credit.HELD_BYTES", 2_000_000)
    endpoint = Endpoint(2)
    endpoint.submit(S, [0.0001] * 2000, size=100_000)
    endpoint.run_all(2000, 2.0)
    assert 1_000_000 < endpoint.most_bytes < 2_200_000
    assert once(endpoint)


def test_long_tasks_are_held_one_for_each_worker() -> None:
    endpoint = Endpoint(4)
    endpoint.submit(S, [0.5] * 40)
    endpoint.run_for(2.0)
    (manager,) = endpoint.core._state.managers.values()
    assert manager.held_tasks == 4


@pytest.mark.parametrize(("seconds", "held"), [(0.01, 16), (0.03, 8), (0.06, 4)])
def test_a_manager_has_the_next_tasks_before_these_have_ended(seconds: float, held: int) -> None:
    endpoint = Endpoint(4)
    endpoint.submit(S, [seconds] * 400)
    endpoint.run_for(1.0)
    (manager,) = endpoint.core._state.managers.values()
    assert manager.credit_tasks in (held - 1, held)
    assert endpoint.run_all(400, 10.0) + 1.0 < 400 * seconds / 4 * 1.04
    assert once(endpoint)


def test_a_worker_has_its_next_task_before_it_has_ended_one() -> None:
    """Though what they take varies, as it does on a busy machine."""
    endpoint = Endpoint(4)
    choice = random.Random(3)
    endpoint.submit(S, [0.01 * choice.uniform(1.0, 1.5) for _ in range(800)])
    endpoint.run_for(0.5)
    (node,) = endpoint.nodes.values()
    looks = without = 0
    while len(endpoint.told) < 700:
        endpoint.run_for(0.001)
        looks += len(node.workers)
        without += sum(not worker.work for worker in node.workers.values())
    assert without < 0.01 * looks


def test_what_the_two_sides_count_differently_does_not_go_to_and_fro(node: Node) -> None:
    """The interchange does not know that both workers are busy, and always sends one more."""
    node.send(S, [b"0.001"] * 100)
    node.run_for(0.2)
    node.send(S, [b"10", b"10"], first=100)
    node.run_for(0.1)
    sent = 0
    while sent < 50:
        node.send(T, [b"1"], first=sent)
        sent += 1
        for _ in range(20):
            node.turn()
        node.now += 0.001
    assert 1 <= len(node.of(msg.Returned)) <= 3
    assert node.core.wait_s(node.now) <= 0.05
    node.tell(ev.LinkLost())
    node.send(T, [b"1"], first=sent)
    assert node.core.wait_s(node.now) > 0.0

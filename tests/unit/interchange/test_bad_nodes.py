"""Nodes where nothing works: who is set aside, who is not, and what becomes of the tasks there."""

from __future__ import annotations

import random
from collections import deque

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import Loss, LossCause
from fxhpc.protocol.provision import ScalingPolicy
from tests.unit.interchange.acting import STREAM, Stage, attempts
from tests.unit.interchange.batch_system import FakeManager, Site

GOOD, BAD, THIRD = b"good", b"bad", b"third"


def register(stage: Stage, *peers: bytes, slots: int = 1, tasks: int = 1) -> None:
    for peer in peers:
        stage.register(peer, tasks=tasks, slots=slots, host=f"host-{peer.decode()}")


def lose(
    stage: Stage, peer: bytes, index: int, attempt: int, cause: int = LossCause.WORKER_KILLED
) -> None:
    loss = Loss(cause, f"worker on host-{peer.decode()} died", stderr="ImportError: libfoo\n")
    loss.exit_code = 1
    stage.manager(peer, msg.Lost([msg.LostTask(STREAM, index, 1, attempt, loss)]))


def aside(stage: Stage) -> list[str]:
    report = stage.core.status().report
    assert report is not None
    return report.set_aside


# --- workers cannot start -------------------------------------------------------------------------


def test_where_no_worker_starts_nothing_runs_if_others_can_run_it() -> None:
    stage = Stage()
    register(stage, GOOD, BAD)
    stage.submit(4)
    stage.finish(GOOD, [index for _, index in stage.sent(GOOD)])
    ((_, index),) = stage.sent(BAD)
    stage.take()
    lose(stage, BAD, index, 1, LossCause.WORKER_UNSTARTABLE)
    assert not stage.losses()
    assert stage.to(BAD, msg.Drain)
    assert stage.core._losses.histories.charged((STREAM, index)) == 0
    (told,) = aside(stage)
    assert "host-bad is set aside" in told
    assert "exited with code 1 before they could run anything: ImportError: libfoo" in told


def test_where_nobody_else_can_come_tasks_end_with_the_reason() -> None:
    stage = Stage()
    register(stage, BAD)
    stage.submit(1)
    lose(stage, BAD, 0, 1, LossCause.WORKER_UNSTARTABLE)
    assert stage.losses()[0].cause == LossCause.WORKER_UNSTARTABLE
    assert not stage.to(BAD, msg.Drain)


def test_the_last_of_several_ends_tasks_with_the_reason() -> None:
    stage = Stage()
    register(stage, BAD, THIRD)
    stage.submit(2)
    lose(stage, BAD, 0, 1, LossCause.WORKER_UNSTARTABLE)
    assert not stage.losses()
    lose(stage, THIRD, 1, 1, LossCause.WORKER_UNSTARTABLE)
    assert stage.losses().keys() == {1}


def site(**policy: object) -> Site:
    made = Site(ScalingPolicy(**{"max_blocks": 2, "poll_s": 5.0, **policy}))  # type: ignore[arg-type]
    made.start_provisioner()
    return made


def cannot_start(manager: FakeManager) -> None:
    """What a manager says of all its tasks when none of its workers lives."""
    lost = []
    for run, index in [
        *manager.held,
        *((run, key[1]) for key, (run, _) in manager.running.items()),
    ]:
        loss = Loss(LossCause.WORKER_UNSTARTABLE, "not begun", exit_code=1, stderr="no module x")
        lost.append(msg.LostTask(run.stream, index, run.epoch, run.attempt, loss))
    manager.held.clear()
    manager.running.clear()
    if lost:
        manager.say(msg.Lost(lost))


def test_blocks_where_no_worker_starts_pause_scaling_and_tasks_stay_queued() -> None:
    there = site(max_blocks=1)
    there.submit(20)
    for _ in range(600):
        there.step()
        for manager in there.living():
            cannot_start(manager)
    assert len(there.slurm.submissions) == 3
    assert not there.outcomes
    assert "scaling is paused" in there.reason
    assert "no module x" in there.reason
    there.run(2000)  # mended meanwhile: the one that is tried then works
    assert len(there.outcomes) == 20
    assert not there.losses()


def test_a_block_on_a_bad_node_is_let_go_and_another_one_does_the_work() -> None:
    there = site(max_blocks=1)
    there.submit(6)
    broken: list[FakeManager] = []
    for _ in range(200):
        there.step()
        if not broken:
            broken = there.living()[:1]
        for manager in broken:
            cannot_start(manager)
    assert len(there.outcomes) == 6
    assert not there.losses()
    assert len(there.slurm.submissions) == 2


# --- everything is lost ---------------------------------------------------------------------------


class Hosts:
    """Managers that run what they get, one after the other; tasks are lost where `dies` says so."""

    def __init__(self, stage: Stage, peers: list[bytes]) -> None:
        self.stage = stage
        self.tasks: dict[bytes, deque[tuple[int, int]]] = {peer: deque() for peer in peers}
        self.drained: set[bytes] = set()
        self.losses: set[int] = set()
        self.values: set[int] = set()

    def hear(self) -> None:
        self.losses |= self.stage.losses().keys()
        for action in self.stage.take():
            if not isinstance(action, ev.ToManager):
                continue
            if isinstance(action.message, msg.Drain):
                self.drained.add(action.peer)
            elif isinstance(action.message, msg.Tasks):
                self.tasks[action.peer].extend(attempts(action.message))

    def play(self, seed: int, bad: set[bytes], poison: set[int]) -> None:
        chance = random.Random(seed)
        self.hear()
        while busy := [peer for peer, tasks in self.tasks.items() if tasks]:
            peer = chance.choice(busy)
            index, attempt = self.tasks[peer].popleft()
            if peer in bad or index in poison:
                lose(self.stage, peer, index, attempt)
            else:
                self.stage.finish(peer, [index], attempt=attempt)
                self.values.add(index)
            self.hear()


def play(seed: int, bad: set[bytes], poison: set[int], count: int = 60) -> Hosts:
    stage = Stage()
    peers = [b"one", b"two", b"three", b"four"]
    for peer in peers:
        register(stage, peer, slots=2, tasks=2)
    stage.submit(count)
    hosts = Hosts(stage, peers)
    hosts.play(seed, bad, poison)
    return hosts


def test_a_host_that_loses_everything_is_set_aside_and_nobody_is_charged() -> None:
    for seed in range(20):
        hosts = play(seed, {b"two"}, set())
        assert hosts.drained == {b"two"}, seed
        assert not hosts.losses
        assert hosts.values == set(range(60))
        assert not hosts.stage.core._losses.histories
        (told,) = aside(hosts.stage)
        assert "tasks in a row lost their workers there" in told


def test_tasks_that_kill_their_workers_everywhere_set_no_host_aside() -> None:
    for seed in range(20):
        poison = set(random.Random(seed).sample(range(60), 25))
        hosts = play(seed, set(), poison)
        assert not hosts.drained, seed
        assert hosts.losses == poison
        assert hosts.values == set(range(60)) - poison


def test_if_all_kill_their_workers_nobody_is_set_aside() -> None:
    hosts = play(1, set(), set(range(60)))
    assert not hosts.drained
    assert hosts.losses == set(range(60))


def test_a_bad_host_among_poison_charges_no_innocent() -> None:
    for seed in range(20):
        poison = {3, 17, 40}
        hosts = play(seed, {b"two"}, poison)
        assert hosts.losses == poison, seed
        assert hosts.drained <= {b"two"}


def test_the_last_host_is_never_set_aside_for_what_is_lost_there() -> None:
    stage = Stage()
    register(stage, BAD)
    stage.submit(10)
    for index in range(10):
        for attempt in range(1, 4):
            lose(stage, BAD, index, attempt)
    assert stage.losses().keys() == set(range(10))
    assert not stage.to(BAD, msg.Drain)


def test_a_task_whose_worker_died_goes_to_another_host() -> None:
    stage = Stage()
    register(stage, BAD, GOOD, tasks=2)
    stage.submit(4)
    ((_, index), _) = stage.sent(BAD)
    stage.take()
    lose(stage, BAD, index, 1)
    assert not stage.sent(GOOD)
    assert (STREAM, index) not in stage.sent(BAD), "there is something else to be done there"
    stage.manager(GOOD, msg.Capacity(3, 1 << 30, 1))
    assert stage.sent(GOOD) == [(STREAM, index)]


def test_a_task_whose_worker_died_goes_there_again_rather_than_wait() -> None:
    stage = Stage()
    register(stage, BAD, GOOD)
    stage.submit(2)
    ((_, index),) = stage.sent(BAD)
    stage.take()
    lose(stage, BAD, index, 1)
    assert stage.sent(BAD) == [(STREAM, index)]


def test_a_host_that_was_set_aside_gets_no_block_for_an_hour() -> None:
    stage = Stage()
    register(stage, GOOD, BAD)
    stage.submit(2)
    stage.finish(GOOD, [0])
    lose(stage, BAD, 1, 1, LossCause.WORKER_UNSTARTABLE)
    stage.manager(BAD, msg.Bye("drained"))
    stage.take()
    stage.register(THIRD, host="host-bad", block="7")
    assert stage.to(THIRD, msg.Drain)
    stage.manager(THIRD, msg.Bye("drained"))
    stage.clock.advance(3601)
    register(stage, GOOD)
    stage.take()
    stage.register(b"fourth", host="host-bad", block="8")
    assert not stage.to(b"fourth", msg.Drain)
    assert not aside(stage)

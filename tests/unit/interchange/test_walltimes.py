"""The ends of blocks: what is started where, what is drained, what was cut off."""

from __future__ import annotations

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import provision as prov
from fxhpc.protocol.outcome import Loss, LossCause, unpack_loss
from tests.unit.interchange.acting import OTHER, STREAM, Stage
from tests.unit.interchange.batch_system import Site

A, B = b"a", b"b"


def site(**policy: object) -> Site:
    chosen = {"slots_per_node": 2, "max_blocks": 4, "walltime_s": 600.0, **policy}
    return Site(prov.ScalingPolicy(**chosen))  # type: ignore[arg-type]


# --- who gets what ------------------------------------------------------------------------------


def test_what_cannot_end_in_time_is_not_started() -> None:
    stage = Stage()
    stage.register(A, remaining_s=100.0)
    stage.submit(1, walltime_s=100.0)
    assert not stage.sent(A)
    stage.register(B, remaining_s=200.0)
    assert stage.sent(B) == [(STREAM, 0)]


def test_others_pass_what_does_not_fit() -> None:
    stage = Stage()
    stage.register(A, remaining_s=100.0, tasks=2)
    stage.submit(50, walltime_s=500.0)
    stage.submit(2, stream=OTHER)
    assert stage.sent(A) == [(OTHER, 0), (OTHER, 1)]


def test_what_was_passed_keeps_its_turn() -> None:
    stage = Stage()
    stage.register(A, remaining_s=100.0, tasks=1, slots=1)
    stage.submit(1, walltime_s=500.0)
    stage.submit(100, stream=OTHER)
    stage.register(B, remaining_s=1000.0, tasks=1, slots=1)
    assert stage.sent(B) == [(STREAM, 0)]


def test_no_more_rounds_than_there_is_time_for() -> None:
    stage = Stage()
    stage.register(A, remaining_s=100.0, tasks=100, slots=2)
    stage.submit(50, walltime_s=30.0)
    assert len(stage.sent(A)) == 6
    stage.submit(50, stream=OTHER)
    assert len(stage.sent(A)) == 56


def test_a_suspect_that_does_not_fit_waits_for_a_manager_where_it_does() -> None:
    stage = Stage()
    stage.register(A, remaining_s=1000.0, tasks=1, slots=1)
    stage.submit(1, walltime_s=500.0)
    stage.tell(ev.ManagerGone(A, "gone"))
    stage.register(B, remaining_s=100.0, tasks=1, slots=1)
    assert not stage.sent(B)
    stage.register(b"c", remaining_s=1000.0, tasks=1, slots=1)
    assert stage.sent(b"c") == [(STREAM, 0)]


def test_nothing_is_asked_back_for_a_manager_that_has_no_time_for_it() -> None:
    stage = Stage()
    stage.register(A, remaining_s=10_000.0, tasks=8)
    stage.submit(8, walltime_s=500.0)
    assert len(stage.sent(A)) == 8
    stage.register(B, remaining_s=100.0, tasks=8)
    assert not stage.to(A, msg.GiveBack)
    stage.register(b"c", remaining_s=10_000.0, tasks=8)
    assert stage.to(A, msg.GiveBack)


def test_the_window_grows_by_what_waits_for_time() -> None:
    stage = Stage()
    stage.register(A, remaining_s=100.0)
    stage.tick(0.5)
    before = stage.up(msg.Window)[-1].tasks
    stage.submit(50, walltime_s=500.0)
    stage.tick(0.5)
    assert stage.up(msg.Window)[-1].tasks == before + 50


def test_that_nothing_fits_is_said() -> None:
    stage = Stage()
    stage.register(A, remaining_s=100.0)
    stage.submit(3, walltime_s=500.0)
    stage.tick(0.5)
    reason = stage.up(msg.Status)[-1].reason
    assert "no task fits: the 3 that wait declare up to 8 min 20 s" in reason
    stage.submit(5, stream=OTHER)
    stage.take()
    stage.tick(0.5)
    assert stage.up(msg.Status)[-1].reason == ""


def test_just_before_its_end_a_manager_is_drained() -> None:
    stage = Stage()
    stage.register(A, remaining_s=12.0)
    stage.tick(6.0)
    assert not stage.to(A, msg.Drain)
    stage.tick(1.5)
    assert stage.to(A, msg.Drain)
    stage.submit(1)
    assert not stage.sent(A)


# --- blocks -------------------------------------------------------------------------------------


def test_before_its_end_a_block_gets_no_new_work_and_another_follows() -> None:
    there = site(drain_s=120.0)
    there.task_s = 10.0
    there.submit(200)
    there.run(470)
    assert len(there.slurm.submissions) == 4
    assert not any(manager.draining for manager in there.living())
    there.run(30)
    assert all(manager.draining for manager in there.managers[:1])
    there.run(1500)
    assert len(there.outcomes) == 200
    assert not there.losses()
    assert max(there.began.values()) == 1
    assert there.most_alive <= 4


def test_a_task_that_no_running_block_has_time_for_brings_one_that_has() -> None:
    there = site(max_blocks=2, max_idle_s=10_000.0)
    there.task_s = 1.0
    there.submit(1)
    there.run(300)
    assert len(there.slurm.jobs) == 1
    there.submit(1, stream=OTHER, walltime_s=500.0)
    there.run(10)
    assert len(there.slurm.jobs) == 2
    assert len(there.outcomes) == 2


def test_an_idle_block_without_time_makes_room_for_one_that_has() -> None:
    there = site(max_blocks=1, min_blocks=1, max_idle_s=60.0)
    there.task_s = 1.0
    there.submit(1)
    there.run(200)
    there.submit(1, stream=OTHER, walltime_s=500.0)
    there.run(100)
    assert len(there.outcomes) == 2
    assert there.most_alive == 1


def test_what_no_block_ever_has_time_for_brings_none_and_is_said() -> None:
    there = site()
    there.submit(5, walltime_s=700.0)
    there.run(60)
    assert not there.slurm.submissions
    assert "no task fits" in there.reason
    assert "raise `walltime`" in there.reason
    there.submit(1, stream=OTHER)
    there.run(10)
    assert len(there.outcomes) == 1


def test_how_long_workers_take_to_start_is_learnt() -> None:
    there = site(max_idle_s=20.0)
    there.boot_s = 60.0
    there.submit(1, walltime_s=580.0)
    there.run(3600)
    assert len(there.slurm.submissions) == 1, "or blocks would come and go for ever"
    assert "no task fits" in there.reason


# --- what was cut off ---------------------------------------------------------------------------


def test_a_task_that_had_most_of_a_block_ends_saying_what_it_needs() -> None:
    there = site()
    there.task_s = 1e9
    there.submit(1)
    there.run(700)
    text = there.losses()[0].text
    assert "It needs more than 10 min 0 s" in text
    assert "a block lasts 10 min 0 s" in text
    assert "raise `walltime` of endpoint 'midway'" in text
    assert there.losses()[0].cause == LossCause.WALLTIME


def test_a_task_that_was_cut_off_starts_again_in_the_next_block() -> None:
    there = site(max_blocks=1, min_blocks=1, max_idle_s=10_000.0)
    there.polite = False
    there.run(300)
    there.task_s = 400.0
    there.submit(1)
    there.run(400)
    assert not there.losses()
    assert "tried again" in "".join(there.notes)
    there.run(400)
    assert there.outcomes
    assert not there.losses()
    assert there.began[STREAM, 0] == 2


def lose_at_walltime(stage: Stage, peer: bytes, attempt: int, ran_s: float) -> None:
    loss = Loss(LossCause.WALLTIME, "its block ended.", ran_s=ran_s, block_s=600.0)
    stage.manager(peer, msg.Lost([msg.LostTask(STREAM, 0, 1, attempt, loss)]))


def test_the_third_time_is_the_last() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, retries=1)
    for attempt in (1, 2):
        lose_at_walltime(stage, A, attempt, 100.0 * attempt)
        assert not stage.losses()
    lose_at_walltime(stage, A, 3, 50.0)
    text = stage.losses()[0].text
    assert "That has happened 3 times; it needs more than 3 min 20 s; a block lasts 10 min" in text
    assert len(stage.losses()[0].attempts) == 2


def test_ninety_percent_is_enough() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1)
    lose_at_walltime(stage, A, 1, 530.0)
    assert not stage.losses()
    lose_at_walltime(stage, A, 2, 541.0)
    assert "It needs more than 9 min 1 s, and a block lasts 10 min" in stage.losses()[0].text


def test_without_retries_what_was_cut_off_is_lost() -> None:
    stage = Stage()
    stage.register(A, tasks=1)
    stage.submit(1, retries=0)
    lose_at_walltime(stage, A, 1, 1.0)
    assert stage.losses()


def test_a_manager_that_vanishes_at_the_end_of_its_block_blames_nobody() -> None:
    stage = Stage()
    stage.register(A, remaining_s=600.0, walltime_s=600.0, tasks=2)
    stage.submit(2, retries=1)
    stage.manager(A, msg.Started([msg.TaskRefs(STREAM, [0, 2], 1, 1)]))
    for _ in range(57):
        stage.tick(10.0)
        stage.manager(A, msg.Heartbeat())
    stage.tell(ev.ManagerGone(A, "its connection was closed"))
    assert stage.losses().keys() == {0, 1}, "they had 95 % of it"
    assert "may have" not in stage.losses()[0].text


def test_a_manager_that_vanishes_in_the_middle_is_a_mystery() -> None:
    stage = Stage()
    stage.register(A, remaining_s=600.0, tasks=2)
    stage.submit(2)
    stage.manager(A, msg.Started([msg.TaskRefs(STREAM, [0, 2], 1, 1)]))
    stage.tell(ev.ManagerGone(A, "its connection was closed"))
    assert len(stage.core._state.apart) == 2


def test_what_scancel_ended_charges_nobody_and_is_told() -> None:
    there = site()
    there.task_s = 100.0
    there.submit(2, retries=0)
    there.run(10)
    (job,) = there.slurm.alive()
    there.scancel(job)
    there.run(5)
    text = there.losses()[0].text
    assert "block 1, job 1000" in text
    assert "CANCELLED" in text
    assert "node1" in text
    assert there.losses()[0].host == "node1"


def test_what_scancel_ended_without_a_word_is_told_by_the_batch_system() -> None:
    there = site()
    there.task_s = 100.0
    there.submit(2)
    there.run(10)
    (job,) = there.slurm.alive()
    (manager,) = there.living()
    manager.silent = True
    there.managers.remove(manager)
    there.scancel(job)
    there.tell(ev.ProvisionerSaid(prov.Jobs([there.slurm.end_report(job)], unasked=True)))
    assert there.journal, "its manager is believed as long as it is there"
    there.tell(ev.ManagerGone(manager.peer, "its connection was closed"))
    assert not there.journal
    assert not there.core._state.apart
    assert "Slurm says: CANCELLED by 0" in "".join(there.notes)


def test_the_loss_of_a_task_names_block_and_job() -> None:
    stage = Stage()
    stage.register(A, tasks=1, block="7", job="123")
    stage.submit(1, retries=0)
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    assert stage.losses()[0].text == "attempt 1 was lost (on node, in block 7, job 123)"
    stage.submit(1, first=1, retries=0)
    stage.tell(ev.ManagerGone(A, "gone"))
    assert "in block 7, job 123 was lost: gone" in stage.losses()[1].text
    assert unpack_loss(stage.outcomes()[1].data).host == "node"

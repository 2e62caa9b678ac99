"""Blocks from being asked for to their end, with a batch system that does what one asks of it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import provision as prov
from tests.unit.interchange.batch_system import Site


def site(**policy: object) -> Site:
    chosen = {"slots_per_node": 2, "max_blocks": 4, **policy}
    return Site(prov.ScalingPolicy(**chosen))  # type: ignore[arg-type]


def begun(**policy: object) -> Site:
    """A site where one block has registered, so that scaling trusts its script."""
    there = site(**policy)
    there.submit(1)
    there.run(6)
    assert there.outcomes
    return there


# --- out ----------------------------------------------------------------------------------------


def test_nothing_is_asked_for_while_nobody_needs_it() -> None:
    there = site()
    there.run(120)
    assert not there.slurm.submissions
    assert not there.slurm.status_commands
    assert "one is asked for when there are tasks" in there.reason


def test_a_task_brings_a_block_at_once() -> None:
    there = site()
    there.run(2)
    there.submit(1)
    assert len(there.asked) == 1, "not only at the next tick"
    there.run(6)
    assert there.outcomes


def test_blocks_follow_the_outstanding_tasks() -> None:
    there = begun()
    there.task_s = 60.0
    there.submit(8)
    there.run(10)
    assert len(there.slurm.alive()) == 4


def test_tasks_at_the_forwarder_count() -> None:
    there = begun()
    there.backlog(5)
    there.run(2)
    assert len(there.slurm.alive()) == 3


@pytest.mark.parametrize(("parallelism", "blocks"), [(0.0, 1), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_parallelism_is_slots_for_each_task(parallelism: float, blocks: int) -> None:
    there = begun(parallelism=parallelism)
    there.task_s = 100.0
    there.submit(8)
    there.run(20)
    assert len(there.slurm.alive()) == blocks


def test_one_block_comes_first_where_nobody_knows_how_many_workers_a_node_has() -> None:
    there = site(slots_per_node=0)
    there.boot_s = 20.0
    there.task_s = 100.0
    there.submit(100)
    there.run(15)
    assert len(there.slurm.alive()) == 1
    there.run(10)
    assert len(there.slurm.alive()) == 4


def test_nodes_of_a_block_count() -> None:
    there = Site(prov.ScalingPolicy(nodes_per_block=2, slots_per_node=2, max_blocks=10))
    there.nodes = 2
    there.task_s = 50.0
    there.submit(8)
    there.run(6)
    assert len(there.slurm.alive()) == 2
    assert there.status.workers == 8


def test_managers_that_come_by_themselves_count() -> None:
    there = site()
    there.new_manager(None, "by hand")
    there.submit(2)
    there.run(20)
    assert not there.slurm.jobs
    assert len(there.outcomes) == 2


def test_initial_blocks_are_asked_for_at_the_start() -> None:
    there = site(init_blocks=2)
    there.run(3)
    assert len(there.slurm.alive()) == 2


def test_initial_blocks_that_wait_long_are_not_given_back() -> None:
    there = site(init_blocks=2)
    there.slurm.queue_s = 3600.0
    there.run(1800)
    assert len(there.slurm.alive()) == 2
    assert len(there.slurm.submissions) == 2


def test_without_strategy_only_initial_and_least_blocks() -> None:
    there = site(scale=False, init_blocks=2, min_blocks=1)
    there.submit(100)
    there.task_s = 1000.0
    there.run(10)
    assert len(there.slurm.submissions) == 2
    there.scancel(there.slurm.jobs[0])
    there.run(60)
    assert len(there.slurm.submissions) == 2
    there.scancel(there.slurm.jobs[1])
    there.run(60)
    assert len(there.slurm.alive()) == 1


def test_that_no_block_will_ever_come_is_said() -> None:
    there = site(scale=False)
    there.submit(1)
    there.run(2)
    assert "`init_blocks`" in there.reason


def test_never_more_than_the_most() -> None:
    there = begun(max_blocks=3)
    there.task_s = 100.0
    there.submit(100)
    there.run(300)
    assert there.most_alive == 3


def test_where_there_is_a_queue_more_are_asked_for_before_the_first_has_worked() -> None:
    there = site(max_blocks=8)
    there.slurm.queue_s = 3600.0
    there.submit(16)
    there.run(30)
    assert len(there.slurm.alive()) == 3
    there.run(150)
    assert len(there.slurm.alive()) == 8


# --- in -----------------------------------------------------------------------------------------


def test_each_block_is_given_back_when_it_was_idle_for_so_long() -> None:
    there = begun(max_idle_s=60.0)
    there.run(50)
    assert len(there.slurm.alive()) == 1
    there.run(20)
    assert not there.slurm.alive()
    assert not there.journal
    assert all(manager.left for manager in there.managers)


def test_one_block_is_given_back_while_another_works() -> None:
    there = begun(max_idle_s=60.0)
    there.task_s = 20.0
    there.submit(4)
    there.run(30)
    assert len(there.slurm.alive()) == 2
    there.task_s = 500.0
    there.submit(1)
    there.run(100)
    assert len(there.slurm.alive()) == 1
    assert len(there.living()) == 1
    assert there.living()[0].running


def test_the_least_blocks_are_kept_and_kept_past_a_walltime() -> None:
    there = begun(min_blocks=1, max_idle_s=30.0, walltime_s=300.0)
    there.run(200)
    assert len(there.slurm.alive()) == 1
    first = there.slurm.alive()[0]
    there.run(150)
    (second,) = there.slurm.alive()
    assert second is not first
    assert len(there.slurm.submissions) == 2


def test_a_lull_keeps_a_place_in_the_queue_a_longer_one_does_not() -> None:
    there = site(max_idle_s=60.0)
    there.slurm.queue_s = 10_000.0
    there.backlog(1)
    there.run(10)
    there.backlog(0)
    there.run(50)
    there.backlog(1)
    there.run(50)
    there.backlog(0)
    there.run(50)
    assert len(there.slurm.alive()) == 1
    there.run(20)
    assert not there.slurm.alive()
    assert len(there.slurm.submissions) == 1


def test_the_youngest_that_wait_are_given_back_first() -> None:
    there = begun(max_idle_s=60.0)
    there.task_s = 10_000.0
    there.slurm.queue_s = 10_000.0
    there.submit(8)
    there.run(10)
    assert len(there.slurm.alive()) == 4
    there.tell(
        ev.ForwarderSaid(
            msg.Cancel([msg.TaskRefs(b"stream------", [5, 4])], interrupt=False, forget=True)
        )
    )
    there.run(70)
    assert [job.number for job in there.slurm.alive()] == [1, 2]


def test_a_drained_block_finishes_what_it_runs() -> None:
    there = begun(max_idle_s=5.0)
    (manager,) = there.living()
    there.run(8)
    assert manager.draining or manager.left
    there.task_s = 3.0
    there.submit(1)
    there.run(20)
    assert len(there.outcomes) == 2


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_blocks", [1, 4, 100])
def test_a_script_that_fails_costs_three_submissions(max_blocks: int) -> None:
    there = site(max_blocks=max_blocks, init_blocks=min(4, max_blocks))
    there.slurm.fails_at_start = "module: command not found\n"
    there.submit(1000)
    there.run(600)
    assert len(there.slurm.submissions) <= 3
    assert "block 1 ended before its manager registered: module: command not found" in "".join(
        there.notes
    )
    assert there.reason.startswith("scaling is paused after 3 failed blocks: block 3 ended before")
    assert "fxhpc endpoint restart midway" in there.reason
    assert there.status.report
    assert there.status.report.paused == there.reason
    assert not there.outcomes
    there.check_status_commands()


def test_failures_back_off() -> None:
    there = site(max_blocks=1)
    there.slurm.refuses = "sbatch: error: Invalid account or account/partition combination"
    there.submit(1)
    there.run(5)
    assert there.reason == there.slurm.refuses
    there.run(60)
    times = there.slurm.submissions
    assert [round(b - a) for a, b in pairwise(times)] == [10, 20]
    assert there.slurm.refuses in there.reason
    assert not there.journal


def test_a_pause_tries_one_block_now_and_then() -> None:
    there = site()
    there.slurm.refuses = "sbatch: error: Invalid account"
    there.submit(100)
    there.run(600)
    assert "one block is tried in 2" in there.reason
    there.run(6 * 3600)
    times = there.slurm.submissions
    assert len(times) == 6
    pauses = [round(b - a, -2) for a, b in pairwise(times[2:])]
    assert pauses == [1800, 3600, 7200]
    there.slurm.refuses = ""
    there.run(4 * 3600)
    assert len(there.outcomes) == 100
    assert not there.status.report.paused if there.status.report else False


def test_where_there_is_a_queue_a_pause_still_tries_one_block() -> None:
    there = site()
    there.slurm.fails_at_start = "oh no"
    there.submit(100)
    there.run(60)
    assert len(there.slurm.submissions) == 3
    there.slurm.queue_s = 10_000.0
    there.run(4000)
    assert len(there.slurm.submissions) == 4
    assert "paused" in there.reason
    assert "Slurm job 1003 PENDING (Priority)" in there.reason


def test_managers_that_die_at_once_are_no_success() -> None:
    there = site(max_blocks=1)
    there.task_s = 1000.0
    there.submit(1)
    for _ in range(1200):
        there.step()
        for manager in there.living():
            manager.leave("its workers cannot be started")
    assert len(there.slurm.submissions) <= 4
    assert "after its manager had registered" in there.reason
    there.run(2000)
    assert there.living()


def test_success_forgets_failures() -> None:
    there = site(max_blocks=1, max_idle_s=10.0)
    for _ in range(4):
        there.slurm.fails_at_start = "oh no"
        there.submit(1)
        there.run(4)
        there.slurm.fails_at_start = ""
        there.run(60)
    assert len(there.outcomes) == 4
    assert len(there.slurm.submissions) == 8


def test_what_cannot_get_better_pauses_at_once() -> None:
    there = site()
    there.slurm.fatal = "fxhpc: fatal: /usr/bin/python3 is 3.6, fxhpc needs 3.10"
    there.submit(100)
    there.run(5)
    assert len(there.slurm.submissions) <= 3
    assert "scaling is paused" in there.reason
    assert "fxhpc needs 3.10" in there.reason


def test_a_refused_manager_pauses_at_once_and_its_block_is_cancelled() -> None:
    there = site(max_blocks=1)
    there.protocol = 99
    there.submit(1)
    there.run(120)
    assert len(there.slurm.submissions) == 1
    assert not there.slurm.alive()
    assert "protocol 99" in there.reason
    assert "scaling is paused after 1 failed block:" in there.reason


def test_an_unreachable_batch_system_backs_off_and_never_counts() -> None:
    there = site(max_blocks=1)
    there.slurm.away = "sbatch: error: Unable to contact slurm controller"
    there.submit(1)
    there.run(600)
    assert "Unable to contact" in there.reason
    assert "paused" not in there.reason
    assert len(there.slurm.submissions) == 1, "the one may be there: another could be one too many"
    there.slurm.away = ""
    there.run(400)
    assert there.outcomes
    there.check_status_commands()


def test_answers_without_a_job_are_refusals_once_there_is_none() -> None:
    there = site(max_blocks=2)
    there.slurm.garbled = "sbatch: an answer without a job's id: '<html>'"
    there.submit(1)
    there.run(600)
    assert len(there.slurm.submissions) == 3
    assert there.reason.startswith("scaling is paused after 3 failed blocks: sbatch: an answer")
    there.check_status_commands()


def test_a_silent_sbatch_is_asked_less_and_less_often_though_squeue_answers() -> None:
    there = site(max_blocks=1)
    there.slurm.silent = "sbatch: no answer within 30 s"
    there.submit(1)
    there.run(3600)
    assert "paused" not in there.reason
    assert "no answer within 30 s" in there.reason
    times = there.slurm.submissions
    assert len(times) < 14
    assert times[-1] - times[-2] >= 600
    there.slurm.silent = ""
    there.run(700)
    assert there.outcomes


def test_a_block_whose_manager_never_registers_is_cancelled_and_counts() -> None:
    there = site(max_blocks=1, register_s=120.0)
    there.registers = False
    there.submit(1)
    there.run(60)
    assert there.reason == "Slurm job 1000 RUNNING, its manager has not registered yet"
    there.run(120)
    assert there.slurm.jobs[0].words == "CANCELLED by us"
    assert "no manager of it has registered" in "".join(there.notes)
    there.run(3600)
    assert len([t for t in there.slurm.submissions if t < 1000 + 1800]) == 3
    assert "paused" in there.reason


def test_a_block_that_was_given_back_is_no_failure() -> None:
    there = site(max_idle_s=20.0)
    there.slurm.queue_s = 10_000.0
    for _ in range(5):
        there.backlog(1)
        there.run(10)
        there.backlog(0)
        there.run(60)
    assert len(there.slurm.submissions) == 5
    assert not there.slurm.alive()
    assert "paused" not in there.reason


# --- the batch system's words -------------------------------------------------------------------


def test_where_a_block_waits_is_told_soon() -> None:
    there = site()
    there.slurm.queue_s = 10_000.0
    there.submit(1)
    there.run(6)
    assert there.reason == "Slurm job 1000 PENDING (Priority)"
    assert there.status.report
    (block,) = there.status.report.blocks
    assert (block.block, block.job, block.state) == (1, "1000", "pending")
    assert block.words == "PENDING (Priority)"
    there.submit(3)
    there.run(40)
    assert there.reason == "Slurm job 1000 PENDING (Priority); 1 more are waited for"


def test_one_command_asks_for_all_and_not_too_often() -> None:
    there = begun(max_blocks=4)
    there.task_s = 10_000.0
    there.slurm.queue_s = 500.0
    there.submit(8)
    there.run(3000)
    there.check_status_commands()
    asked = len(there.slurm.status_commands)
    there.run(3000)
    assert len(there.slurm.status_commands) - asked <= 11, "seldom while all managers live"


def test_a_failing_status_command_cancels_nothing() -> None:
    there = begun()
    there.task_s = 10_000.0
    there.submit(4)
    there.run(10)
    there.slurm.away = "squeue: error: slurm_load_jobs: Unable to contact slurm controller"
    there.run(3600)
    assert len(there.slurm.alive()) == 2
    assert len(there.living()) == 2
    assert there.status.report
    assert "Unable to contact" in there.status.report.scheduler_trouble
    there.slurm.away = ""
    there.run(1000)
    assert not there.status.report.scheduler_trouble if there.status.report else False
    assert len(there.slurm.submissions) == 2


def test_managers_are_believed_before_the_batch_system() -> None:
    there = begun()
    there.task_s = 100.0
    there.submit(1)
    there.run(5)
    for _ in range(5):
        there.tell(ev.ProvisionerSaid(prov.Jobs([prov.JobReport(1, prov.JobPhase.MISSING)])))
    there.run(20)
    assert len(there.living()) == 1
    assert there.living()[0].running
    assert len(there.journal) == 1


def test_a_provisioner_that_cannot_be_made_is_the_reason() -> None:
    there = site()
    there.provisioner = True
    there.tell(ev.ProvisionerSaid(prov.ProvisionerFailed("SlurmProvider: no such option: quue")))
    there.submit(1)
    there.run(3)
    assert there.reason == "SlurmProvider: no such option: quue"
    assert not there.slurm.submissions
    there.stop()
    there.run(5)
    assert there.left


def test_the_reason_while_the_provisioner_is_started() -> None:
    there = site()
    there.submit(1)
    there.tell(ev.Tick())
    assert "is being started" in there.reason
    there.hangs = True
    there.run(3)
    assert there.reason == "block 1 is being submitted to Slurm"


# --- lost answers, restarts ---------------------------------------------------------------------


@pytest.mark.parametrize("executed", [0, 1])
def test_a_provisioner_killed_while_it_submits(executed: int) -> None:
    there = site(max_blocks=1)
    there.hangs = True
    there.submit(1)
    there.run(40)
    there.kill_provisioner(executed=executed)
    there.hangs = False
    there.slurm.queue_s = 100.0
    there.run(60)
    assert len(there.slurm.alive()) <= 1
    there.run(200)
    assert there.outcomes
    assert len(there.slurm.submissions) == 1
    assert there.most_alive == 1
    assert "paused" not in there.reason


def test_the_next_provisioner_is_told_whose_ends_to_watch() -> None:
    there = begun()
    there.task_s = 60.0
    there.submit(8)
    there.run(10)
    commands = len(there.slurm.status_commands)
    there.kill_provisioner()
    there.run(1)
    assert sorted(there.watched) == sorted(job.name for job in there.slurm.alive())
    assert len(there.slurm.status_commands) == commands, "that is no reason for a command"


def test_provisioners_that_hang_are_not_started_for_a_submission_each() -> None:
    there = site(max_blocks=100, init_blocks=3)
    there.hangs = True
    kills = 0
    for _ in range(40):
        there.run(45)
        if any(isinstance(request, prov.SubmitBlock) for request in there.asked):
            kills += 1
        there.kill_provisioner()
    assert kills < 12
    there.hangs = False
    there.run(1000)
    assert len(there.slurm.submissions) == 3


def test_the_wait_ends_soon_after_the_batch_system_answers_again() -> None:
    there = begun(max_blocks=4)
    there.run(100)
    there.slurm.away = "Unable to contact slurm controller"
    there.task_s = 10_000.0
    there.submit(8)
    there.run(2000)
    assert len([text for text in there.notes if "Unable to contact" in text]) < 10
    there.slurm.away = ""
    there.run(200)
    assert len(there.slurm.alive()) == 4


def test_a_submission_that_takes_effect_late_is_not_doubled() -> None:
    there = site(max_blocks=1)
    there.hangs = True
    there.submit(1)
    there.run(2)
    there.slurm.queue_s = 500.0
    there.kill_provisioner(executed=0)
    there.hangs = False
    there.run(4)
    there.slurm.submit("fxhpc-midway-5a4e0000-1")  # its sbatch lived on, and has ended now
    there.run(300)
    assert len(there.slurm.jobs) == 1
    assert there.reason == "Slurm job 1000 PENDING (Priority)"


def test_after_a_kill_the_same_jobs_are_adopted() -> None:
    there = begun(max_blocks=2)
    there.task_s = 100.0
    there.slurm.free = 1
    there.submit(4)
    there.run(10)
    assert len(there.slurm.alive()) == 2
    there.start()
    there.run(600)
    assert len(there.slurm.jobs) == 2
    assert len(there.outcomes) == 5
    assert max(there.began.values()) == 1


def test_initial_blocks_count_those_of_before() -> None:
    there = site(init_blocks=2)
    there.slurm.queue_s = 1000.0
    there.run(5)
    there.start()
    there.run(120)
    assert len(there.slurm.jobs) == 2


def test_blocks_of_before_that_have_ended_meanwhile_are_no_failures() -> None:
    there = site(init_blocks=3)
    there.run(5)
    there.registers = False
    for job in there.slurm.alive():
        there.scancel(job)
        for manager in there.managers:
            manager.left = True
    there.registers = True
    there.start()
    there.run(10)
    assert "paused" not in there.reason
    assert len(there.slurm.alive()) == 3


def test_a_block_that_was_only_written_down_is_forgotten_after_a_restart() -> None:
    there = site(max_blocks=1)
    there.hangs = True
    there.submit(1)
    there.run(2)
    assert there.journal
    there.hangs = False
    there.start()
    there.run(60)
    assert len(there.slurm.submissions) == 1
    assert there.outcomes
    assert there.slurm.jobs[0].number == 2, "numbers are not used again"


def test_a_manager_of_a_block_that_nobody_knows_makes_it_known() -> None:
    there = begun()
    there.journal.clear()
    there.last_block = 0
    there.start()
    assert list(there.journal) == [1]
    there.run(200)
    assert not there.slurm.alive(), "and it is given back like any other"


def test_a_draining_manager_that_greets_again_is_told_again() -> None:
    there = begun(max_idle_s=5.0)
    (manager,) = there.living()
    manager.silent = True
    there.run(6)
    manager.silent = False
    manager.greet()
    there.run(10)
    assert manager.left


@pytest.mark.parametrize("polite", [True, False])
def test_why_a_job_was_ended_the_batch_system_tells(polite: bool) -> None:
    """Its script knows only that it got a signal."""
    there = begun(max_blocks=1)
    there.polite = polite
    there.task_s = 1000.0
    there.submit(2)
    there.run(60)
    there.slurm.end(there.slurm.jobs[0], "CANCELLED by 1000")
    there.run(40)
    (end,) = [note for note in there.notes if "has ended" in note and "block 1" in note]
    assert end == "block 1 (Slurm job 1000) has ended: CANCELLED by 1000"
    assert len(there.slurm.alive()) == 1
    there.check_status_commands()


def test_a_script_that_ends_at_its_walltime_tells_of_that() -> None:
    there = begun(max_blocks=1, walltime_s=600.0, drain_s=60.0)
    there.slurm.walltime_s = 600.0
    there.task_s = 10_000.0
    there.submit(1)
    there.run(640)
    assert "its walltime was over: ended, exit code 143" in "".join(there.notes)


def test_a_job_that_is_put_back_into_the_queue_counts_as_before() -> None:
    there = begun(max_blocks=1)
    there.task_s = 1000.0
    there.submit(2)
    there.run(60)
    (job,) = there.slurm.jobs
    there.slurm.free = 0
    there.slurm.end(job, "PREEMPTED")
    there.run(1)
    job.ended = job.started = None
    for manager in there.managers:
        manager.job = None
    there.run(100)
    assert there.reason == "Slurm job 1000 PENDING (Priority)"
    there.slurm.free, there.task_s = 1, 1.0
    there.run(60)
    assert len(there.outcomes) == 3
    assert len(there.slurm.submissions) == there.most_alive == 1


def test_a_block_without_managers_that_does_not_end_is_cancelled() -> None:
    there = begun(register_s=100.0, max_idle_s=1000.0)
    (manager,) = there.living()
    (job,) = there.slurm.alive()
    there.vanish(manager)
    manager.job = None  # its script hangs
    there.registers = False
    there.run(80)
    assert job.alive
    there.run(40)
    assert not job.alive


# --- the end ------------------------------------------------------------------------------------


def test_stop_drains_then_cancels_all_and_leaves() -> None:
    there = begun()
    there.task_s = 10.0
    there.slurm.free = 1
    there.submit(8)
    there.run(5)
    assert len(there.slurm.alive()) == 4
    there.stop(drain_s=60.0)
    assert there.window == 0
    there.run(2)
    assert len(there.slurm.alive()) == 1, "what waits is cancelled at once"
    assert there.reason == "the endpoint is being stopped"
    there.run(20)
    assert there.left == "stopped"
    assert not there.slurm.alive()
    assert not there.journal
    assert len(there.outcomes) == 3


def test_stop_waits_no_longer_than_it_was_told() -> None:
    there = begun()
    there.task_s = 1000.0
    there.submit(2)
    there.run(5)
    there.stop(drain_s=20.0)
    there.run(15)
    assert not there.left
    there.run(10)
    assert there.left == "stopped"
    assert not there.slurm.alive()
    assert not there.losses()


def test_stop_can_be_asked_for_more_quickly() -> None:
    there = begun()
    there.task_s = 1000.0
    there.submit(2)
    there.run(5)
    there.stop(drain_s=1000.0)
    there.run(5)
    there.stop(drain_s=0.0)
    there.run(5)
    assert there.left == "stopped"


def test_stop_that_keeps_blocks_leaves_at_once() -> None:
    there = begun()
    there.task_s = 30.0
    there.submit(4)
    there.run(5)
    alive = len(there.slurm.alive())
    there.stop(keep_blocks=True)
    assert there.left
    assert len(there.journal) == alive
    there.run(5)
    there.start()
    there.run(60)
    assert len(there.slurm.jobs) == alive
    assert len(there.outcomes) == 5


@pytest.mark.parametrize("executed", [0, 1])
def test_stop_cancels_what_may_have_been_submitted(executed: int) -> None:
    there = site()
    there.slurm.queue_s = 1000.0
    there.hangs = True
    there.submit(1)
    there.run(2)
    there.stop()
    there.run(3)
    assert not there.left
    there.kill_provisioner(executed=executed)
    there.hangs = False
    there.run(40)
    assert there.left == "stopped"
    assert not there.slurm.alive()


def test_one_command_to_cancel_is_under_way_at_a_time() -> None:
    """Those that wait behind a command that hangs would all run at once when it has ended."""
    there = begun()
    there.hangs = True
    there.stop()
    there.run(40)
    assert sum(isinstance(request, prov.CancelBlocks) for request in there.asked) == 1
    there.hangs = False
    there.run(10)
    assert there.left == "stopped"
    assert not there.slurm.alive()


def test_stop_names_what_may_be_left() -> None:
    there = begun()
    there.slurm.away = "scancel: error: Unable to contact slurm controller"
    there.stop()
    there.run(90)
    assert "block 1 (Slurm job 1000), named fxhpc-midway-5a4e0000-1" in there.left
    assert there.journal, "the next start knows of it"


def test_an_endpoint_without_blocks_lets_its_managers_go() -> None:
    there = Site(None)
    manager = there.new_manager(None, "by hand")
    there.stop(drain_s=10.0)
    there.run(5)
    assert manager.left
    assert there.left == "stopped"

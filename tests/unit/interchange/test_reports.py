"""What is told of an endpoint: status, report, log; and what its configuration changes."""

from __future__ import annotations

from fxhpc.ids import task_id
from fxhpc.interchange import events as ev
from fxhpc.interchange import reporting
from fxhpc.interchange.core import Interchange
from fxhpc.protocol import messages as msg
from fxhpc.protocol import provision as prov
from fxhpc.protocol.outcome import LossCause
from tests.unit.interchange.acting import STREAM, Stage
from tests.unit.interchange.batch_system import Site

A, B = b"a", b"b"


def staged(**options: object) -> Stage:
    stage = Stage(greet=False)
    stage.core = Interchange("an endpoint", 1, **options)  # type: ignore[arg-type]
    stage.forwarder(msg.Hello(1, "1"))
    stage.actions.clear()
    return stage


def test_a_report_names_managers_and_sums() -> None:
    stage = staged(details={"queue": "debug"})
    stage.register(A, slots=4, block="3", cores=8, memory=2**30, python="3.11.4", pid=77)
    stage.register(B, slots=2, cores=4, memory=2**30, accelerators=2)
    stage.submit(1)
    stage.tick(0.5)
    status = stage.up(msg.Status)[-1]
    assert (status.managers, status.workers, status.idle_workers) == (2, 6, 5)
    report = status.report
    assert report
    assert report.details == {"queue": "debug"}
    assert (report.total_cores, report.total_memory) == (12, 2**31)
    first, second = report.managers
    assert (first.block, first.pid, first.python, first.workers) == ("3", 77, "3.11.4", 4)
    assert (second.accelerators, second.version, second.host) == (2, "1", "node")


def test_of_many_managers_the_first_hundred_are_listed() -> None:
    stage = staged()
    for number in range(150):
        stage.register(b"manager-%d" % number)
    stage.tick(0.5)
    status = stage.up(msg.Status)[-1]
    assert status.managers == 150
    assert status.report
    assert len(status.report.managers) == 100


def test_a_status_is_sent_once_a_tick_at_most_and_only_if_it_changed() -> None:
    stage = staged()
    for number in range(20):
        stage.register(b"manager-%d" % number)
    assert len(stage.up(msg.Status)) == 1
    stage.tick(0.5)
    assert len(stage.up(msg.Status)) == 2
    for _ in range(5):
        stage.tick(0.5)
    assert len(stage.up(msg.Status)) == 2


def test_the_end_of_all_work_and_the_loss_of_a_manager_are_told_at_once() -> None:
    stage = staged()
    stage.register(A)
    stage.register(B)
    stage.submit(2)
    stage.tick(0.5)
    assert stage.up(msg.Status)[-1].running == 2
    for peer in (A, B):
        stage.finish(peer, [index for _, index in stage.sent(peer)])
    status = stage.up(msg.Status)[-1]
    assert (status.queued, status.running, status.idle_workers) == (0, 0, 4)
    stage.clock.advance(reporting.URGENT_S)
    stage.tell(ev.ManagerGone(A, "its connection was closed"))
    assert stage.up(msg.Status)[-1].managers == 1
    told = len(stage.up(msg.Status))
    stage.tell(ev.ManagerGone(B, "its connection was closed"))  # none left is told in any case
    assert len(stage.up(msg.Status)) == told + 1


def test_times_are_those_of_the_wall_clock() -> None:
    there = Site(
        prov.ScalingPolicy(slots_per_node=2, walltime_s=600.0), wall_offset_s=1_700_000_000.0
    )
    there.task_s = 100.0
    there.submit(1)
    there.run(5)
    assert there.status.report
    (block,) = there.status.report.blocks
    assert 1_700_001_000 < block.submitted < 1_700_001_010
    assert 1_700_001_600 < block.ends < 1_700_001_610
    assert (block.state, block.managers, block.workers) == ("running", 1, 2)
    assert there.status.report.scheduler == "Slurm"


def test_the_log_tells_of_losses_with_their_tasks_and_of_managers() -> None:
    stage = staged(notes=True)
    stage.register(A, tasks=1)
    stage.submit(1, retries=1)
    stage.lose(A, 0, LossCause.WORKER_KILLED, 1)
    stage.lose(A, 0, LossCause.WORKER_KILLED, 2)
    notes = [action for action in stage.take() if isinstance(action, ev.Note)]
    texts = [note.text for note in notes]
    assert "manager a on node has registered" in texts[0]
    assert texts[1:] == [
        f"task {task_id(STREAM, 0)} is tried again: attempt 1 was lost",
        f"task {task_id(STREAM, 0)} is lost for good: attempt 2 was lost",
    ]


def test_very_many_losses_at_once_do_not_fill_the_log() -> None:
    stage = staged(notes=True)
    stage.register(A, tasks=1000)
    stage.submit(1000, retries=0)
    stage.take()
    stage.tell(ev.ManagerGone(A, "gone"))
    assert len([action for action in stage.take() if isinstance(action, ev.Note)]) <= 100


def test_nobody_asks_for_lines_that_nobody_reads() -> None:
    stage = staged()
    stage.register(A)
    assert not [action for action in stage.take() if isinstance(action, ev.Note)]


def test_retries_of_the_endpoint_are_for_tasks_without_their_own() -> None:
    stage = staged(retries=0)
    stage.register(A, tasks=2)
    stage.submit(1)
    stage.submit(1, first=1, retries=1)
    for index in (0, 1):
        stage.lose(A, index, LossCause.WORKER_KILLED, 1)
    assert stage.losses().keys() == {0}


def test_heartbeats_are_as_configured() -> None:
    stage = staged(heartbeat_s=30.0, missed_heartbeats=4)
    stage.register(A)
    assert stage.to(A, msg.Welcome)[0].heartbeat_s == 30.0
    stage.tick(119.0)
    assert ev.CloseManager(A) not in stage.take()
    stage.tick(2.0)
    assert ev.CloseManager(A) in stage.take()


def test_what_waits_at_the_forwarder_waits_for_the_endpoint() -> None:
    there = Site(prov.ScalingPolicy(max_blocks=1))
    there.backlog(936)
    there.submit(64)
    there.run(1)
    assert there.status.queued + there.status.running == 1000


def test_a_provider_that_cannot_be_made_is_why_no_blocks_are_asked_for() -> None:
    there = Site(prov.ScalingPolicy(max_blocks=1))
    there.tell(ev.ProvisionerSaid(prov.ProvisionerFailed("there is no sbatch")))
    there.tell(ev.Tick())
    report = there.core.status().report
    assert report
    assert report.paused == "there is no sbatch"

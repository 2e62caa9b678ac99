"""The provisioner as a process: what becomes of blocks, and of commands that fail or hang."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from batch import NAME, Batch, Spoken, ref, spec
from homes import title
from lives import alive

from fxhpc.interchange.blocks import provisioning
from fxhpc.protocol import provision as pro
from fxhpc.protocol.provision import JobPhase
from tests.waiting import eventually

Start = Callable[..., Spoken]


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batch]:
    """A batch system, of which no job is left after the test."""
    batch = Batch(tmp_path / "pbs", monkeypatch.setenv)
    yield batch
    batch.heal()
    for job in batch.alive():
        subprocess.run(["qdel", str(job["number"])], check=False, timeout=10)
    eventually(lambda: not batch.alive())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts provisioners."""
    started: list[Spoken] = []

    def start(kind: str = "PBSProProvider", **changes: Any) -> Spoken:
        spoken = Spoken(spec(tmp_path / "state", kind, **changes))
        started.append(spoken)
        return spoken

    yield start
    for spoken in started:
        spoken.close()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if NAME in title(process):  # a block of this host
                for one in [*process.children(recursive=True), process]:
                    one.kill()


# --- the life of a block ----------------------------------------------------------------------


def test_a_block_lives_and_is_cancelled(batch: Batch, start: Start) -> None:
    batch.set("slots", "1")
    spoken = start()
    assert spoken.hear(pro.ProvisionerReady).scheduler == "PBS"
    jobs = [spoken.submit(number).job for number in (1, 2)]
    blocks = [ref(1, jobs[0]), ref(2, jobs[1])]
    eventually(lambda: spoken.phase(blocks[0]) == JobPhase.RUNNING)
    first, second = spoken.look(*blocks).reports
    assert (first.phase, first.nodes) == (JobPhase.RUNNING, "node1/0")
    assert second.phase == JobPhase.PENDING
    assert second.words == "QUEUED (Not Running: Insufficient amount of resource: ncpus)"
    assert sorted(spoken.cancel(*blocks).blocks) == [1, 2]
    eventually(lambda: not batch.alive())
    assert {report.phase for report in spoken.look(*blocks).reports} == {JobPhase.ENDED}


@pytest.mark.parametrize(
    ("worker_init", "code"),
    [
        ("echo it is broken >&2; exit 1", 1),
        ("echo it is broken >&2; set -e; false", 1),
        ("trap 'echo it is broken >&2' EXIT; exit 3", 3),
        ("echo it is broken >&2; exec sh -c 'exit 4'", 4),
        ("echo it is broken >&2; kill -9 $BASHPID", 137),
        ("echo it is broken >&2; kill -TERM $BASHPID", 143),
    ],
)
def test_an_early_end_is_told_at_once_whatever_the_script_does(
    batch: Batch, start: Start, worker_init: str, code: int
) -> None:
    spoken = start(worker_init=worker_init)
    job = spoken.submit(7).job
    told = spoken.hear(pro.Jobs, within=20)
    assert told.unasked
    (report,) = told.reports
    assert (report.block, report.job, report.phase) == (7, job, JobPhase.ENDED)
    assert f"exit code {code}" in report.words
    assert report.killed == (code == 143), "the batch system knows more of those"
    assert "it is broken" in report.stderr
    assert batch.calls("qstat") == 0


def test_a_block_that_ends_while_the_provisioner_is_away_is_told_by_the_next(
    batch: Batch, start: Start, tmp_path: Path
) -> None:
    """Without a command of the batch system: the next one may be half a minute away."""
    go = tmp_path / "go"
    spoken = start(worker_init=f"until [ -e '{go}' ]; do sleep 0.05; done; exit 5")
    job = spoken.submit(7).job
    spoken.kill()
    go.touch()
    spoken.hear(pro.ProvisionerReady)
    spoken.process.send(pro.WatchBlocks([ref(7, job)]))
    told = spoken.hear(pro.Jobs, within=20)
    assert told.unasked
    assert [(report.block, report.job) for report in told.reports] == [(7, job)]
    assert "exit code 5" in told.reports[0].words
    assert batch.calls("qstat") == 0


def test_what_makes_every_block_end_the_same_way_is_recognised(batch: Batch, start: Start) -> None:
    spoken = start(command="sh -c 'echo 0: fxhpc: fatal: no fxhpc there >&2; exit 78'")
    spoken.submit(1)
    (report,) = spoken.hear(pro.Jobs).reports
    assert report.fatal == "no fxhpc there"


def test_nobody_asks_for_what_was_never_submitted(batch: Batch, start: Start) -> None:
    spoken = start()
    assert spoken.look(ref(3)).reports == [pro.JobReport(3, JobPhase.MISSING)]
    assert spoken.cancel(ref(3)).blocks == [3]
    assert batch.calls("qstat") == 0


def test_a_name_is_not_the_beginning_of_another(batch: Batch, start: Start) -> None:
    spoken = start()
    job = spoken.submit(12).job
    assert spoken.phase(ref(1)) == JobPhase.MISSING
    assert spoken.look(ref(12)).reports[0].job == job


# --- what batch systems do ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ({"queue": "nosuch"}, "qsub: Unknown queue"),
        ({"account": "nosuch"}, "qsub: Invalid account: nosuch is no project of yours"),
    ],
)
def test_a_refusal_is_told_in_the_batch_systems_words(
    batch: Batch, start: Start, provider: dict[str, str], words: str
) -> None:
    batch.set("queues", "workq debug")
    answer = start(provider=provider).submit(1)
    assert answer == pro.NotSubmitted(1, words, away=False)


@pytest.mark.parametrize("kind", ["PBSProProvider", "TorqueProvider"])
def test_a_server_that_is_away_refuses_nothing(batch: Batch, start: Start, kind: str) -> None:
    spoken = start(kind)
    batch.set("fault", "down")
    answer = spoken.submit(1)
    assert answer.away
    assert "cannot connect to server" in answer.reason
    told = spoken.look(ref(2, "2.pbs"))
    assert told.reports == []
    assert "cannot connect to server" in told.failed
    done = spoken.cancel(ref(2, "2.pbs"))
    assert done.blocks == []
    assert "cannot connect to server" in done.failed


def test_a_command_that_hangs_is_given_up(batch: Batch, start: Start) -> None:
    spoken = start(command_s=4.0)
    batch.set("fault", "hang")
    assert spoken.submit(1) == pro.NotSubmitted(1, "qsub: no answer within 4 s", away=True)
    told = spoken.look(ref(2, "2.pbs"))
    assert (told.reports, told.failed) == ([], "qstat: no answer within 4 s")
    batch.heal()
    assert isinstance(spoken.submit(3), pro.Submitted)


def test_an_answer_that_nobody_can_read_says_nothing(batch: Batch, start: Start) -> None:
    spoken = start()
    job = spoken.submit(1).job
    batch.set("fault", "garbage")
    told = spoken.look(ref(1, job))
    assert told.reports == []
    assert "<html>" in told.failed


def test_an_answer_without_an_id_may_mean_a_job(start: Start, batch: Batch) -> None:
    spoken = start("SlurmProvider")
    stand_in(batch, "sbatch", "echo 'Your job was taken.'")
    answer = spoken.submit(1)
    assert (answer.away, answer.unclear) == (True, True)
    assert "Your job was taken." in answer.reason
    stand_in(batch, "sbatch", "head -c 100000 /dev/zero")
    assert len(spoken.submit(2).reason) < 260


def test_a_job_is_never_started_again_under_its_old_id(
    start: Start, batch: Batch, tmp_path: Path
) -> None:
    """Another one has been asked for by then. The variable is stronger than the script's line."""
    spoken = start("SlurmProvider", provider={"scheduler_options": "#SBATCH --requeue"})
    said = tmp_path / "said"
    stand_in(batch, "sbatch", f"echo $SBATCH_NO_REQUEUE > '{said}'; echo Submitted batch job 7")
    assert spoken.submit(1) == pro.Submitted(1, "7")
    assert said.read_text() == "1\n"


def test_slurms_words_are_found_among_a_sites(start: Start, batch: Batch) -> None:
    spoken = start("SlurmProvider", provider={"account": "nosuch"})
    stand_in(
        batch,
        "sbatch",
        """
        echo '--- Welcome to Midway. Your quota: 12 % ---' >&2
        echo 'sbatch: error: Batch job submission failed: Invalid account or account/partition' >&2
        exit 1
        """,
    )
    words = "sbatch: error: Batch job submission failed: Invalid account or account/partition"
    assert spoken.submit(1) == pro.NotSubmitted(1, words, away=False)
    unreachable = "sbatch: error: Batch job submission failed: Unable to contact slurm controller"
    stand_in(batch, "sbatch", f"echo '{unreachable} (connect failure)' >&2; exit 1")
    assert spoken.submit(2).away


def test_a_batch_system_that_is_not_here(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin")
    answer = start("SlurmProvider").submit(1)
    assert answer.reason == f"sbatch: no such command on host {os.uname().nodename}"


def test_a_provider_that_cannot_be_made(start: Start) -> None:
    failed = start("SlurmProvider", provider={"partitoin": "debug"}).hear(pro.ProvisionerFailed)
    assert "partitoin" in failed.reason


# --- deaths -------------------------------------------------------------------------------------


def test_killed_between_submission_and_answer_there_is_one_job(batch: Batch, start: Start) -> None:
    spoken = start()
    spoken.hear(pro.ProvisionerReady)
    batch.set("fault.qsub", "lost")
    spoken.process.send(pro.SubmitBlock(ref(1)))
    eventually(batch.alive)
    spoken.kill()
    spoken.hear(pro.ProvisionerReady)
    report = spoken.look(ref(1)).reports[0]
    assert report.phase in (JobPhase.PENDING, JobPhase.RUNNING)
    assert [f"{job['number']}.pbs" for job in batch.jobs()] == [report.job]
    assert spoken.cancel(ref(1)).blocks == [1]
    eventually(lambda: not batch.alive())


def test_a_job_that_turns_up_after_it_was_cancelled_ends_at_once(
    batch: Batch, start: Start
) -> None:
    spoken = start()
    assert spoken.cancel(ref(1)).blocks == [1]
    spoken.submit(1)  # as a batch system does that was slow to hear of it
    eventually(lambda: batch.jobs() and not batch.alive())


def test_a_provisioner_that_hangs_is_killed_and_another_one_answers(
    batch: Batch, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioning, "ANSWER_MARGIN_S", -15.0)
    spoken = start()
    job = spoken.submit(1).job
    hung = psutil.Process(spoken.process.pid)
    hung.suspend()
    spoken.process.send(pro.AskJobs([ref(1, job)]))
    spoken.hear(pro.ProvisionerReady)  # the first one's
    spoken.hear(pro.ProvisionerReady)
    assert "hung" in spoken.gone
    assert not hung.is_running()
    eventually(lambda: spoken.phase(ref(1, job)) == JobPhase.RUNNING)


def test_a_signal_to_the_whole_session_ends_no_provisioner(start: Start) -> None:
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    told = "signals: $(grep SigIgn /proc/self/status | cut -f2)"
    spoken = start("LocalProvider", worker_init=f'echo "{told}" >&2; exit 1')
    spoken.hear(pro.ProvisionerReady)
    for number in signals:
        os.kill(spoken.process.pid, number)
    spoken.submit(1)
    (report,) = spoken.hear(pro.Jobs).reports
    assert not spoken.gone
    ignored = int(report.stderr.removeprefix("signals: "), 16)  # by what runs in a block
    assert not any(ignored >> (number - 1) & 1 for number in signals)


def test_it_ends_with_the_interchange_and_leaves_no_command(batch: Batch, tmp_path: Path) -> None:
    batch.set("fault", "hang")
    script = tmp_path / "interchange.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from pathlib import Path
            sys.path[:0] = sys.argv[2:]
            from batch import Spoken, ref, spec
            from fxhpc.protocol import provision as pro
            spoken = Spoken(spec(Path(sys.argv[1])))
            spoken.hear(pro.ProvisionerReady)
            spoken.process.send(pro.SubmitBlock(ref(1)))
            print(spoken.process.pid, flush=True)
            time.sleep(600)
            """
        )
    )
    here = Path(__file__).parent
    command = [
        sys.executable,
        str(script),
        str(tmp_path / "state"),
        str(here),
        str(here.parents[1]),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        provisioner = psutil.Process(int(process.stdout.readline()))
        commands = eventually(provisioner.children)
    finally:
        process.kill()
        process.communicate(timeout=10)
    eventually(lambda: not alive(provisioner.pid))
    assert isinstance(commands, list)
    eventually(lambda: not any(alive(one.pid) for one in commands))


# --- this host ----------------------------------------------------------------------------------

#: A block that leaves its session, as daemons do.
_TREE = "sh -c 'setsid sleep 600 & echo $! > {}; sleep 600'"


def test_blocks_of_this_host_are_found_again_and_ended_whole(tmp_path: Path, start: Start) -> None:
    note = tmp_path / "pid"
    spoken = start("LocalProvider", command=_TREE.format(note))
    job = spoken.submit(1).job
    eventually(lambda: note.exists() and note.read_text().strip())
    child = psutil.Process(int(note.read_text()))
    spoken.kill()
    report = spoken.look(ref(1)).reports[0]
    assert (report.phase, report.words) == (JobPhase.RUNNING, "RUNNING")
    assert spoken.look(ref(1, job)).reports[0].job == job
    assert spoken.cancel(ref(1, job)).blocks == [1]
    assert not alive(child.pid)
    assert spoken.phase(ref(1, job)) == JobPhase.ENDED


def test_a_block_of_this_host_that_was_killed_has_ended(tmp_path: Path, start: Start) -> None:
    spoken = start("LocalProvider", folder=tmp_path / "a 'quoted' $HOME")
    job = spoken.submit(1).job
    started = Path(spoken.spec.directory, f"{ref(1).name}.started")
    eventually(lambda: started.exists() and started.read_text().count("\n") == 5)
    root = psutil.Process(int(started.read_text().split()[0]))
    eventually(lambda: any(title(one).startswith("sleep") for one in root.children(recursive=True)))
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    eventually(lambda: spoken.phase(ref(1, job)) == JobPhase.ENDED)
    assert spoken.cancel(ref(1, job)).blocks == [1]


def stand_in(batch: Batch, tool: str, script: str) -> None:
    """Put a command of one's own in front of the real one, if there is one."""
    folder = batch.path / "bin"
    folder.mkdir(exist_ok=True)
    path = folder / tool
    path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
    path.chmod(0o755)

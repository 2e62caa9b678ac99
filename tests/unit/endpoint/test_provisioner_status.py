"""What is made of the answers of batch systems, word by word."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fxhpc.endpoint.provisioner.commands import Answer, CommandError
from fxhpc.endpoint.provisioner.pbs import Pbs
from fxhpc.endpoint.provisioner.scripts import KEPT_FAILED, KEPT_OTHERS, BlockFiles
from fxhpc.endpoint.provisioner.slurm import Slurm
from fxhpc.protocol.provision import BlockRef, JobPhase, JobReport

NAME = "fxhpc-midway-0123abcd"


def ref(number: int, job: str = "") -> BlockRef:
    return BlockRef(number, f"{NAME}-{number}", job)


class Tool:
    """A command that says what it is told to say."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def says(self, tool: str, out: str = "", err: str = "", code: int = 0) -> None:
        (self._folder / f"{tool}.out").write_text(out)
        (self._folder / f"{tool}.err").write_text(err)
        path = self._folder / tool
        path.write_text(
            f'#!/bin/sh\necho "$@" >> "$0.calls"\ncat "$0.out"\ncat "$0.err" >&2\nexit {code}\n'
        )
        path.chmod(0o755)

    def calls(self, tool: str) -> list[str]:
        path = self._folder / f"{tool}.calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    return Tool(tmp_path / "bin", monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> BlockFiles:
    (tmp_path / "blocks").mkdir()
    return BlockFiles(str(tmp_path / "blocks"))


# --- Slurm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("PENDING|Priority|", (JobPhase.PENDING, "PENDING (Priority)", "")),
        ("PENDING|None|", (JobPhase.PENDING, "PENDING", "")),
        ("CONFIGURING|None|n[1-2]", (JobPhase.PENDING, "CONFIGURING", "")),
        ("RUNNING|None|n[1-2]", (JobPhase.RUNNING, "RUNNING", "n[1-2]")),
        ("SUSPENDED|None|n1", (JobPhase.RUNNING, "SUSPENDED", "n1")),
        ("A_STATE_OF_LATER|None|n1", (JobPhase.RUNNING, "A_STATE_OF_LATER", "n1")),
        ("TIMEOUT|TimeLimit|n1", (JobPhase.ENDED, "TIMEOUT", "")),
        ("NODE_FAIL|NodeDown|n1", (JobPhase.ENDED, "NODE_FAIL", "")),
        ("CANCELLED|None|", (JobPhase.ENDED, "CANCELLED", "")),
        ("COMPLETING|None|n1", (JobPhase.ENDED, "COMPLETING", "")),
        ("COMPLETING|TimeLimit|n1", (JobPhase.ENDED, "COMPLETING (TimeLimit)", "")),
    ],
)
def test_states_of_slurm(
    tool: Tool, files: BlockFiles, row: str, expected: tuple[str, str, str]
) -> None:
    tool.says("squeue", f"123|{row}|{NAME}-7.1700.5\n")
    (report,) = Slurm(files).look([ref(7, "123")])
    assert report.job == "123"
    assert (report.phase, report.words, report.nodes) == expected


def test_one_command_of_slurm_tells_of_all(tool: Tool, files: BlockFiles) -> None:
    """Also of clusters, jobs of others, and a job whose name alone is known."""
    tool.says(
        "squeue",
        "CLUSTER: alpha\n"
        f"11|RUNNING|None|n1|{NAME}-1.1700.1\n"
        "12|PENDING|Resources||somebody|s job\n"
        "CLUSTER: beta\n"
        f"13|PENDING|Priority||{NAME}-22.1700.1\n"
        f"14|CANCELLED|None||{NAME}-2.1700.1\n"
        f"15|PENDING|Priority||{NAME}-2.1800.1\n",
    )
    reports = Slurm(files, "alpha,beta").look([ref(1, "11"), ref(2), ref(3), ref(4, "99")])
    assert [(report.block, report.phase, report.job) for report in reports] == [
        (1, JobPhase.RUNNING, "11"),
        (2, JobPhase.PENDING, "15"),
        (3, JobPhase.MISSING, ""),
        (4, JobPhase.ENDED, "99"),
    ]
    assert reports[3].words == "Slurm does not know it any more"
    assert len(tool.calls("squeue")) == 1
    assert "--clusters=alpha,beta" in tool.calls("squeue")[0]


@pytest.mark.parametrize(
    ("out", "err", "code"),
    [
        ("", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1),
        ("", "squeue: error: Socket timed out on send/recv operation", 0),
        ("<html>down for maintenance</html>", "", 0),
        ("123|RUNNING\n", "", 0),
    ],
)
def test_no_answer_of_slurm_is_no_answer(
    tool: Tool, files: BlockFiles, out: str, err: str, code: int
) -> None:
    tool.says("squeue", out, err, code)
    with pytest.raises(CommandError, match=r"squeue|slurm_load_jobs"):
        Slurm(files).look([ref(7, "123")])


# --- PBS and Torque ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"job_state": "Q"}, (JobPhase.PENDING, "QUEUED")),
        (
            {"job_state": "Q", "comment": "Not Running: Not enough nodes"},
            (JobPhase.PENDING, "QUEUED (Not Running: Not enough nodes)"),
        ),
        ({"job_state": "H"}, (JobPhase.PENDING, "HELD")),
        ({"job_state": "R", "comment": "Job run at noon"}, (JobPhase.RUNNING, "RUNNING")),
        ({"job_state": "E"}, (JobPhase.ENDED, "EXITING")),
        ({"job_state": "F", "Exit_status": 271}, (JobPhase.ENDED, "FINISHED, exit code 271")),
    ],
)
def test_states_of_pbs(
    tool: Tool, files: BlockFiles, facts: dict[str, object], expected: tuple[str, str]
) -> None:
    answer = {"pbs_server": "pbs", "Jobs": {"12.pbs": {"Job_Name": "x", **facts}}}
    tool.says("qstat", json.dumps(answer))
    (report,) = Pbs(files).look([ref(7, "12.pbs.site.example")])
    assert (report.phase, report.words) == expected


def test_pbs_without_history_forgets_single_jobs(tool: Tool, files: BlockFiles) -> None:
    answer = {"Jobs": {"12.pbs": {"job_state": "R"}}}
    tool.says("qstat", json.dumps(answer), "qstat: Unknown Job Id 11.pbs\n", 153)
    first, second = Pbs(files).look([ref(1, "11.pbs"), ref(2, "12.pbs")])
    assert (first.phase, first.words) == (JobPhase.ENDED, "PBS does not know it any more")
    assert second.phase == JobPhase.RUNNING


def test_pbs_that_keeps_no_history_is_asked_without(tool: Tool, files: BlockFiles) -> None:
    tool.says("qstat", "", "qstat: PBS is not configured to maintain job history\n", 1)
    pbs = Pbs(files)
    with pytest.raises(CommandError):
        pbs.look([ref(1, "12.pbs")])
    assert tool.calls("qstat") == ["-x -f -F json 12.pbs", "-f -F json 12.pbs"]
    tool.says("qstat", json.dumps({"Jobs": {"12.pbs": {"job_state": "R"}}}))
    assert pbs.look([ref(1, "12.pbs")])[0].phase == JobPhase.RUNNING
    assert tool.calls("qstat")[2:] == ["-f -F json 12.pbs"]


def test_json_of_pbs_that_is_none_is_asked_for_as_text(tool: Tool, files: BlockFiles) -> None:
    """Its writer forgets to quote what a job's environment holds."""
    tool.says(
        "qstat",
        "Job Id: 12.pbs\n    Job_Name = x\n    job_state = R\n    comment = Job run\n"
        "\tat noon\n    Variable_List = A=B,\n\tC=D\n\n",
    )
    (report,) = Pbs(files).look([ref(1, "12.pbs")])
    assert report.phase == JobPhase.RUNNING
    assert len(tool.calls("qstat")) == 2


def test_a_job_of_torque_is_found_by_its_name(tool: Tool, files: BlockFiles) -> None:
    (files.directory / f"parsl.{NAME}-1.1700.5.submit").touch()
    tool.says(
        "qstat",
        f"Job Id:\t12\n\tJob_Name = parsl.{NAME}-1.1700.5\n\tjob_state = Q\n"
        f"Job Id:\t13\n\tJob_Name = parsl.{NAME}-11.1700.5\n\tjob_state = R\n",
    )
    (report,) = Pbs(files, torque=True).look([ref(1)])
    assert (report.phase, report.job) == (JobPhase.PENDING, "12")


def test_torque_that_knows_no_job_at_all(tool: Tool, files: BlockFiles) -> None:
    tool.says("qstat", code=153)
    (report,) = Pbs(files, torque=True).look([ref(1, "12")])
    assert report.phase == JobPhase.ENDED


# --- words ------------------------------------------------------------------------


def test_words_of_a_command_that_calls_another() -> None:
    """As qsub does that Slurm brings along."""
    out = (
        "There was an error running the Slurm sbatch command.\nThe command was:\n"
        "'/usr/bin/sbatch x.sh 2>&1'\nand the output was:\n"
        "'sbatch: error: invalid partition specified: nosuch\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified\n'\n"
    )
    assert Answer("qsub", 1, out, "").words == (
        "qsub: sbatch: error: invalid partition specified: nosuch; "
        "sbatch: error: Batch job submission failed: Invalid partition name specified"
    )


def test_a_command_without_words_tells_its_exit_code() -> None:
    assert Answer("sbatch", 2, "", "").words == "sbatch: exit code 2"


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "qsub: cannot connect to server pbs (errno=15034)",
        "Connection refused",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
    ],
)
def test_words_of_a_batch_system_that_is_away(words: str) -> None:
    assert Answer("x", 1, "", words).away
    assert not Answer("x", 0, "", words).away


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Invalid partition name specified",
        "qsub: Unknown queue",
        "sbatch: error: QOSMaxSubmitJobPerUserLimit",
    ],
)
def test_words_of_a_batch_system_that_refuses(words: str) -> None:
    assert not Answer("x", 1, "", words).away


# --- files ------------------------------------------------------------------------


def test_last_words_are_those_of_errors_without_labels(files: BlockFiles) -> None:
    stem = files.directory / f"{NAME}-1.1700.5"
    stem.touch()
    stem.with_name(stem.name + ".stdout").write_text("Found cores : 4\nsomething useful\n")
    assert files.last_words(f"{NAME}-1") == ("something useful", "")
    lines = [f"0: line {number}" for number in range(100)]
    lines.insert(95, "0: fxhpc: fatal: a Python that is too old")
    stem.with_name(stem.name + ".stderr").write_text("\n".join(lines))
    text, fatal = files.last_words(f"{NAME}-1")
    assert text.splitlines()[-1] == "line 99"
    assert len(text.splitlines()) < 20
    assert fatal == "a Python that is too old"
    assert files.last_words(f"{NAME}-11") == ("", "")


def test_what_a_job_wrote_does_nothing_to_terminals(files: BlockFiles) -> None:
    stem = files.directory / f"{NAME}-1.1700.5"
    stem.with_name(stem.name + ".stderr").write_bytes(
        b"\x1b[1;31merror:\x1b[0m no\x07 such\x1b]0;title\x07 m\xf6dule \xc3\xb6\n"
    )
    words, _ = files.last_words(f"{NAME}-1")
    assert words == "error: no  such ]0;title  m\ufffddule \xf6"
    answer = Answer("sbatch", 1, "", "sbatch: \x1b[31merror:\x1b[0m no\x08 account")
    assert answer.words == "sbatch: error: no  account"


def test_the_files_of_the_last_ended_blocks_stay(files: BlockFiles) -> None:
    count = KEPT_FAILED + 10
    for kind, first in (("0", 1000), ("1", 2000)):
        for number in range(first, first + count):
            for ending in (".ended", ".1700.5", ".1700.5.stderr"):
                path = files.directory / f"{NAME}-{number}{ending}"
                path.write_text(kind)
                os.utime(path, (number, number))
            (files.directory / f"cmd_{NAME}-{number}.1700.5.sh").touch()
            os.utime(files.directory / f"cmd_{NAME}-{number}.1700.5.sh", (number, number))
    (files.directory / f"{NAME}-1.1700.5").touch()  # alive
    (files.directory / f"{NAME}-2.1700.5").touch()  # not known, but new
    (files.directory / "launch.sh").touch()
    files.clean({f"{NAME}-1"})
    left = {path.name for path in files.directory.iterdir()}
    assert {"launch.sh", f"{NAME}-1.1700.5", f"{NAME}-2.1700.5"} < left
    ended = {name for name in left if name.endswith(".ended")}
    assert ended == {
        f"{NAME}-{number}.ended"
        for first, kept in ((1000, KEPT_OTHERS), (2000, KEPT_FAILED))
        for number in range(first + count - kept, first + count)
    }
    assert len(left) == 3 + 4 * (KEPT_OTHERS + KEPT_FAILED)


def test_reports_have_the_end_of_what_was_written(tool: Tool, files: BlockFiles) -> None:
    (files.directory / f"{NAME}-7.1700.5.stderr").write_text("module: command not found\n")
    (files.directory / f"{NAME}-7.ended").write_text("127\n")
    tool.says("squeue", f"123|FAILED|NonZeroExitCode|n1|{NAME}-7.1700.5\n")
    assert Slurm(files).look([ref(7, "123")]) == [
        JobReport(
            7,
            JobPhase.ENDED,
            "123",
            "FAILED, exit code 127",
            stderr="module: command not found",
        )
    ]

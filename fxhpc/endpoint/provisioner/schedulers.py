"""What the provisioner wants of a batch system, beside submitting: how its jobs are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fxhpc.endpoint.provisioner.scripts import BlockFiles
from fxhpc.protocol.provision import BlockRef, JobPhase, JobReport


class Scheduler(Protocol):
    """A batch system that can be asked about jobs."""

    #: What people call it.
    name: str

    def look(self, blocks: Sequence[BlockRef]) -> list[JobReport]:
        """How these blocks are, by one command if it can be done. Of whom nothing is known there
        is no report.

        Raises:
            CommandError: there is no answer, or none that can be read. Nothing is known then.
        """
        ...


def ended_report(files: BlockFiles, block: BlockRef, job: str, words: str) -> JobReport:
    """The report of a block that has ended, with what it left behind."""
    code = files.exit_code(block.name)
    if code is not None and "exit code" not in words:
        words = f"{words}, exit code {code}" if words else f"exit code {code}"
    stderr, fatal = files.last_words(block.name)
    return JobReport(
        block.number, JobPhase.ENDED, job or block.job, words, stderr=stderr, fatal=fatal
    )


def gone_report(files: BlockFiles, block: BlockRef, scheduler: str) -> JobReport:
    """The report of a block that a batch system which answers does not know."""
    if block.job or files.exit_code(block.name) is not None:
        return ended_report(files, block, block.job, f"{scheduler} does not know it any more")
    return JobReport(block.number, JobPhase.MISSING)


def is_named(job_name: str, block: BlockRef) -> bool:
    """Whether a job of this name is this block's: Parsl adds a time, or a word before it."""
    name = job_name.removeprefix("parsl.")
    return name == block.name or name.startswith(block.name + ".")

"""How blocks are by what Parsl's provider says: for batch systems that nobody has tested here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fxhpc.endpoint.provisioner.commands import CommandError
from fxhpc.endpoint.provisioner.schedulers import ended_report
from fxhpc.endpoint.provisioner.scripts import BlockFiles
from fxhpc.protocol.provision import BlockRef, JobPhase, JobReport

#: Parsl's JobState by name.
_PENDING = frozenset({"PENDING", "HELD"})
_ENDED = frozenset({"CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "MISSING", "SCALED_IN"})


class Other:
    """Whatever Parsl has a provider for.

    Args:
        name: what people call the batch system.
        files: of the blocks.
        provider: Parsl's.
    """

    def __init__(self, name: str, files: BlockFiles, provider: Any) -> None:
        self.name = name
        self._files = files
        self._provider = provider

    def look(self, blocks: Sequence[BlockRef]) -> list[JobReport]:
        """See `Scheduler`. One that is known by its name alone is found by its own note."""
        jobs = {block.number: block.job or self._noted(block) for block in blocks}
        wanted = [job for job in jobs.values() if job in self._provider.resources]
        try:
            states = dict(zip(wanted, self._provider.status(wanted), strict=True))
        except CommandError:
            raise
        except Exception as error:
            raise CommandError(f"{self.name}: {type(error).__name__}: {error}") from error
        reports: list[JobReport] = []
        for block in blocks:
            job = jobs[block.number]
            if self._files.exit_code(block.name) is not None:
                reports.append(ended_report(self._files, block, job, "ended"))
            elif job in states:
                reports.append(self._report(block, job, states[job]))
            elif not job and self._files.script(block.name) is None:
                reports.append(JobReport(block.number, JobPhase.MISSING))
        return reports

    def _noted(self, block: BlockRef) -> str:
        started = self._files.started(block.name)
        return started.job if started is not None else ""

    def _report(self, block: BlockRef, job: str, status: Any) -> JobReport:
        state = str(status.state.name)
        words = f"{state} ({status.message})" if status.message else state
        if state in _ENDED:
            return ended_report(self._files, block, job, words)
        phase = JobPhase.PENDING if state in _PENDING else JobPhase.RUNNING
        return JobReport(block.number, phase, job, words)

"""How blocks are, by Slurm's squeue: one command for all, those that ended a while ago too."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from fxhpc.endpoint.provisioner import commands
from fxhpc.endpoint.provisioner.schedulers import ended_report, gone_report, is_named
from fxhpc.endpoint.provisioner.scripts import BlockFiles
from fxhpc.protocol.provision import BlockRef, JobPhase, JobReport

_PENDING = frozenset(
    {
        "PENDING",
        "CONFIGURING",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
    }
)
#: COMPLETING: its processes are gone, or nobody can reach them.
_ENDED = frozenset(
    {
        "COMPLETING",
        "COMPLETED",
        "BOOT_FAIL",
        "CANCELLED",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "RECONFIG_FAIL",
        "REVOKED",
        "TIMEOUT",
    }
)
_JOB = re.compile(r"\d+")


class Slurm:
    """Slurm, as its commands tell.

    Args:
        files: of the blocks.
        clusters: `--clusters`, if jobs go to others than this host's own.
        limit_s: of a command.
    """

    name = "Slurm"

    def __init__(self, files: BlockFiles, clusters: str = "", limit_s: float = 30.0) -> None:
        self._files = files
        self._limit_s = limit_s
        #: All jobs of this user: to ask for one that squeue has forgotten would be an error.
        self._command = [
            "squeue",
            "--noheader",
            "--states=all",
            f"--user={os.getuid()}",
            "--format=%i|%T|%r|%N|%j",  # the name last: it may hold anything
            *([f"--clusters={clusters}"] if clusters else []),
        ]

    def look(self, blocks: Sequence[BlockRef]) -> list[JobReport]:
        """See `Scheduler`."""
        environ = commands.plain_environment()
        answer = commands.run(self._command, self._limit_s, environ)
        if answer.code != 0 or "error:" in answer.err:
            raise answer.error()
        by_job: dict[str, tuple[str, ...]] = {}
        for line in answer.out.splitlines():
            if not line.strip() or line.startswith("CLUSTER:"):
                continue
            row = tuple(part.strip() for part in line.split("|", 4))
            if len(row) != 5 or not _JOB.match(row[0]):
                raise commands.CommandError(f"squeue: an answer that nobody can read: {line[:80]}")
            by_job[row[0]] = row
        return [self._report(block, by_job) for block in blocks]

    def _report(self, block: BlockRef, by_job: dict[str, tuple[str, ...]]) -> JobReport:
        row = by_job.get(block.job) if block.job else _named(block, by_job)
        if row is None:
            return gone_report(self._files, block, self.name)
        job, state, reason, nodes, _ = row
        known = "" if reason in ("", "None", "(null)") else f" ({reason})"
        if state in _ENDED:
            # Where it has its own word for the reason, such as NonZeroExitCode, that adds nothing.
            words = state + known if state == "COMPLETING" else state
            return ended_report(self._files, block, job, words)
        if state in _PENDING:
            return JobReport(block.number, JobPhase.PENDING, job, state + known)
        # Also a state that nobody has heard of: to take it for the end would cost more.
        return JobReport(block.number, JobPhase.RUNNING, job, state + known, nodes)


def _named(block: BlockRef, by_job: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    rows = [row for row in by_job.values() if is_named(row[4], block)]
    return min(rows, key=lambda row: row[1] in _ENDED, default=None)

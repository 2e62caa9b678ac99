"""How blocks are, by qstat: of PBS Pro and OpenPBS as JSON, of Torque as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from fxhpc.endpoint.provisioner import commands
from fxhpc.endpoint.provisioner.schedulers import ended_report, gone_report, is_named
from fxhpc.endpoint.provisioner.scripts import BlockFiles
from fxhpc.protocol.provision import BlockRef, JobPhase, JobReport

#: What qstat's letters mean.
_PENDING = {"Q": "QUEUED", "H": "HELD", "W": "WAITING", "T": "IN TRANSIT", "M": "MOVED"}
_RUNNING = {"R": "RUNNING", "B": "RUNNING", "S": "SUSPENDED", "U": "SUSPENDED"}
_ENDED = {"E": "EXITING", "F": "FINISHED", "C": "COMPLETED", "X": "FINISHED"}

#: What qstat says of single jobs while its answer on the others stands.
_UNKNOWN_JOB = re.compile(r"unknown job|job has finished|does not exist|invalid job", re.IGNORECASE)

#: What is known of a job: PBS's names, lower case.
Facts = Mapping[str, str]


class Pbs:
    """PBS Pro or Torque, as their commands tell.

    Args:
        files: of the blocks.
        torque: speak as Torque does.
        limit_s: of a command.
    """

    def __init__(self, files: BlockFiles, torque: bool = False, limit_s: float = 30.0) -> None:
        self.name = "Torque" if torque else "PBS"
        self._files = files
        self._torque = torque
        self._limit_s = limit_s
        #: Also of jobs that have ended, unless the server keeps no history.
        self._history = [] if torque else ["-x"]

    def look(self, blocks: Sequence[BlockRef]) -> list[JobReport]:
        """See `Scheduler`."""
        jobs = {block.number: block.job or self._find(block) for block in blocks}
        wanted = [job for job in jobs.values() if job]
        facts: Mapping[str, Facts] = self._ask(wanted) if wanted else {}
        return [self._report(block, jobs[block.number], facts) for block in blocks]

    def _find(self, block: BlockRef) -> str:
        """The id of a job that is known by its name alone; empty: there is none."""
        name = self._files.job_name(block.name)
        if not name:
            return ""  # its script was never written
        if self._torque:
            # There is no qselect everywhere. A full list, but only after something went wrong.
            for job, facts in self._ask([]).items():
                if is_named(facts.get("job_name", ""), block):
                    return job
            return ""
        answer = self._run("qselect", "-N", name)
        if answer.code != 0:
            raise answer.error()
        return next((line.strip() for line in answer.out.splitlines() if line.strip()), "")

    def _ask(self, jobs: list[str]) -> Mapping[str, Facts]:
        if self._torque:
            return self._ask_text(jobs)
        answer = self._run("qstat", "-f", "-F", "json", *jobs)
        self._check(answer)
        try:
            found = json.loads(answer.out, strict=False)["Jobs"] if answer.out.strip() else {}
            return {job: _flat(facts) for job, facts in found.items()}
        except (ValueError, KeyError, AttributeError, TypeError):
            # Versions of PBS write JSON that is none, where a job's environment has quotes.
            return self._ask_text(jobs)

    def _ask_text(self, jobs: list[str]) -> Mapping[str, Facts]:
        answer = self._run("qstat", "-f", *jobs)
        if jobs or answer.out.strip() or answer.err.strip():
            self._check(answer)
        found: dict[str, dict[str, str]] = {}
        facts: dict[str, str] = {}
        last = ""
        for line in answer.out.splitlines():
            if line.startswith("Job Id:"):
                facts = found.setdefault(line.partition(":")[2].strip(), {})
            elif line.startswith("\t") and " = " not in line and last in facts:
                facts[last] += line.strip()  # a long value goes on
            elif " = " in line:
                key, _, value = line.partition(" = ")
                last = key.strip().lower()
                facts[last] = value.strip()
            elif line.strip():
                raise commands.CommandError(
                    f"qstat: an answer that nobody can read: {line.strip()[:80]}"
                )
        return found

    def _check(self, answer: commands.Answer) -> None:
        """After an error only the jobs of which it speaks are unknown; or nothing is known."""
        problems = [line for line in answer.err.splitlines() if line.strip()]
        told = bool(problems) or (self._torque and answer.code == 153)
        if answer.code != 0 and not (told and all(map(_UNKNOWN_JOB.search, problems))):
            raise answer.error()

    def _run(self, tool: str, *words: str) -> commands.Answer:
        environ = commands.plain_environment()
        answer = commands.run([tool, *self._history, *words], self._limit_s, environ)
        if answer.code != 0 and self._history and "history" in answer.err.lower():
            self._history = []
            answer = commands.run([tool, *words], self._limit_s, environ)
        return answer

    def _report(self, block: BlockRef, job: str, found: Mapping[str, Facts]) -> JobReport:
        facts = _facts_of(job, found)
        if facts is None:
            return gone_report(self._files, block, self.name)
        letter = facts.get("job_state", "")
        comment = facts.get("comment", "")
        said = f" ({comment})" if comment else ""
        if letter in _ENDED:
            code = facts.get("exit_status", "")
            words = f"{_ENDED[letter]}, exit code {code}" if code else _ENDED[letter]
            return ended_report(self._files, block, job, words)
        if letter in _PENDING:
            return JobReport(block.number, JobPhase.PENDING, job, _PENDING[letter] + said)
        words = _RUNNING.get(letter, letter or "RUNNING")
        return JobReport(block.number, JobPhase.RUNNING, job, words, facts.get("exec_host", ""))


def _flat(facts: object) -> Facts:
    if not isinstance(facts, dict):
        raise TypeError("a job is no mapping")
    return {str(key).lower(): str(value) for key, value in facts.items()}


def _facts_of(job: str, found: Mapping[str, Facts]) -> Facts | None:
    """Servers write their names in full or short: `12.pbs` and `12.pbs.site.example`."""
    if not job:
        return None
    number = job.partition(".")[0]
    for name, facts in found.items():
        if name == job or name.partition(".")[0] == number:
            return facts
    return None

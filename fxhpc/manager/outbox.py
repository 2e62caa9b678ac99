"""What has ended and nobody has acknowledged yet: gathered, numbered, kept, sent again."""

from __future__ import annotations

from fxhpc.protocol.messages import ResultRun, Results, TaskRun
from fxhpc.protocol.outcome import Outcome, size_of

#: A Results message holds at most so many tasks, or bytes where there are several.
MESSAGE_TASKS = 1000
MESSAGE_BYTES = 1 << 20


class Outbox:
    """Results on their way to the interchange."""

    def __init__(self, host: str) -> None:
        self.unstored: dict[int, Results] = {}
        self.bytes = 0  # of all that is kept here
        self._host = host
        self._open: list[ResultRun] = []
        self._sizes: dict[int, int] = {}
        self._next = 1

    def add(self, run: TaskRun, outcomes: list[Outcome], ended: float) -> None:
        """These tasks of a run have ended; `ended` is the wall clock."""
        last = self._open[-1] if self._open else None
        if (
            last is not None
            and last.stream == run.stream
            and last.attempt == run.attempt
            and last.epoch == run.epoch
        ):
            last.outcomes += outcomes
        else:
            self._open.append(
                ResultRun(run.stream, run.epoch, run.attempt, outcomes, ended, self._host)
            )

    def close(self) -> list[Results]:
        """Number what has been gathered: the messages to send."""
        if not self._open:
            return []
        messages: list[Results] = []
        runs: list[ResultRun] = []
        tasks = size = 0
        for run in self._open:
            begin = 0
            bytes_ = size_of(run.outcomes)
            if tasks + len(run.outcomes) <= MESSAGE_TASKS and size + bytes_ <= MESSAGE_BYTES:
                tasks += len(run.outcomes)
                size += bytes_
                runs.append(run)
                continue
            for position, outcome in enumerate(run.outcomes):
                bytes_ = len(outcome.data)
                if outcome.output:
                    bytes_ += len(outcome.output)
                if tasks and (tasks >= MESSAGE_TASKS or size + bytes_ > MESSAGE_BYTES):
                    if position > begin:
                        runs.append(_cut(run, begin, position))
                    messages.append(self._number(runs, size))
                    runs, begin, tasks, size = [], position, 0, 0
                tasks += 1
                size += bytes_
            runs.append(_cut(run, begin, len(run.outcomes)) if begin else run)
        messages.append(self._number(runs, size))
        self._open = []
        return messages

    def stored(self, numbers: list[int]) -> None:
        """These need not be kept any more."""
        for number in numbers:
            if self.unstored.pop(number, None) is not None:
                self.bytes -= self._sizes.pop(number)

    def _number(self, runs: list[ResultRun], size: int) -> Results:
        results = Results(self._next, runs)
        self._next += 1
        self.unstored[results.number] = results
        self._sizes[results.number] = size
        self.bytes += size
        return results


def _cut(run: ResultRun, begin: int, end: int) -> ResultRun:
    return ResultRun(
        run.stream, run.epoch, run.attempt, run.outcomes[begin:end], run.ended, run.host
    )

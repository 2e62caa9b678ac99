"""How long tasks take, as measured, and how much work to hold because of it."""

from __future__ import annotations

from fxhpc.protocol.messages import TaskRun

#: A message to a worker holds this much work, in seconds, and at most so many tasks.
MESSAGE_S = 0.001
MESSAGE_TASKS = 256

#: A worker that has less work than this is given more.
LOOK_AHEAD_S = 0.012

#: The manager holds so much work for each worker, in seconds, and at most so many tasks.
HOLD_S = 0.04
HOLD_TASKS = 4000

#: What a task costs a worker beside the call itself, at least, in seconds.
_LEAST_S = 2e-6


def kind_of(run: TaskRun) -> bytes:
    """What tasks have in common that take about as long: their function, and how many calls."""
    return run.function + run.calls.to_bytes(4, "big") if run.calls else run.function


class Pace:
    """Measured durations, per kind of tasks and of all tasks of late."""

    def __init__(self) -> None:
        self._by_kind: dict[bytes, float] = {}
        self._spent_s = 0.0
        self._count = 0.0
        self._bytes = 0.0

    def note(
        self, kind: bytes, count: int, spent_s: float, result_bytes: int, apart: bool = False
    ) -> None:
        """So many tasks of a kind took so long, and made so much, in all.

        Args:
            apart: they had a worker of their own, and say nothing of others.
        """
        mean = max(_LEAST_S, spent_s / count)
        before = self._by_kind.get(kind)
        if before is None:
            if len(self._by_kind) >= 10_000:
                self._by_kind.clear()
            self._by_kind[kind] = mean
        else:
            # Quick to believe that tasks are short: a first call may have imported a lot.
            weight = 0.7 if mean < before else 0.3
            self._by_kind[kind] = before + weight * (mean - before)
        if apart:
            return
        # Many short ones of before say little when the next takes long.
        kept = 0.8 ** min(5.0, max(1.0, spent_s / 0.01))
        self._spent_s = kept * self._spent_s + spent_s
        self._count = kept * self._count + count
        self._bytes = kept * self._bytes + result_bytes

    def expected(self, kind: bytes) -> float | None:
        """Seconds that a task of this kind takes, or None if none has ended."""
        return self._by_kind.get(kind)

    def result_bytes(self) -> float:
        """Bytes that a task's outcome has, of late."""
        return self._bytes / self._count if self._count else 0.0

    @property
    def is_known(self) -> bool:
        """Whether any task has ended."""
        return self._count > 0

    def hold(self, slots: int) -> int:
        """How many tasks to hold for so many workers: one ahead for each, if they are not long."""
        tasks = self.within(slots, HOLD_S)
        if self._count and self._spent_s < HOLD_S * self._count:
            return max(tasks, 2 * slots)
        return tasks

    def within(self, slots: int, seconds: float) -> int:
        """How many tasks so many workers end in this time; at least one each."""
        if not self._count:
            return slots
        mean = max(_LEAST_S, self._spent_s / self._count)
        each = min(HOLD_TASKS, max(1.0, seconds / mean))
        return max(slots, int(slots * each))

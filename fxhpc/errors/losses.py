"""Errors of tasks that were lost: they ended without a word of their own."""

from __future__ import annotations

import signal as _signals
from collections.abc import Sequence
from typing import Any

from fxhpc.errors.base import FxhpcError, the_task
from fxhpc.units import format_bytes, format_duration


class TaskLost(FxhpcError):
    """A task ended without a value and without an exception of its own.

    Args:
        text: one sentence, what happened; each class has one of its own for want of a better.
        task_id: which task.
        host, pid: where it ran.
        signal: the number of the signal that ended its worker, or 0.
        exit_code: the code that its worker exited with, or -1.
        peak_memory: bytes, the largest resident size that the worker had.
        stderr: the last lines that the worker wrote; where output is captured, to stdout too.
        attempts: the stories of earlier attempts, a sentence each.
        ran_s: seconds that the last attempt had run, if that is known.
        block_s: seconds of the block that it ran in, if it was cut off by its end.
        limit_s: seconds that it was declared to take, if it was ended because it took longer.
        limit_bytes: memory that it was declared to use, if it was ended because it used more.
        oom_evidence: one sentence, what shows that it was killed because memory ran out; or empty.
        advice: what to do about it; each class has a text of its own.
        counted: how many of its losses, this one included, count against its retries.
        retries: how many of these it may survive.
        alone: how many managers were lost that it had for itself.
        is_once: it would have run again if it had not been submitted with `retries=0`.
        elements: of a task of a map: the first of the map's elements that it had, counted from 0,
            and how many; (0, 0) of any other task.
    """

    WHAT = "it was lost"
    ADVICE = (
        "submit it again; if it is lost again, see the endpoint's log (fxhpc endpoint logs NAME)."
    )

    def __init__(
        self,
        text: str = "",
        *,
        task_id: str = "",
        host: str = "",
        pid: int = 0,
        signal: int = 0,
        exit_code: int = -1,
        peak_memory: int = 0,
        stderr: str = "",
        attempts: Sequence[str] = (),
        advice: str = "",
        ran_s: float = 0.0,
        block_s: float = 0.0,
        limit_s: float = 0.0,
        limit_bytes: int = 0,
        oom_evidence: str = "",
        counted: int = 0,
        retries: int = 0,
        alone: int = 0,
        is_once: bool = False,
        elements: tuple[int, int] = (0, 0),
    ) -> None:
        self.elements = elements
        self.is_once = is_once
        self.counted = counted
        self.retries = retries
        self.alone = alone
        self.ran_s = ran_s
        self.block_s = block_s
        self.limit_s = limit_s
        self.limit_bytes = limit_bytes
        self.oom_evidence = oom_evidence
        self.task_id = task_id
        self.host = host
        self.pid = pid
        self.signal = signal
        self.exit_code = exit_code
        self.peak_memory = peak_memory
        self.stderr = stderr
        self.attempts = tuple(attempts)
        self.text = text
        super().__init__(self._tell(text or self.WHAT, advice or self._advice()))

    def of_map(self, first: int, count: int = 1) -> TaskLost:
        """The same error, of a task that had these elements of a map."""
        arguments, keywords = self._made_with
        error = type(self)(*arguments, **{**keywords, "elements": (first, count)})
        return error.with_traceback(self.__traceback__)

    def _advice(self) -> str:
        return self.ADVICE

    def _tell(self, what: str, advice: str) -> str:
        facts = [f"on {self.host}"] if self.host else []
        if self.pid:
            facts.append(f"worker pid {self.pid}")
        if self.signal:
            facts.append(f"signal {signal_name(self.signal)}")
        if self.exit_code >= 0:
            facts.append(f"exit code {self.exit_code}")
        if self.peak_memory:
            facts.append(f"peak memory {format_bytes(self.peak_memory)}")
        if self.ran_s > 0:
            facts.append(f"it had run for {format_duration(self.ran_s)}")
        if self.block_s > 0:
            facts.append(f"in a block of {format_duration(self.block_s)}")
        lines = [f"{the_task(self.task_id)} was lost: {what.rstrip('.')}."]
        if facts:
            lines[0] += f" ({', '.join(facts)})"
        first, count = self.elements
        if count == 1:
            lines.append(f"It had element {first} of the map, counted from 0.")
        elif count:
            lines.append(
                f"It had elements {first} to {first + count - 1} of the map, counted from 0, as "
                f"one chunk: none of them has a value."
            )
            if isinstance(self, WalltimeReached):
                advice = (
                    f"map these {count} elements again in smaller chunks (chunksize=), which take "
                    f"less. Of one that takes that long by itself: {advice}"
                )
            elif not isinstance(self, WorkerStartFailed):  # which is no element's doing
                advice = (
                    f"map these {count} elements again with chunksize=1: if it was one of them, "
                    f"you see which, and the others have their values. Of that one: {advice}"
                )
        if self.oom_evidence:
            lines.append(f"{self.oom_evidence.rstrip('.')}.")
        if self.retries < self.counted <= len(self.attempts):
            lines.append(
                f"It was lost {len(self.attempts) + 1} times, of which {self.counted} count "
                f"against its retries={self.retries}: not those that others caused, nor the first "
                f"manager that is lost with it."
            )
        if self.attempts:
            lines.append("Earlier attempts:")
            lines += (f"  {n}. {story}" for n, story in enumerate(self.attempts, 1))
        if self.stderr.strip():
            lines.append("Last lines that the worker wrote:")
            lines += (f"  {line}" for line in self.stderr.strip().splitlines())
        if self.is_once:
            lines.append(
                "It was submitted with retries=0, so it was not run again, though it may have done "
                "some of its work."
            )
        lines.append(f"What to do: {advice}")
        return "\n".join(lines)


#: How a task gets more memory.
_MORE_MEMORY = (
    'declare it, so that it is kept free: resource_specification={"memory": "8GB"}; or '
    "fewer workers at a time: Executor(max_workers=N), or FXHPC_WORKERS=N for `local`, or "
    "max_workers_per_node or mem_per_worker in an endpoint's config.yaml; or a larger job"
)


class WorkerDied(TaskLost):
    """The worker that ran the task was ended by a signal."""

    WHAT = "its worker died while it ran"

    @property
    def oom(self) -> bool:
        """Whether the kernel probably killed it because memory ran out; see `oom_evidence`."""
        return bool(self.oom_evidence)

    def _advice(self) -> str:
        name = signal_name(self.signal)
        if self.oom_evidence:
            return (
                f"give each task more memory ({_MORE_MEMORY}), or let it use less: smaller pieces, "
                f"one at a time."
            )
        if name == "SIGKILL":
            return (
                f"SIGKILL without a word is mostly the kernel or the batch system at a limit of "
                f"memory: give each task more ({_MORE_MEMORY}), or let it use less. If it was "
                f"someone's kill, submit it again."
            )
        if name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
            return (
                "a compiled library crashed. Run the function alone under `python -X faulthandler` "
                "with the same arguments; check that the library fits this node's processor."
            )
        if name == "SIGXCPU":
            return "a limit of CPU time was reached (`ulimit -t`): raise it or split the task."
        return "run the function alone with the same arguments, and see what sends this signal."


class TaskExited(TaskLost):
    """The task's own code ended its worker, by `sys.exit` or `os._exit`; never run again.

    `code` is what it exited with.
    """

    WHAT = "its own code ended the process"
    ADVICE = "let the function return or raise instead of calling sys.exit() or os._exit()."

    @property
    def code(self) -> int:
        """The exit code: what the task gave to `sys.exit` or `os._exit`."""
        return self.exit_code


class ManagerLost(TaskLost):
    """The manager that had the task (a node, a batch job) was lost."""

    WHAT = "the manager that had it was lost, with its node or its batch job"
    ADVICE = "look at the batch system's account of the job (walltime, memory, node failure)."

    def _advice(self) -> str:
        account = self.ADVICE
        if "`local` endpoint" in self.text:
            return (
                "submit it again, by a process that lives until it has ended; or to an endpoint "
                "with a name, which outlives whoever submits to it (fxhpc endpoint configure NAME)."
            )
        if "no manager that is there has it" in self.text:
            return "look at what the task has left behind, and submit it again."
        if self.text and " in block " not in self.text:  # a process of its host, and no job
            who = "the manager"
            if "starts workers" in self.text:  # the manager lives
                who = "the process that starts workers"
            account = (
                f"see what ended {who} (somebody's kill, the memory of its host: `dmesg`), "
                "and submit it again."
            )
        # Once is no evidence: whatever ended that manager, some task was there.
        if self.alone + len(self.attempts) < 2 or not self.alone:
            return account
        times = {1: "once, and then", 2: "twice, and both times"}
        when = times.get(self.alone, f"{self.alone} times, and each time")
        return (
            f"it ran alone {when} its manager, or the process there that starts workers, was lost: "
            f"it probably takes them down. Does it need more memory than a node or its job has "
            f"(give it a larger one, or less to do)? Does it kill processes that it has not "
            f"started (its parent, its user's, a process group)? If not, {account}"
        )


class WalltimeReached(TaskLost):
    """The task was cut off by the end of its block's walltime, too often to be tried again."""

    WHAT = "the walltime of its block ended before the task did"
    ADVICE = (
        "raise `walltime` in the endpoint's configuration above what one task takes, or split the "
        'task. Declare what it takes (resource_specification={"walltime": "2h"}), so that it is '
        "not started in a block that ends sooner."
    )


class TaskWalltimeExceeded(TaskLost):
    """The task took longer than it was declared to take, and was ended; it does not run again.

    The last lines of stderr show where in its code it was, unless that was in no state to tell.
    """

    WHAT = "it took longer than its declared walltime, and was ended"
    ADVICE = (
        'if it takes that long, declare more (resource_specification={"walltime": ...}), or '
        "nothing: then it may run for as long as its block. If not, it hangs: the lines above show "
        "where, if its code could still tell."
    )

    @property
    def limit(self) -> float:
        """Seconds that it was declared to take at most."""
        return self.limit_s

    @property
    def ran(self) -> float:
        """Seconds that it had run when it was ended."""
        return self.ran_s


class TaskMemoryExceeded(TaskLost):
    """The task used more memory than it was declared to, and was ended; it does not run again.

    What it had started counts, and so does what earlier tasks of the same worker have left there.
    """

    WHAT = "it used more memory than it was declared to, and was ended"
    ADVICE = (
        'if it needs that much, declare more (resource_specification={"memory": "4GB"}): it then '
        "gets a place where so much is left. If not, let it use less: smaller pieces, one at a "
        "time."
    )

    @property
    def limit(self) -> int:
        """Bytes that it was declared to use at most."""
        return self.limit_bytes

    @property
    def used(self) -> int:
        """Bytes that it used, with all that it had started, when it was ended."""
        return self.peak_memory


class WorkerStartFailed(TaskLost):
    """Workers die before they can begin anything."""

    WHAT = "no worker could start"
    ADVICE = (
        "mend what the lines above say (mostly the environment: the interpreter, `worker_init`, "
        "a module that is missing on the node), then submit it again."
    )


#: The causes of which a task is run again as long as its retries allow, other than those of its
#: own doing, and what to do if they do not.
_RUN_AGAIN = ("WORKER_KILLED", "MANAGER_LOST", "INTERRUPTED", "WALLTIME")
_INTERRUPTED = (
    "look at what the task has left behind, then submit it again; if it may run twice, without "
    "retries=0: then that is done by itself."
)
_STOPPED = (
    "look at what the task has left behind, start the endpoint again (fxhpc endpoint start NAME), "
    "and submit the task again. `fxhpc endpoint stop NAME` without --now lets tasks finish first; "
    "and without retries=0 those that it cuts off run again at the next start."
)

_UNFIT = (
    "ask for less in its resource_specification, give the endpoint larger nodes or more workers, "
    "or use another one."
)

_LOSSES: dict[str, type[TaskLost]] = {
    "WORKER_KILLED": WorkerDied,
    "WORKER_EXITED": TaskExited,
    "MANAGER_LOST": ManagerLost,
    "WORKER_UNSTARTABLE": WorkerStartFailed,
    "WALLTIME": WalltimeReached,
    "TASK_WALLTIME": TaskWalltimeExceeded,
    "TASK_MEMORY": TaskMemoryExceeded,
}


def lost(cause: str, text: str = "", **fields: Any) -> TaskLost:
    """The error for a loss: `cause` is the name of a LossCause, `fields` as TaskLost takes them."""
    if cause in _RUN_AGAIN and fields.get("retries") == 0 and not fields.get("attempts"):
        fields["is_once"] = True
    if cause == "UNFIT":
        fields.setdefault("advice", _UNFIT)
    if cause == "INTERRUPTED" and "advice" not in fields:
        fields["advice"] = _STOPPED if "endpoint was stopped" in text else _INTERRUPTED
    return _LOSSES.get(cause, TaskLost)(text, **fields)


def signal_name(number: int) -> str:
    """A signal as people know it.

    >>> signal_name(9)
    'SIGKILL'
    """
    try:
        return _signals.Signals(number).name
    except ValueError:
        return f"{number}"

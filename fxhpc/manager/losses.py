"""What is said of a lost attempt: what happened, and where; which task is said beside it."""

from __future__ import annotations

import signal

import msgspec

from fxhpc.manager.events import Host, WorkerGone
from fxhpc.manager.held import Ending, Part, Slot
from fxhpc.manager.resources.nearing import Over
from fxhpc.manager.stacks import before_end, users_part
from fxhpc.protocol import kept
from fxhpc.protocol.messages import LostTask
from fxhpc.protocol.outcome import Loss, LossCause, Output
from fxhpc.units import format_bytes, format_duration

_encode = msgspec.msgpack.Encoder().encode


def lost(part: Part, loss: Loss) -> LostTask:
    """A loss of the first task of a part."""
    if loss.kept and loss.output:
        # The calls that are not made again do not print again what belongs to the chunk.
        loss.kept += kept.record(0, kept.PRINTED, loss.output)
    return LostTask(part.run.stream, part.first, part.run.epoch, part.run.attempt, loss)


def worker_died(part: Part, slot: Slot, gone: WorkerGone, host: Host, ran_s: float) -> Loss:
    """The worker died while it ran this task, for so long; 0: nobody knows."""
    worker = _worker(slot, host)
    if gone.seed_lost:
        cause = LossCause.MANAGER_LOST
        text = f"{worker} was ended while it ran the task: the process that starts workers died"
    elif gone.signal:
        cause = LossCause.WORKER_KILLED
        text = f"{worker} was killed by {_signal_name(gone.signal)} while it ran the task"
        if gone.oom:
            text += ", probably because memory ran out"
    else:
        cause = LossCause.WORKER_EXITED
        text = (
            f"{worker} exited with code {gone.exit_code} while it ran the task, whose own code "
            f"ended the process"
        )
    loss = _loss(cause, text, slot, gone, host)
    loss.ran_s = ran_s
    loss.output, loss.kept = printed(part, gone), gone.kept
    loss.call = _call(part, gone.call)
    return loss


def printed(part: Part, gone: WorkerGone, ended: bool = False) -> bytes:
    """What the task printed that a dead worker was at, packed; nothing if nobody wants it.

    Args:
        ended: the worker was made to tell where it was, which the task did not print, and ended.
    """
    found, limit = gone.printed, part.run.capture
    if found is None or not limit:
        return b""
    stderr = before_end(found.stderr) if ended else found.stderr
    stderr_bytes = found.stderr_bytes - (len(found.stderr) - len(stderr))
    if not (found.stdout_bytes or stderr_bytes):
        return b""
    return _encode(Output(found.stdout[-limit:], stderr[-limit:], found.stdout_bytes, stderr_bytes))


def outcome_missing(part: Part, slot: Slot, gone: WorkerGone, host: Host) -> Loss:
    """The task had ended, and how it ended was lost with the worker."""
    text = f"{_worker(slot, host)} died just after the task, whose outcome was lost with it"
    return _loss(LossCause.INTERRUPTED, text, slot, gone, host)


def interrupted(part: Part, slot: Slot, gone: WorkerGone | None, host: Host, why: str) -> Loss:
    """The worker was ended on purpose, though not because of this task."""
    text = f"{_worker(slot, host)}, which ran the task, was ended: {why}"
    loss = _loss(LossCause.INTERRUPTED, text, slot, gone, host)
    if gone is not None and gone.kept:
        # What these calls have printed goes along: they are not made again.
        loss.output, loss.kept = printed(part, gone), gone.kept
    return loss


def walltime(part: Part, slot: Slot, gone: WorkerGone | None, host: Host, now: float) -> Loss:
    """The job came to its end while the worker was at this task, or had just ended it."""
    if not slot.is_at(part):
        why = "the job came to its end before how the task ended could be told"
        return interrupted(part, slot, gone, host, why)
    ran_s = max(0.0, now - slot.begun_since)
    how_long = f" of {format_duration(host.walltime_s)}" if host.walltime_s else ""
    text = (
        f"{_worker(slot, host)}, which had run the task for {format_duration(ran_s)}, was "
        f"ended: the job came to the end of its walltime{how_long}"
    )
    loss = _loss(LossCause.WALLTIME, text, slot, gone, host)
    loss.ran_s, loss.block_s = ran_s, host.walltime_s
    if gone is not None:
        loss.output, loss.kept = printed(part, gone), gone.kept
    return loss


def out_of_time(part: Part, slot: Slot, gone: WorkerGone, host: Host, ending: Ending) -> Loss:
    """The task, or a call of it, ran for longer than declared, so its worker was ended."""
    call = _call(part, ending.call)
    what = "task" if call < 0 else "call"
    text = (
        f"{_worker(slot, host)}, which had run the {what} for {format_duration(ending.ran_s)}, was "
        f"ended: its declared walltime of {format_duration(ending.limit_s)} was over"
    )
    if gone.undead:
        text += (
            ". Its process has not died of that: it waits for something of the system, mostly a "
            "file system that does not answer. Another worker has taken its place"
        )
    loss = _loss(LossCause.TASK_WALLTIME, text, slot, gone, host)
    # How the worker was ended says nothing of the task.
    loss.signal, loss.exit_code = 0, -1
    loss.stderr = users_part(gone.stderr, ended=True)
    loss.ran_s, loss.limit_s, loss.call = ending.ran_s, ending.limit_s, call
    loss.output, loss.kept = printed(part, gone, ended=True), gone.kept
    return loss


def out_of_memory(
    part: Part, slot: Slot, gone: WorkerGone, host: Host, over: Over, ran_s: float
) -> Loss:
    """The worker used more memory than was declared, with all that it had started, while it ran
    this task, for so long; 0: nobody knows.
    """
    limit = format_bytes(over.limit)
    if over.killed:
        used = f"it wanted more memory than its limit of {limit}"
    else:
        used = f"it used {format_bytes(over.used)} of memory, its limit is {limit}"
    text = (
        f"{_worker(slot, host)} was ended while it ran the task: with all that it had started "
        f"{used} (resource_specification memory)"
    )
    if slot.done:
        text += f". {_left_before(over)}"
    loss = _loss(LossCause.TASK_MEMORY, text, slot, gone, host)
    # How the worker was ended says nothing of the task.
    loss.signal, loss.exit_code, loss.oom = 0, -1, ""
    loss.ran_s, loss.call = ran_s, _call(part, gone.call)
    loss.peak_memory, loss.limit_bytes = over.used, over.limit
    loss.output, loss.kept = printed(part, gone), gone.kept
    return loss


def crowded_out(part: Part, slot: Slot, gone: WorkerGone, host: Host, over: Over) -> Loss:
    """The worker used more memory than was declared, and mostly for tasks before this one."""
    why = f"it was over its memory's limit of {format_bytes(over.limit)}. {_left_before(over)}"
    loss = interrupted(part, slot, gone, host, why)
    loss.signal, loss.oom = 0, ""
    return loss


def unstartable(part: Part, gone: WorkerGone, host: Host) -> Loss:
    """No worker lives long enough to run anything."""
    how = (
        f"were killed by {_signal_name(gone.signal)}"
        if gone.signal
        else f"exited with code {gone.exit_code}"
    )
    last = gone.stderr.strip().splitlines()
    why = f" The last one said: {last[-1]}" if last else ""
    text = (
        f"the task was not begun: on {host.host}, workers {how} before they could run "
        f"anything, three in a row.{why}"
    )
    return Loss(
        LossCause.WORKER_UNSTARTABLE,
        text,
        host.host,
        0,
        gone.signal,
        gone.exit_code,
        gone.peak_memory,
        gone.stderr,
    )


def unfit(part: Part, why: str, host: Host) -> Loss:
    """The node can never give the task what it needs."""
    return Loss(LossCause.UNFIT, f"the task was not begun on {host.host}: {why}", host.host)


def no_body(part: Part, digest: bytes, host: Host) -> Loss:
    """What the task needs is nowhere to be had."""
    what, advice = "its function", "Register the function and submit the task again."
    if digest != part.run.function:
        what = "a large argument that it shares with other tasks"
        advice = "Submit the task again, by a new client or Executor."
    text = (
        f"the task was not begun on {host.host}: {what} (SHA-256 {digest.hex()[:16]}...) cannot "
        f"be had from the store any more: it is gone, or damaged (forwarder.log). {advice}"
    )
    return Loss(LossCause.UNDELIVERED, text, host.host)


def _left_before(over: Over) -> str:
    return (
        f"It had run other tasks, and used {format_bytes(over.before)} when it was last looked at "
        f"before it began this one"
    )


def _call(part: Part, call: int) -> int:
    """The call that the worker was at, if the task is a chunk."""
    return call if 0 <= call < part.run.calls else -1


def _worker(slot: Slot, host: Host) -> str:
    within = [f"block {host.block}"] if host.block else []
    within += [f"job {host.job}"] if host.job else []
    return f"worker {slot.pid} on {host.host}" + (f" ({', '.join(within)})" if within else "")


def _loss(cause: LossCause, text: str, slot: Slot, gone: WorkerGone | None, host: Host) -> Loss:
    if gone is None:
        return Loss(cause, text, host.host, slot.pid)
    return Loss(
        cause,
        text,
        host.host,
        slot.pid,
        gone.signal,
        gone.exit_code,
        gone.peak_memory,
        users_part(gone.stderr),
        oom=gone.oom,
    )


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"

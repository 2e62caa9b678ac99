"""What is said of a lost attempt: what happened, where, why, and what can be done."""

from __future__ import annotations

import signal

from fxhpc.ids import task_id
from fxhpc.manager.events import Host, WorkerGone
from fxhpc.manager.held import Part, Slot
from fxhpc.protocol.messages import LostTask
from fxhpc.protocol.outcome import Loss, LossCause
from fxhpc.units import format_bytes


def lost(part: Part, loss: Loss) -> LostTask:
    """A loss of the first task of a part."""
    return LostTask(part.run.stream, part.first, part.run.epoch, part.run.attempt, loss)


def worker_died(part: Part, slot: Slot, gone: WorkerGone, host: Host) -> Loss:
    """The worker died while it ran this task."""
    task = task_id(part.run.stream, part.first)
    where = f"worker {slot.pid} on {host.host}"
    peak = f" Its peak memory was {format_bytes(gone.peak_memory)}." if gone.peak_memory else ""
    if gone.seed_lost:
        cause = LossCause.MANAGER_LOST
        text = f"{where} was ended while it ran task {task}: the process that starts workers died."
    elif gone.signal:
        cause = LossCause.WORKER_KILLED
        text = f"{where} was killed by {_signal_name(gone.signal)} while it ran task {task}.{peak}"
        text += _advice(gone)
    else:
        cause = LossCause.WORKER_EXITED
        text = (
            f"{where} exited with code {gone.exit_code} while it ran task {task}: the task's own "
            f"code ended the process.{peak} Return a value or raise an exception instead of "
            f"calling os._exit()."
        )
    return _loss(cause, text, slot, gone, host)


def outcome_missing(part: Part, slot: Slot, gone: WorkerGone, host: Host) -> Loss:
    """The task had ended, and how it ended was lost with the worker."""
    task = task_id(part.run.stream, part.first)
    text = (
        f"worker {slot.pid} on {host.host} died just after it had run task {task}, and how the "
        f"task ended was lost with it."
    )
    return _loss(LossCause.INTERRUPTED, text, slot, gone, host)


def interrupted(part: Part, slot: Slot, gone: WorkerGone | None, host: Host, why: str) -> Loss:
    """The worker was ended on purpose, though not because of this task."""
    task = task_id(part.run.stream, part.first)
    text = f"worker {slot.pid} on {host.host}, which ran task {task}, was ended: {why}."
    return _loss(LossCause.INTERRUPTED, text, slot, gone, host)


def unstartable(part: Part, gone: WorkerGone, host: Host) -> Loss:
    """No worker lives long enough to run anything."""
    task = task_id(part.run.stream, part.first)
    how = (
        f"were killed by {_signal_name(gone.signal)}"
        if gone.signal
        else f"exited with code {gone.exit_code}"
    )
    last = gone.stderr.strip().splitlines()
    why = f" The last one said: {last[-1]}" if last else ""
    text = (
        f"task {task} was not begun: on {host.host}, workers {how} before they could run "
        f"anything, three in a row.{why} Check the Python environment and the working directory "
        f"of the endpoint there."
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


def no_body(part: Part, digest: bytes, host: Host) -> Loss:
    """What the task needs is nowhere to be had."""
    task = task_id(part.run.stream, part.first)
    what = "its function" if digest == part.run.function else "an argument that it shares"
    text = (
        f"task {task} was not begun on {host.host}: {what} (SHA-256 {digest.hex()[:16]}...) is "
        f"not in the store any more. Register the function and submit the task again."
    )
    return Loss(LossCause.UNDELIVERED, text, host.host)


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
        gone.stderr,
    )


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _advice(gone: WorkerGone) -> str:
    if gone.signal == signal.SIGKILL:
        return (
            " Nobody says who sent it; where memory is short it is the kernel. Give each task "
            "more memory (fewer workers per node), or look for who kills processes there."
        )
    if gone.signal in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGFPE):
        return (
            " That is a fault in compiled code that the task calls; the lines that the worker "
            "wrote last say where."
        )
    return ""

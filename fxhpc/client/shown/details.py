"""What is known of a task beside its state and outcome: where, when, how often, what it used."""

from __future__ import annotations

from typing import Any

import msgspec

from fxhpc.client.declared.labels import noted
from fxhpc.client.shown.output import printed_in
from fxhpc.protocol.outcome import LOST, Output, unpack_loss
from fxhpc.protocol.service import StreamSummary, TaskState

_decode = msgspec.msgpack.Decoder(Output).decode
_NOTHING = Output()

#: What is told although it is empty.
_KEPT = frozenset({"stdout", "stderr", "stdout_bytes", "stderr_bytes", "cpu_s"})

#: What is known of a chunk as a whole, and what it is called with one of its calls.
_OF_CHUNK = {name: f"chunk_{name}" for name in ("started", "ended", "ran_s", "cpu_s")}

#: What is only about right of a task that ran for less than 10 ms: see `details_of`.
ABOUT = "about"


def details_of(state: TaskState, summary: StreamSummary | None) -> dict[str, Any]:
    """What is known of a task beside its state: plain values, and only those that are known.

    Times are seconds since the epoch, by the clock of the host that says so. With a summary:

    * `endpoint` (its name), `endpoint_id`, `function_id`, `task_group_id`, `submitted` (when the
      first of its batch was), `walltime_s` (declared), `host` (where it runs or ran), `labels`,
      `metadata`, `idempotency_key`;
    * `queued`: when it was, to a quarter of a second; not known after a restart of the forwarder;
    * while it runs `manager` (its name) and `started`.

    Of a task that has ended:

    * `ran_s`; `stdout`, `stderr`, `stdout_bytes` and `stderr_bytes` if that was asked for;
    * if it ran for 10 ms or longer: `started`, `ended`, `worker_pid`, `cpu_s` (of the children that
      it waited for too), `peak_memory` (bytes: the largest resident size of its worker while it
      ran, or of one of these children, as far as that is known: of a ShellFunction's command it
      is, of others if no task before it in this worker had a larger one), `python`, `fxhpc` and
      `dill` (their versions where it ran);
    * if it ran for less, and with a summary: `started` and `ended` as those of the tasks that were
      stored with it, and `times` says "about";
    * if it was lost before: `attempt` (which one this was, from 1), and `attempts`, what became of
      the last ones before it, a sentence each;
    * of one that is lost for good: `attempt`, `attempts`, `worker_pid`, `peak_memory`, as far as
      known.
    """
    outcome = state.outcome
    found: dict[str, Any] = {}
    if summary is not None:
        found = {
            "endpoint": summary.endpoint_name,
            "endpoint_id": summary.endpoint,
            "function_id": summary.function_id,
            "task_group_id": summary.group,
            "submitted": summary.created,
            "queued": summary.queued,
            "walltime_s": summary.walltime_s,
            "host": state.host,
            "manager": state.manager,
            "started": state.started,
            **noted(summary),
        }
    if outcome is not None:
        found["ran_s"] = outcome.ran
        told = output_in(outcome.output)
        found.update(printed_in(told))
        found.update(run_in(told, outcome.ran))
        if outcome.kind == LOST:
            loss = unpack_loss(outcome.data)
            found["attempts"] = list(loss.attempts)
            found["attempt"] = len(loss.attempts) + 1
            found["ran_s"] = loss.ran_s
            found["worker_pid"] = loss.pid
            found["peak_memory"] = loss.peak_memory
        elif summary is not None and outcome.ran and state.ended and not told.started:
            found["started"] = state.ended - outcome.ran
            found["ended"] = state.ended
            found["times"] = ABOUT
    return {name: value for name, value in found.items() if value or name in _KEPT}


def of_chunk(details: dict[str, Any]) -> dict[str, Any]:
    """What is told of one of a chunk's calls, by what is known of the chunk."""
    return {_OF_CHUNK.get(name, name): value for name, value in details.items()}


def output_in(packed: bytes) -> Output:
    """What is told of a task, unpacked; an empty one if nothing is, or a newer version says it in
    another way: the result matters more."""
    if not packed:
        return _NOTHING
    try:
        return _decode(packed)
    except msgspec.DecodeError:
        return _NOTHING


def run_in(told: Output, ran: float) -> dict[str, Any]:
    """When and how a task ran, as its worker tells it; and which attempt that was."""
    found: dict[str, Any] = {}
    if told.started:
        found = {
            "started": told.started,
            "ended": told.started + ran,
            "worker_pid": told.pid,
            "cpu_s": told.cpu_s,
            "peak_memory": told.peak_memory,
            **dict(zip(("python", "fxhpc", "dill"), told.versions.split(), strict=False)),
        }
    if told.lost:
        found["attempt"] = told.lost + 1
        found["attempts"] = list(told.attempts)
    return found

"""What is told of a task beside its state: what is known, and nothing that is not."""

from __future__ import annotations

import msgspec
import pytest

from fxhpc.client import outcomes
from fxhpc.client.shown.details import details_of
from fxhpc.protocol import states
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind, Output, pack_loss
from fxhpc.protocol.service import StreamSummary, TaskState
from fxhpc.serialize import pack_result

SUMMARY = StreamSummary(
    b"stream------", "e-1", "midway", "f-1", 100.0, {}, group="g-1", queued=101.0
)
TOLD = Output(
    started=200.0,
    cpu_s=1.5,
    peak_memory=2**30,
    pid=4711,
    versions="3.12.1 0.1.0 0.4.0",
)


def ended(told: Output | None = None, ran: float = 2.0) -> TaskState:
    packed = msgspec.msgpack.encode(told) if told is not None else b""
    outcome = Outcome(0, OutcomeKind.VALUE, pack_result(5, 1000), ran, packed)
    return TaskState(0, states.SUCCESS, "", outcome, 300.0, "node7")


def test_of_a_task_that_ran_for_a_moment() -> None:
    assert details_of(ended(TOLD), SUMMARY) == {
        "endpoint": "midway",
        "endpoint_id": "e-1",
        "function_id": "f-1",
        "task_group_id": "g-1",
        "submitted": 100.0,
        "queued": 101.0,
        "host": "node7",
        "started": 200.0,
        "ended": 202.0,
        "ran_s": 2.0,
        "worker_pid": 4711,
        "cpu_s": 1.5,
        "peak_memory": 2**30,
        "python": "3.12.1",
        "fxhpc": "0.1.0",
        "dill": "0.4.0",
    }
    told = outcomes.task_dict(ended(TOLD), "id")
    assert (told["result"], told["details"]["worker_pid"]) == (5, 4711)


def test_of_a_short_one_the_times_are_about_right() -> None:
    found = details_of(ended(ran=0.5), SUMMARY)
    assert (found["started"], found["ended"], found["times"]) == (299.5, 300.0, "about")
    assert "worker_pid" not in found
    assert details_of(ended(ran=0.5), None) == {"ran_s": 0.5}


def test_no_processor_time_is_told_as_such() -> None:
    told = msgspec.structs.replace(TOLD, cpu_s=0.0, peak_memory=0, versions="3.12.1 0.1.0")
    found = details_of(ended(told), None)
    assert found["cpu_s"] == 0.0
    assert "peak_memory" not in found
    assert "dill" not in found


def test_of_one_that_was_lost_before() -> None:
    found = details_of(ended(Output(lost=2, attempts=["so", "and so"])), None)
    assert (found["attempt"], found["attempts"]) == (3, ["so", "and so"])
    assert "stdout" not in found


def test_of_one_that_is_lost() -> None:
    loss = Loss(LossCause.WORKER_KILLED, "killed", "n", 12, peak_memory=99, ran_s=4.0)
    loss.attempts = ["so", "and so"]
    outcome = Outcome(0, OutcomeKind.LOST, pack_loss(loss))
    found = details_of(TaskState(0, states.FAILED, "", outcome, 300.0, "node7"), SUMMARY)
    assert (found["ran_s"], found["worker_pid"], found["peak_memory"]) == (4.0, 12, 99)
    assert (found["attempt"], found["attempts"]) == (3, ["so", "and so"])
    assert "times" not in found


@pytest.mark.parametrize("packed", [b"of a newer version", msgspec.msgpack.encode([1, 2])])
def test_what_cannot_be_read_is_left_out(packed: bytes) -> None:
    state = ended()
    assert state.outcome is not None
    state.outcome.output = packed
    assert details_of(state, None) == {"ran_s": 2.0}

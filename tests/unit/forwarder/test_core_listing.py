"""Lists of tasks: the newest first, counted by state, the same after a restart."""

from __future__ import annotations

import msgspec
import pytest

from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import OutcomeKind
from tests.unit.forwarder.acting import DIGEST, ENDPOINT, LOCAL_ENDPOINT, OTHER, STREAM, Stage

C = b"c"


def _info(stream: bytes, created: float, keep: bool = True) -> msg.StreamInfo:
    return msg.StreamInfo(stream, ENDPOINT, DIGEST, "function", created=created, keep=keep)


@pytest.fixture
def stage() -> Stage:
    """Two streams: of the first, 0 is a value, 1 an error, 2 lost, 3 cancelled, 4 runs, 5 waits."""
    stage = Stage()
    stage.attach(C)
    stage.up()
    stage.submit(C, 6, _info(STREAM, 100.0))
    stage.submit(C, 2, _info(OTHER, 200.0), call=2)
    kinds = (OutcomeKind.VALUE, OutcomeKind.ERROR, OutcomeKind.LOST, OutcomeKind.CANCELLED)
    for index, kind in enumerate(kinds):
        stage.finish([index], number=index + 1, kind=kind)
    stage.interchange(msg.Started([msg.TaskRefs(STREAM, [4, 1])]))
    return stage


def ask(stage: Stage, **wanted: object) -> service.TaskList:
    stage.clear()
    stage.client(C, service.ListTasks(9, **wanted))  # type: ignore[arg-type]
    (answer,) = stage.said(C, service.TaskList)
    return answer


def test_streams_with_counts_by_state(stage: Stage) -> None:
    answer = ask(stage)
    assert [one.stream for one in answer.streams] == [OTHER, STREAM]
    assert answer.total == 2
    assert answer.streams[1].counts == {
        states.SUCCESS: 1,
        states.FAILED: 2,
        states.CANCELLED: 1,
        states.RUNNING: 1,
        states.WAITING_FOR_NODES: 1,
    }
    assert answer.streams[1].function_id == "function"


def test_after_a_restart_what_failed_is_known(stage: Stage) -> None:
    again = Stage(stage.store)
    again.attach(C)
    counts = ask(again).streams[1].counts
    assert counts == {
        states.SUCCESS: 1,
        states.FAILED: 2,
        states.CANCELLED: 1,
        states.WAITING_FOR_ENDPOINT: 2,
    }
    failed = ask(again, states=[states.FAILED], each=True)
    assert [(task.index, task.status) for task in failed.tasks] == [(2, "failed"), (1, "failed")]


def test_a_part_of_them(stage: Stage) -> None:
    assert [one.stream for one in ask(stage, states=[states.FAILED]).streams] == [STREAM]
    assert [one.stream for one in ask(stage, prefix=OTHER[:3]).streams] == [OTHER]
    assert not ask(stage, endpoint=LOCAL_ENDPOINT).streams
    few = ask(stage, limit=1)
    assert [one.stream for one in few.streams] == [OTHER]
    assert few.total == 2
    assert ask(stage, limit=-5).streams == []


def test_those_of_a_group_or_with_a_label(stage: Stage) -> None:
    noted = {b"1": ("g", ("a", "b")), b"2": ("g", ("b",)), b"3": ("h", ("ab",))}
    for name, (group, labels) in noted.items():
        made = msgspec.structs.replace(
            _info(name * 12, 300.0), group=group, labels=labels, metadata='{"n":1}'
        )
        stage.submit(C, 2, made)

    def found(**wanted: object) -> list[bytes]:
        return sorted(one.stream[:1] for one in ask(stage, **wanted).streams)

    assert found(group="g") == [b"1", b"2"]
    assert found(label="b") == [b"1", b"2"]
    assert found(label="a", group="g") == [b"1"]
    assert found(label="ab") == [b"3"]
    assert found(label="A") == found(group="G") == found(label="a", group="h") == []
    answer = ask(stage, label="a", each=True, limit=1)
    assert (answer.total, len(answer.tasks)) == (1, 1)
    assert (answer.streams[0].labels, answer.streams[0].metadata) == (("a", "b"), '{"n":1}')
    again = Stage(stage.store)
    again.attach(C)
    assert [one.stream[:1] for one in ask(again, label="a").streams] == [b"1"]


def test_single_tasks_the_newest_first(stage: Stage) -> None:
    every = ask(stage, each=True)
    assert [(task.stream, task.index) for task in every.tasks] == [
        *((OTHER, index) for index in (1, 0)),
        *((STREAM, index) for index in (5, 4, 3, 2, 1, 0)),
    ]
    assert [task.status for task in every.tasks[2:]] == [
        states.WAITING_FOR_NODES,
        states.RUNNING,
        states.CANCELLED,
        states.FAILED,
        states.FAILED,
        states.SUCCESS,
    ]
    assert len(ask(stage, each=True, limit=3).tasks) == 3


def test_who_wants_more_asks_for_those_after_the_last(stage: Stage) -> None:
    stage.submit(C, 2, _info(b"third-------", 100.0), call=3)  # at the same time as the first
    made = {one.stream: one.created for one in ask(stage).streams}

    def read(page: int, **wanted: object) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []
        after = None
        while answer := ask(stage, each=True, limit=page, after=after, **wanted).tasks:
            found += [(task.stream, task.index) for task in answer]
            after = (made[answer[-1].stream], answer[-1].stream, answer[-1].index)
        return found

    every = read(1000)
    assert len(every) == len(set(every)) == 10
    assert [read(page) for page in (1, 2, 3, 7)] == [every] * 4
    assert read(1, states=[states.FAILED]) == [(STREAM, 2), (STREAM, 1)]


def test_those_after_one_that_is_gone(stage: Stage) -> None:
    answer = ask(stage, each=True, after=(150.0, b"purged------", 5))
    assert {task.stream for task in answer.tasks} == {STREAM}


def test_details_of_a_task(stage: Stage) -> None:
    stage.clear()
    wanted = [service.StreamRanges(STREAM, [0, 1])]
    stage.client(C, service.Fetch(7, wanted))
    stage.client(C, service.Fetch(8, wanted, details=True))
    plain, detailed = stage.said(C, service.States)
    assert plain.streams[0].summary is None
    assert detailed.streams[0].summary is not None
    assert detailed.streams[0].summary.endpoint == ENDPOINT


def test_outcomes_of_an_unknown_kind_harm_nobody(stage: Stage) -> None:
    stage.finish([5], number=99, kind=77)  # type: ignore[arg-type]
    assert ask(stage).streams[1].counts[states.FAILED] == 3

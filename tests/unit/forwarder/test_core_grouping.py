"""What a group has, asked again and again: its streams, and which of their tasks have ended."""

from __future__ import annotations

import msgspec
import pytest

from fxhpc import ids
from fxhpc.forwarder import grouping
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import OutcomeKind
from tests.unit.forwarder.acting import DIGEST, ENDPOINT, OTHER, STREAM, Stage

C = b"c"
GROUP = "11111111-0000-4000-8000-000000000001"


def _info(stream: bytes, group: str = GROUP) -> msg.StreamInfo:
    return msg.StreamInfo(stream, ENDPOINT, DIGEST, "function", created=1.0, group=group)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.attach(C)
    stage.up()
    return stage


def ask(stage: Stage, group: str = GROUP, after: bytes = b"") -> service.GroupState:
    stage.clear()
    stage.client(C, service.GroupTasks(9, group, after))
    (answer,) = stage.said(C, service.GroupState)
    return answer


def test_a_groups_streams_and_what_has_ended(stage: Stage) -> None:
    stage.submit(C, 6, _info(STREAM))
    stage.submit(C, 2, _info(OTHER), call=2)
    stage.submit(C, 2, _info(b"in no group-", ""), call=3)
    stage.finish([0, 1, 5])
    stage.finish([3], number=2, kind=OutcomeKind.ERROR)
    other, first = ask(stage).tasks
    assert (other.summary.stream, other.count, other.ranges) == (OTHER, 2, [])
    assert (first.summary.stream, first.count, first.ranges) == (STREAM, 6, [0, 2, 3, 1, 5, 1])
    assert first.summary.counts == {
        states.SUCCESS: 3,
        states.FAILED: 1,
        states.WAITING_FOR_NODES: 2,
    }


def test_of_chunks_their_calls_are_counted(stage: Stage) -> None:
    stream = ids.new_stream(4)
    made = msgspec.structs.replace(_info(stream), calls=4, sizes=(4, 2, 1, 1, 4, 2, 3, 1))
    stage.submit(C, 6, made)
    stage.finish([0, 2], stream=stream)
    stage.finish([3], number=2, kind=OutcomeKind.ERROR, stream=stream)
    (part,) = ask(stage).tasks
    counts = {states.SUCCESS: 5, states.FAILED: 4, states.WAITING_FOR_NODES: 11}
    assert (part.count, part.summary.counts) == (6, counts)


def test_of_chunks_whose_sizes_nobody_knows_the_most_that_they_may_have(stage: Stage) -> None:
    stage.submit(C, 3, _info(ids.new_stream(10)))
    assert ask(stage).tasks[0].summary.counts == {states.WAITING_FOR_NODES: 30}


def test_after_a_restart_it_is_the_same(stage: Stage) -> None:
    stage.submit(C, 3, _info(STREAM))
    stage.finish([1])
    again = Stage(stage.store)
    again.attach(C)
    (part,) = ask(again).tasks
    assert (part.count, part.ranges) == (3, [1, 1])


def test_an_answer_is_cut_and_goes_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "STREAMS", 2)
    names = [b"stream-----%d" % number for number in (3, 1, 2)]
    for call, name in enumerate(names):
        stage.submit(C, 1, _info(name), call=call)
    first = ask(stage)
    assert [part.summary.stream for part in first.tasks] == [names[1], names[2]]
    assert first.more
    rest = ask(stage, after=names[2])
    assert [part.summary.stream for part in rest.tasks] == [names[0]]
    assert not rest.more


def test_a_group_that_nobody_knows_is_refused(stage: Stage) -> None:
    stage.client(C, service.GroupTasks(9, "nobody"))
    (refusal,) = stage.said(C, service.Failed)
    assert (refusal.error, refusal.arguments) == ("TaskGroupNotFound", ["nobody"])


def test_what_is_pending_is_not_told_to_who_does_not_want_it(stage: Stage) -> None:
    stage.submit(C, 6, _info(STREAM))
    stage.finish([4])
    stage.clear()
    wanted = [service.StreamRanges(STREAM, [0, 6])]
    stage.client(C, service.Fetch(7, wanted, 5.0, need=1, ended=True))
    (answer,) = stage.said(C, service.States)
    ((state,),) = [part.states for part in answer.streams]
    assert (state.index, state.status) == (4, states.SUCCESS)


def test_unknown_tasks_are_told_of_all_the_same(stage: Stage) -> None:
    stage.submit(C, 1, _info(STREAM))
    stage.clear()
    wanted = [service.StreamRanges(STREAM, [0, 2])]
    stage.client(C, service.Fetch(7, wanted, ended=True))
    (answer,) = stage.said(C, service.States)
    ((state,),) = [part.states for part in answer.streams]
    assert (state.index, state.status) == (1, states.UNKNOWN)


def test_those_that_end_late_are_told_behind_many_that_wait(stage: Stage) -> None:
    """An answer has room for few: it has none for tasks that have not ended."""
    stage.submit(C, 6_000, _info(STREAM))
    stage.finish([5_999])
    stage.clear()
    wanted = [service.StreamRanges(STREAM, [0, 6_000])]
    stage.client(C, service.Fetch(7, wanted, 5.0, need=1, ended=True))
    (answer,) = stage.said(C, service.States)
    assert [state.index for part in answer.streams for state in part.states] == [5_999]
    assert not answer.more

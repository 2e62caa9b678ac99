"""What was cancelled while its interchange was away, and runs on at a manager that comes back."""

from __future__ import annotations

import pytest

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from tests.unit.interchange.acting import STREAM, Stage

A = b"a"
HELD = msg.TaskRefs(STREAM, [0, 2], 1, 1)


@pytest.mark.parametrize("journal", [True, False])
def test_it_is_told_to_the_forwarder_and_ended(journal: bool) -> None:
    stage = Stage(epoch=2, greet=False)
    stage.tell(ev.Recovered(["m"], [ev.Sent("m", [HELD])] if journal else []))
    stage.forwarder(msg.Hello(1, "1"))
    stage.take()
    stage.register(A, name="m", running=[HELD])
    started = [refs for message in stage.up(msg.Started) for refs in message.tasks]
    assert [(refs.stream, refs.ranges) for refs in started] == [
        (STREAM, [0, 1]),
        (STREAM, [1, 1]),
    ]
    # The forwarder, which knows it as cancelled, has the rest of it ended.
    stage.forwarder(msg.Cancel([msg.TaskRefs(STREAM, [0, 1])], interrupt=True, forget=True))
    assert stage.to(A, msg.Cancel) == [msg.Cancel([msg.TaskRefs(STREAM, [0, 1])], True, True)]
    assert not stage.outcomes()
    stage.take()
    stage.forwarder(msg.Hello(1, "1"))
    (again,) = stage.up(msg.Started)
    assert [refs.ranges for refs in again.tasks] == [[1, 1]]

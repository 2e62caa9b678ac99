"""Row I5: messages that come again, or from long ago, to an interchange."""

from __future__ import annotations

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from tests.unit.interchange.acting import STREAM, Stage

MANAGER = b"manager"


def held(*indices: int, attempt: int = 1) -> list[msg.TaskRefs]:
    return [msg.TaskRefs(STREAM, [index, 1], 1, attempt) for index in indices]


def test_i05_the_same_greeting_twice_changes_nothing() -> None:
    """I5: a manager that registers again with what it runs, over and over, keeps all of it."""
    stage = Stage()
    stage.register(MANAGER)
    stage.submit(4)
    for _ in range(5):
        stage.take()
        stage.register(MANAGER, running=held(0, 1), queued=held(2, 3))
        assert not stage.sent(MANAGER)
        assert not stage.to(MANAGER, msg.Welcome)[0].drop
    status = stage.core.status()
    assert (status.managers, status.running, status.queued) == (1, 2, 2)


def test_i05_the_same_results_twice_are_acknowledged_and_count_once() -> None:
    """I5: results that a manager tells again: both messages are answered, the task ends once."""
    stage = Stage()
    stage.register(MANAGER)
    stage.submit(2)
    for _ in range(3):
        stage.finish(MANAGER, [0], number=1)
    told = [results.number for results in stage.up(msg.Results)]
    stage.forwarder(msg.ResultsStored(told))
    stage.forwarder(msg.ResultsStored(told))
    acknowledged = stage.to(MANAGER, msg.ResultsStored)
    assert {number for message in acknowledged for number in message.numbers} == {1}
    assert stage.core.status().running == 1
    stage.finish(MANAGER, [1], number=2)
    assert stage.core.status().running == 0
    assert (STREAM, 0) not in stage.sent(MANAGER)[2:]


def test_i05_acknowledgements_of_another_life_mean_nothing() -> None:
    """I5: numbers that were never used, or are another epoch's, free no result that is kept."""
    stage = Stage(epoch=2)
    stage.register(MANAGER)
    stage.submit(1)
    stage.take()
    stage.finish(MANAGER, [0], epoch=2)
    (results,) = stage.up(msg.Results)
    stage.forwarder(msg.ResultsStored([1, 2, 3, results.number + 1, results.number - (1 << 32)]))
    assert not stage.to(MANAGER, msg.ResultsStored)
    stage.take()
    stage.forwarder(msg.Hello(2, "1"))
    assert [again.number for again in stage.up(msg.Results)] == [results.number]


def test_i05_tasks_that_are_sent_again_are_not_run_again() -> None:
    """I5: a forwarder that greets twice, and sends what is held here already: it was told what is
    held, and what has ended is told again.
    """
    stage = Stage()
    stage.register(MANAGER)
    stage.submit(2)
    stage.take()
    for _ in range(3):
        stage.forwarder(msg.Hello(1, "1"))
    held_now = {
        index
        for present in stage.up(msg.Present)
        for ref in present.held
        for index in range(ref.ranges[0], sum(ref.ranges))
    }
    assert held_now == {0, 1}
    assert not stage.sent(MANAGER)


def test_i05_spooled_twice_is_told_once() -> None:
    """I5: the spool's answer comes again: managers hear of it once, the forwarder has it once."""
    stage = Stage()
    stage.register(MANAGER)
    stage.submit(1)
    stage.tell(ev.ForwarderGone())
    stage.finish(MANAGER, [0])
    (spool,) = [action for action in stage.actions if isinstance(action, ev.Spool)]
    numbers = [results.number for results in spool.batch]
    stage.tell(ev.Spooled(numbers))
    stage.tell(ev.Spooled(numbers))
    assert len(stage.to(MANAGER, msg.ResultsStored)) == 1
    stage.forwarder(msg.Hello(1, "1"))
    (read,) = [action for action in stage.actions if isinstance(action, ev.ReadSpool)]
    assert read.numbers == numbers

"""I6: each single message of a task's way, lost, repeated, overtaken or garbled. No sockets.

All orders of all faults are the state machine's (`tests/model`); here none is left to chance.
"""

from __future__ import annotations

import pytest

from fxhpc.testing.link import Wire
from tests.faults.figures import record_figure
from tests.faults.story import Story


class FaultyMessage(Story):
    """One message, counted over all links, meets a fault."""

    def __init__(self, fault: str, at: int) -> None:
        super().__init__(at, tasks=4, retries=0)
        self._fault = fault
        self.submit()
        self.cluster.new_node(None, slots=2)
        self.fetch()
        self.finish()

    def settle(self) -> None:
        """Everything arrives, one by one."""
        moved = True
        while moved:
            moved = False
            self.cluster.turn()
            while self.cluster.work_store():
                moved = True
            for link in self.cluster.links():
                for wire, deliver in (
                    (link.up, self.cluster.deliver_up),
                    (link.down, self.cluster.deliver_down),
                ):
                    while wire.frames and self.arrives(wire):
                        moved = deliver(link) or moved

    def arrives(self, wire: Wire) -> bool:
        """Count the message that is next, and do to it what was chosen; whether one is left."""
        self.count += 1
        if self.count == self.at:
            getattr(wire, self._fault)(0)
        return bool(wire.frames)


@pytest.mark.parametrize("fault", ["drop", "repeat", "swap", "garble"])
def test_i06_each_message_meets_a_fault(fault: str) -> None:
    """Whichever message it is, of whichever link: every task ends with its value, and none, though
    none may be tried again, runs twice.
    """
    messages = FaultyMessage(fault, 0).count
    assert messages > 20
    for at in range(1, messages + 1):
        story = FaultyMessage(fault, at)
        story.check(told := f"{fault} of message {at} of {messages}")
        assert not story.cluster.tally.excuses, told
    record_figure("I6", f"messages that met '{fault}', one at a time", messages)

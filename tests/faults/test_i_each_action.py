"""Row I1 without sockets: the interchange is killed after each single thing that it does."""

from __future__ import annotations

from typing import Any

import pytest

from fxhpc.interchange import events as ev
from tests.faults.figures import record_figure
from tests.faults.story import Story


class Killed(Exception):
    """The process ends here: nothing that would have followed is done."""


class KilledInterchange(Story):
    """The forwarder is away for a while, too; the interchange is killed after one of its actions.

    Args:
        retries: of each task.
        at: after which of its actions.
    """

    def __init__(self, retries: int, at: int) -> None:
        super().__init__(at, tasks=6, retries=retries)
        self._depth = 0
        named = self.cluster.named
        self._tell, self._carry_out = named.tell, named._carry_out
        named.tell = self.tell  # type: ignore[method-assign]
        named._carry_out = self.carry_out  # type: ignore[method-assign]
        self.submit()
        for _ in range(2):
            self.cluster.new_node(None, slots=1)
        self.fetch()
        self.settle()
        self.work()
        # What ends now goes to the spool, and is read back.
        self.tell(ev.ForwarderGone())
        self.work()
        self.cluster.restart_forwarder()
        self.settle()
        self.finish()

    def tell(self, event: ev.Event) -> None:
        """Let the interchange know; a new one is started in its place if that has killed it."""
        self._depth += 1
        try:
            self._tell(event)
        except Killed:
            if self._depth > 1:
                raise
            self._depth = 0
            self.cluster.restart_named()
            self._depth = 1
        finally:
            self._depth -= 1

    def carry_out(self, action: Any) -> None:
        """Do one thing more; it may be the last one."""
        self._carry_out(action)
        self.count += 1
        if self.count == self.at:
            raise Killed


@pytest.mark.parametrize("retries", [0, 2])
def test_i01_killed_after_each_of_its_actions(retries: int) -> None:
    """I1: between a result's way to the spool and its acknowledgement, between the journal and
    what it announces, anywhere: every task ends with its value, and none runs twice.
    """
    actions = KilledInterchange(retries, 0).count
    assert actions > 30
    for at in range(1, actions + 1):
        KilledInterchange(retries, at).check(f"killed after action {at} of {actions}")
    record_figure("I1", f"actions that it was killed after, retries={retries}", actions)

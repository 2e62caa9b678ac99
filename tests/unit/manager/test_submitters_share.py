"""Nobody waits behind other work, on the whole way: forwarder, interchange, managers."""

from __future__ import annotations

import pytest
from endpoint_simulation import LINK_S, Endpoint

from fxhpc.forwarder import events as fev
from fxhpc.interchange import events as iev
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from tests.unit.forwarder import acting

C = b"c"
S, T = b"s" * 12, b"t" * 12
MANY, LONE = acting.info(S, submitter=b"many"), acting.info(T, submitter=b"lone")
OWN = acting.info(T, submitter=b"many")  # a call beside a batch of the same client

#: Two workers: of one manager, of two.
LAYOUTS = [(2,), (1, 1)]


class WholeWay(Endpoint):
    """An endpoint whose interchange has a forwarder."""

    def __init__(self, *slots: int) -> None:
        self._stage: acting.Stage | None = None
        super().__init__(*slots)
        self._stage = acting.Stage(durable=False)
        self._stage.attach(C)
        self._forwarder_hears(fev.InterchangeUp(acting.KEY))
        self.run_for(0.1)

    def give(self, info: msg.StreamInfo, seconds: list[float], first: int = 0) -> None:
        """A client submits tasks that take so long."""
        for start in range(0, len(seconds), 1000):
            payloads = [repr(one).encode() for one in seconds[start : start + 1000]]
            submission = service.Submission(info, first + start, payloads)
            self._forwarder_hears(fev.ClientSaid(C, service.Submit(1, [submission])))

    def _forwarder_hears(self, event: fev.Event) -> None:
        stage = self._stage
        assert stage is not None
        stage.clock.now = self.now
        stage.clear()
        stage.tell(event)
        for action in stage.actions:
            if isinstance(action, fev.ToInterchange):
                message = action.message
                self.later(self.now + LINK_S, lambda message=message: self.forwarder(message))

    def _do(self, actions: list[iev.Action]) -> None:
        if self._stage is None:
            super()._do(actions)
            return
        super()._do([action for action in actions if isinstance(action, iev.ToManager)])
        for action in actions:
            if isinstance(action, iev.ToForwarder):
                if isinstance(action.message, msg.Results):
                    for run in action.message.runs:
                        for outcome in run.outcomes:
                            self.told[run.stream, outcome.index] = self.now
                said = fev.InterchangeSaid(acting.KEY, action.message)
                self.later(self.now + LINK_S, lambda said=said: self._forwarder_hears(said))


@pytest.mark.parametrize("slots", LAYOUTS, ids=str)
@pytest.mark.parametrize("lone", [LONE, OWN], ids=["another's", "its own"])
def test_a_lone_task_behind_many_that_have_become_long(
    lone: msg.StreamInfo, slots: tuple[int, ...]
) -> None:
    """All that the interchange asked for, when tasks took 1 ms, takes 10 s each."""
    way = WholeWay(*slots)
    way.give(MANY, [0.001] * 2000 + [10.0] * 3000)
    way.run_all(2000, 2.0)
    way.run_for(5.0)
    way.give(lone, [0.001])
    asked = way.now
    way.run_for(30.0, lambda: (T, 0) in way.told)
    assert way.told[T, 0] - asked < 5.1  # the next one that ends makes room

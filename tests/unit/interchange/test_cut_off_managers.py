"""Managers that are silent for a while and come back: what ran there is not to blame."""

from __future__ import annotations

import pytest

from fxhpc.protocol import messages as msg
from tests.unit.interchange.acting import STREAM, Stage


@pytest.mark.parametrize("comes_back", [True, False])
def test_m05_only_managers_that_do_not_come_back_count(comes_back: bool) -> None:
    """A task is at a manager each time when that is cut off. Each comes back: it is tried again
    as often as it takes. None comes back: it is given up after its limit."""
    stage = Stage()
    stage.submit(1)
    for number in range(8):
        peer = f"{number}".encode()
        stage.register(peer, tasks=1, slots=1)
        if (STREAM, 0) not in stage.sent(peer):
            break
        stage.take()
        stage.manager(peer, msg.Started([msg.TaskRefs(STREAM, [0, 1], 1, number + 1)]))
        stage.tick(15.1)
        if comes_back:
            stage.register(peer + b" again", name=peer.decode(), tasks=0, slots=1)
    assert bool(stage.losses()) is not comes_back
    assert (number == 7) is comes_back

"""Tasks that take their whole node down, where nodes come in blocks: they end, scaling goes on."""

from __future__ import annotations

import pytest

from fxhpc.protocol.outcome import LossCause
from fxhpc.protocol.provision import ScalingPolicy
from tests.unit.interchange.batch_system import STEP_S, Site


def play(poison: set[int], count: int, seconds: float, **policy: object) -> Site:
    """Submit tasks of which some end their manager half a second after they began."""
    made: dict[str, object] = {"max_blocks": 2, "poll_s": 5.0, **policy}
    there = Site(ScalingPolicy(**made))  # type: ignore[arg-type]
    there.start_provisioner()
    there.submit(count)
    for _ in range(int(seconds / STEP_S)):
        there.step()
        for manager in there.living():
            if poison & {index for _, index in manager.running}:
                there.vanish(manager)
        if len(there.outcomes) == count:
            break
    return there


@pytest.mark.parametrize("poison", [{10}, {10, 11}, {5, 20, 35}])
def test_node_killers_end_and_the_others_succeed(poison: set[int]) -> None:
    there = play(poison, 60, 3600)
    assert there.losses().keys() == poison
    assert len(there.outcomes) == 60
    assert "paused" not in there.reason
    assert not any("scaling is paused" in note for note in there.notes)
    assert len(there.slurm.submissions) <= 2 + 5 * len(poison)
    for loss in there.losses().values():
        assert loss.cause == LossCause.MANAGER_LOST
        assert "in block" in loss.text
        assert "job " in loss.text


def test_a_node_killer_all_by_itself_ends_too() -> None:
    there = play({0}, 1, 3600, max_blocks=1)
    assert there.losses().keys() == {0}
    assert len(there.slurm.submissions) <= 5


def test_nothing_but_node_killers_do_not_use_blocks_without_limit() -> None:
    there = play(set(range(1000)), 1000, 3600)
    assert len(there.slurm.submissions) < 60

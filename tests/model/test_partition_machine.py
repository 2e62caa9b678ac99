"""The state machine once more, with tasks over two nodes among the others."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

from fxhpc.protocol.needs import Needs, pack
from tests.model.machine import FxhpcMachine

TWO_NODES = pack(Needs(nodes=2))

_nightly = os.environ.get("FXHPC_MODEL") == "nightly"
_examples = int(os.environ.get("FXHPC_MODEL_EXAMPLES", "20000" if _nightly else "100"))


class PartitionMachine(FxhpcMachine):
    """Half of what is submitted to the named endpoint needs two nodes."""

    def needs_of(self, number: int, named: bool) -> bytes:
        return TWO_NODES if named and number % 2 else b""

    def promises_hold(self) -> None:
        super().promises_hold()
        self.nothing_else_runs_on_lent_nodes()

    def nothing_else_runs_on_lent_nodes(self) -> None:
        for node in self.cluster.live_nodes():
            lent, told = node.core._desk.lent, node.core._lending._told
            for task in node.running() if lent is not None and told else ():
                assert task == (lent.stream, lent.index), f"{task} runs on a node that is lent"
                assert node.name == lent.members[0].manager, "it is not the first of its partition"

    def finish(self) -> None:
        self.cluster.new_node(None)  # and another one, that is started when all is healed
        super().finish()


TestPartitions = PartitionMachine.TestCase
TestPartitions.settings = settings(
    max_examples=_examples,
    stateful_step_count=100 if _nightly else 50,
    derandomize=not _nightly,
    print_blob=True,
    deadline=None,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

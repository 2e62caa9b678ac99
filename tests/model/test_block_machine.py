"""Blocks under every fault of batch system, provisioner and nodes that hypothesis can think of."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

from tests.model.blocks import BlocksMachine

_nightly = os.environ.get("FXHPC_MODEL") == "nightly"

TestBlocks = BlocksMachine.TestCase
TestBlocks.settings = settings(
    max_examples=5000 if _nightly else 100,
    stateful_step_count=60 if _nightly else 40,
    derandomize=not _nightly,
    print_blob=True,
    deadline=None,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

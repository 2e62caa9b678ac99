"""What `fxhpc task explain` advises, by status and reason."""

from __future__ import annotations

import time
from typing import cast

import pytest

from fxhpc.cli import explaining, task_advice
from fxhpc.ids import LOCAL_ENDPOINT

TOLD = {"task_id": "ID", "endpoint": "midway"}


@pytest.mark.parametrize(
    ("status", "reason", "advice"),
    [
        (
            "waiting-for-nodes",
            "the batch system cannot be reached, it is asked again: sbatch: error: Batch job "
            "submission failed: Unable to contact slurm controller (connect failure)",
            "nothing: the batch system is asked again",
        ),
        ("waiting-for-nodes", "sbatch: error: invalid partition", "mend what it says"),
        ("waiting-for-nodes", "Slurm job 7 PENDING (Priority)", "wait for the nodes"),
        ("waiting-for-nodes", "the endpoint is being stopped", "start it again when it has ended"),
        ("waiting-for-ep", "endpoint midway is being stopped on n", "start it again when"),
        (
            "waiting-for-ep",
            "endpoint midway was deleted; cancel its tasks with: fxhpc task cancel --endpoint X",
            "cancel it, and submit it to another endpoint: fxhpc task cancel ID",
        ),
        ("waiting-for-ep", "this home has no endpoint X any more", "cancel it, and submit it"),
        (
            "waiting-for-ep",
            "endpoint midway is stopped; start it with: fxhpc endpoint start midway",
            "as said above",
        ),
        ("running", "", "nothing: it runs as long as it takes"),
        (
            "waiting-for-launch",
            "needs the label 'fat' on one node, and no node that is here has that label; it waits "
            "for a block that has",
            "ask for less: fxhpc task cancel ID",
        ),
        (
            "waiting-for-nodes",
            "needs 9 cores on one node, and the largest node that blocks have brought had 4 cores "
            "and 0 accelerators: no more blocks are asked for that",
            "ask for less: fxhpc task cancel ID",
        ),
        (
            "waiting-for-nodes",
            "Slurm job 7 PENDING (Priority); it was lost once: node n1: error: it failed",
            "wait for the nodes",
        ),
        (
            "waiting-for-launch",
            "the one worker is busy; it was lost twice: 1. A; 2. B; next it runs alone, because",
            "nothing: alone it shows whether it takes its manager down",
        ),
    ],
)
def test_advice_fits_the_reason(status: str, reason: str, advice: str) -> None:
    assert task_advice._pending_advice(status, reason, dict(TOLD)).startswith(advice)


def test_a_task_on_local_is_not_told_of_this_process_own_local() -> None:
    told = {
        "task_id": "ID",
        "endpoint": "local",
        "endpoint_id": LOCAL_ENDPOINT,
        "status": "running",
        "host": "node1",
        "started": time.time() - 60,
    }
    client = cast(task_advice.QuietClient, None)  # it asks nobody
    sentences, _ = task_advice.explain(client, told)
    assert sentences[1:] == ["It is running on node1, for 1 min 0 s so far."]


def test_short_names() -> None:
    stream = bytes.fromhex("5f1c9b1e") + bytes(8)
    assert explaining.short_id(stream, 17) == "5f1c9b1e:17"
    assert explaining.short_id(stream, 0, 100) == "5f1c9b1e:0-99"


@pytest.mark.parametrize(
    ("status", "reason"), [("running", ""), ("waiting-for-ep", "endpoint midway was deleted")]
)
def test_a_call_of_a_chunk_is_cancelled_with_its_chunk(status: str, reason: str) -> None:
    advice = task_advice._pending_advice(status, reason, {**TOLD, "chunk": "5f1c9b1e:17"})
    assert "fxhpc task cancel 5f1c9b1e:17" in advice
    assert advice.endswith(" (all calls of its chunk end with it)")

"""Large arguments that tasks share, with real workers: stored once, mapped, each task's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxhpc import Executor, FuncXClient
from fxhpc.ids import new_stream
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import OutcomeKind, unpack_loss
from fxhpc.serialize import ArgumentPacker, pack_function
from fxhpc.serialize.sharing import SharedPayload
from tests.process.homes import TestHome
from tests.process.workers.interchange import Interchange
from tests.process.workers.manager import error, interchange, values

__all__ = ["interchange"]

SIZE = 2**20
TASKS = 60


def take(data: Any, number: int) -> int:
    """What stood there; and something else is left there."""
    found = int(data[0])
    data[0] = -1
    return found + number


def test_through_a_home(client: FuncXClient, home: TestHome) -> None:
    data = np.full(SIZE // 4, 7, "i4")
    function = client.register_function(take)
    batch = client.create_batch()
    for number in range(TASKS):
        batch.add(data, number, endpoint_id="local", function_id=function)
    ids = client.batch_run(batch)
    ids += [
        client.run(data, number, endpoint_id="local", function_id=function)
        for number in range(TASKS, TASKS + 3)
    ]
    data[0] = 1000  # the tasks above are not concerned
    ids.append(client.run(data, 0, endpoint_id="local", function_id=function))
    found = client.get_batch_result(ids, timeout=60)
    assert [found[task]["result"] for task in ids] == [7 + n for n in range(TASKS + 3)] + [1000]
    stored = sum(file.stat().st_size for file in Path(home.path).rglob("*") if file.is_file())
    assert stored < 40 * SIZE  # the reserve and the log are in it; 60 arguments are 60 MB


def test_embedded() -> None:
    data = np.full(SIZE // 4, 7, "i4")
    with Executor(1) as executor:
        futures = [executor.submit(take, data, number) for number in range(TASKS)]
        data[0] = 8
        futures.append(executor.submit(take, data, TASKS))
        found = [future.result(timeout=60) for future in futures]
    assert found == [7 + number for number in range(TASKS)] + [8 + TASKS]


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_a_body_that_was_changed_or_is_gone_ends_its_tasks_in_words(
    interchange: Interchange, what: str
) -> None:
    packer, data, function = ArgumentPacker(), np.full(SIZE // 4, 7, "i4"), pack_function(take)
    packer.pack((data, 0), {}, 2 * SIZE)
    payload = packer.pack((data, 1), {}, 2 * SIZE)
    assert isinstance(payload, SharedPayload)
    (body,) = payload.bodies
    interchange._bodies[function.digest] = function.body
    if what == "changed":
        interchange._bodies[body.digest] = bytes(body.data[:-1]) + b"\1"
    run = msg.TaskRun(
        new_stream(), 0, function.digest, [bytes(payload)] * 3, 1, 1, shared=[body.digest]
    )
    interchange.say(msg.Tasks([run]))
    if what == "changed":
        texts = [error(outcome) for outcome in interchange.wait(run.stream, 3)]
        assert all("was changed on the way" in text for text in texts)
    else:
        outcomes = interchange.wait(run.stream, 3)
        assert {outcome.kind for outcome in outcomes} == {OutcomeKind.LOST}
        assert "a large argument that it shares" in unpack_loss(outcomes[0].data).text
    interchange._bodies[body.digest] = bytes(body.data)
    assert hashlib.sha256(body.data).digest() == body.digest
    again = msg.TaskRun(
        new_stream(), 0, function.digest, [bytes(payload)], 1, 1, shared=[body.digest]
    )
    interchange.say(msg.Tasks([again]))
    (outcome,) = interchange.wait(again.stream, 1)
    if what == "gone":
        assert values([outcome]) == [8]
    else:
        assert outcome.kind == OutcomeKind.ERROR  # the node has the wrong bytes by that name

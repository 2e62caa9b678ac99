"""Groups whose process was killed: another one attaches to their tasks, and has their results."""

from __future__ import annotations

import asyncio

from fxhpc import Executor, FuncXClient
from tests.process.homes import TestHome
from tests.waiting import LIMIT

GROUP = "11111111-2222-4333-8444-555555555555"

SUBMIT = f"""
import os, signal
from fxhpc import Executor, FuncXClient

def half(x):
    return x // 2 if x % 2 == 0 else 1 // 0

fxc = FuncXClient(task_group_id={GROUP!r})
function = fxc.register_function(half)
fxc.map_run(range(40), endpoint_id="local", function_id=function)
fxc.map_run(range(0, 20, 2), endpoint_id="local", function_id=function, chunksize=4)
executor = Executor(endpoint_id="local", task_group_id={GROUP!r})
future = executor.submit(half, 100)
assert future.result(60) == 50
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_another_process_has_the_results_of_one_that_was_killed(
    home: TestHome, client: FuncXClient
) -> None:
    assert home.start("submit.py", SUBMIT).wait(LIMIT) == -9
    group = client.group(GROUP)
    assert len(group) == 51
    told = dict(group.results(LIMIT))
    assert told.keys() == set(group.task_ids)
    values = [task["result"] for task in told.values() if "result" in task]
    assert sorted(values) == sorted([*range(20), *range(10), 50])
    assert group.counts() == {"success": 31, "failed": 20}

    with Executor(client=client, endpoint_id="local", task_group_id=GROUP) as executor:
        futures = executor.reload_tasks()
        assert len(futures) == 51
        assert sum(future.exception(LIMIT) is not None for future in futures) == 20


def double(x: int) -> int:
    return 2 * x


def test_a_loop_awaits_ten_thousand() -> None:
    async def main() -> list[int]:
        with Executor(2) as executor:
            return await asyncio.gather(*(executor.submit(double, x) for x in range(10_000)))  # type: ignore[arg-type]

    assert asyncio.run(asyncio.wait_for(main(), LIMIT)) == [2 * x for x in range(10_000)]


def test_a_client_gives_out_what_can_be_awaited(client: FuncXClient) -> None:
    async def main() -> None:
        client.asynchronous = True
        where = {"endpoint_id": "local", "function_id": client.register_function(double)}
        batch = client.create_batch()
        for number in range(100):
            batch.add(number, **where)
        found = await asyncio.gather(*client.batch_run(batch), client.run(100, **where))  # type: ignore[call-overload]
        assert found == [2 * number for number in range(101)]

    asyncio.run(asyncio.wait_for(main(), LIMIT))

"""Tasks of all sizes over two managers: each goes where it fits, and the endpoint says why not."""

from __future__ import annotations

from homes import TestHome, finish

MIX = """
import os, time
from fxhpc import Executor
from fxhpc.errors import ResourcesTooLarge

CONFIG = {
    "engine": {
        "max_workers_per_node": 2,
        "labels": ["thin"],
        "provider": {"type": "LocalProvider", "init_blocks": 2, "min_blocks": 2, "max_blocks": 2},
    }
}

def found(seconds):
    import os, time
    began = time.monotonic()
    time.sleep(seconds)
    return os.environ["FXHPC_BLOCK"], began, time.monotonic(), os.environ.get("FXHPC_CELLS")

def ask(executor, count, seconds, **specification):
    executor.resource_specification = specification
    return [executor.submit(found, seconds) for _ in range(count)]

with Executor(config=CONFIG) as executor:
    ends = time.monotonic() + 30
    while len({executor.submit(found, 0.05).result(60)[0] for _ in range(8)}) < 2:
        assert time.monotonic() < ends, "one of the two managers gets nothing"
    small, large = ask(executor, 40, 0.05), ask(executor, 8, 0.1, cores=2)
    here = ask(executor, 2, 0.05, labels=["thin", "block:" + small[0].result(60)[0]])
    small, large, here = ([one.result(60) for one in some] for some in (small, large, here))
    assert {one[0] for one in here} == {small[0][0]}
    assert {one[3] for one in large} == {"0,1"}
    for one in large:  # nobody beside it on its node
        for other in [*small, *large]:
            apart = one[0] != other[0] or one[2] <= other[1] or other[2] <= one[1]
            assert apart or one is other, (one, other)
    # Small ones run between the large ones, and the large ones do not wait for the last of them.
    begun = sorted(one[1] for one in small)
    assert min(one[1] for one in large) < begun[-1]
    for specification in ({"gpus": 1}, {"cores": 3}):
        (never,) = ask(executor, 1, 0.0, **specification)
        assert isinstance(never.exception(60), ResourcesTooLarge), never.exception()
    (waits,) = ask(executor, 1, 0.0, cores=2, labels=["host:elsewhere"])
    reason, ends = "", time.monotonic() + 30
    while "elsewhere" not in reason:
        assert time.monotonic() < ends, reason
        reason = waits.pending_reason()
        time.sleep(0.1)
    assert "2 cores and the label 'host:elsewhere'" in reason, reason
    assert "no node that is here has that label" in reason, reason
    assert waits.cancel()
"""


def test_two_managers_share_tasks_of_all_sizes(home: TestHome) -> None:
    finish(home.start("mix.py", MIX))

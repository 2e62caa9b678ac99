"""What ten thousand tasks may cost: bounds that a change for the worse runs into, without a clock.

Each bound is about 1.3 times what was counted when it was set. Whoever makes something cheaper
lowers its bound; whoever must raise one says in the change what the cost buys.
"""

from __future__ import annotations

import operator
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from fxhpc import Executor
from fxhpc.forwarder.embedded import EmbeddedPeer, _Threads
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.store.store import Store
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.testing.cluster import NAMED_ENDPOINT
from fxhpc.transport.acceptor import Acceptor
from tests.cost.counting import Counts, Run, bytecodes_counted, counted

TASKS = 10_000
#: Bytecodes are counted of fewer tasks: counting makes them fifty times slower.
TRACED_TASKS = 2_000

# Messages and bytes by link, bytecodes by package, and what the store writes. Messages, commits and
# rows are of all the tasks, bytes and bytecodes of each. Python 3.11 needs most bytecodes.
BATCH_OF_A_HOME: dict[str, dict[str, float]] = {
    "messages": {
        "client-forwarder": 12,
        "forwarder-local interchange": 5,
        "interchange-manager": 20,
        "manager-worker": 104,
    },
    "bytes": {"client-forwarder": 124, "interchange-manager": 81, "manager-worker": 82},
    "bytecodes": {
        "serialize": 118,
        "client": 39,
        "protocol": 136,
        "ids": 29,
        "forwarder": 406,
        "interchange": 211,
        "manager": 69,
    },
    "sqlite": {"commits": 15, "rows": 28, "bytes": 103},
}
EXECUTOR_AND_NAMED_ENDPOINT: dict[str, dict[str, float]] = {
    "messages": {
        "client-forwarder": 29,
        "forwarder-interchange": 17,
        "interchange-manager": 20,
        "manager-worker": 104,
    },
    "bytes": {
        "client-forwarder": 81,
        "forwarder-interchange": 81,
        "interchange-manager": 81,
        "manager-worker": 82,
    },
    "bytecodes": {
        "serialize": 118,
        "client": 39,
        "protocol": 175,
        "ids": 29,
        "forwarder": 236,
        "interchange": 211,
        "manager": 69,
    },
    "sqlite": {"commits": 16, "rows": 50, "bytes": 103},
}
#: The same through real processes, where counts depend a little on who is quicker. One message for
#: each task, or one commit, would be 10,000. Time is in additions that the same interpreter does in
#: a loop: of all processes together for each task.
EXECUTOR_OF_THIS_PROCESS: dict[str, dict[str, float]] = {
    "messages": {"to forwarder": 80, "to client": 80, "to manager": 40, "from manager": 150},
    "sqlite": {"commits": 60, "rows": 110},
    "caller": {"bytecodes": 500},
    "all processes": {"additions": 1000},
}


@pytest.mark.parametrize(
    ("endpoint", "keep", "bounds"),
    [
        pytest.param(LOCAL_ENDPOINT, True, BATCH_OF_A_HOME, id="batch_run, local"),
        pytest.param(NAMED_ENDPOINT, False, EXECUTOR_AND_NAMED_ENDPOINT, id="Executor, named"),
    ],
)
def test_messages_rows_and_bytecodes(endpoint: str, keep: bool, bounds: dict[str, Any]) -> None:
    counts = Counts()
    with counted(counts):
        run = Run(counts, endpoint, keep=keep)
        run.submit_and_collect(TASKS)
        found = {
            "messages": dict(counts.messages),
            "bytes": _per_task(counts.bytes, TASKS),
            "sqlite": counts.in_sqlite(run.before),
        }
        found["sqlite"]["bytes"] /= TASKS
        with bytecodes_counted(counts):
            run.submit_and_collect(TRACED_TASKS)
    found["bytecodes"] = _per_task(counts.bytecodes, TRACED_TASKS)
    _compare(found, bounds)


def test_an_executor_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()
    stored: Counter[str] = Counter()

    def count(owner: Any, method: str, name: str) -> None:
        plain = getattr(owner, method)

        def wrapped(*arguments: Any) -> Any:
            counts[name] += 1
            return plain(*arguments)

        monkeypatch.setattr(owner, method, wrapped)

    def apply(store: Any, operations: Any, plain: Any = Store.apply) -> Any:
        stored["commits"] += 1
        rows = (op.AddSubmission, op.AddResults, op.AddException)
        stored["rows"] += sum(isinstance(operation, rows) for operation in operations)
        return plain(store, operations)

    def receive(acceptor: Any, plain: Any = Acceptor.receive) -> Any:
        for found in plain(acceptor):
            counts["from manager"] += 1
            yield found

    monkeypatch.setattr(Store, "apply", apply)
    monkeypatch.setattr(Acceptor, "receive", receive)
    count(EmbeddedPeer, "send", "to forwarder")
    count(_Threads, "send", "to client")
    count(Acceptor, "send", "to manager")

    traced = Counts()
    with Executor(2, path=str(tmp_path / "store")) as executor:
        warm = [executor.submit(operator.neg, n) for n in range(500)]
        assert [future.result(60) for future in warm] == [-n for n in range(500)]
        with bytecodes_counted(traced):
            futures = [executor.submit(operator.neg, n) for n in range(TRACED_TASKS)]
        assert futures[-1].result(60) == 1 - TRACED_TASKS
        with bytecodes_counted(traced):
            assert [future.result(60) for future in futures] == [-n for n in range(TRACED_TASKS)]
        for _ in range(3):  # a machine that has other work to do makes everything dearer
            counts.clear()
            stored.clear()
            unit, spent = _calibrated(), _spent()
            futures = [executor.submit(operator.neg, n) for n in range(TASKS)]
            assert [future.result(60) for future in futures] == [-n for n in range(TASKS)]
            additions = (_spent() - spent) / (unit + _calibrated()) / TASKS
            if additions < EXECUTOR_OF_THIS_PROCESS["all processes"]["additions"]:
                break
    found = {
        "messages": dict(counts),
        "sqlite": dict(stored),
        "caller": {"bytecodes": sum(traced.bytecodes.values()) / TRACED_TASKS},
        "all processes": {"additions": additions},
    }
    _compare(found, EXECUTOR_OF_THIS_PROCESS)


def _per_task(counter: Counter[str], tasks: int) -> dict[str, float]:
    return {name: count / tasks for name, count in counter.items()}


def _compare(found: dict[str, dict[str, Any]], bounds: dict[str, dict[str, float]]) -> None:
    print(found)  # shown with a failure, and by `pytest -s`
    beyond = [
        f"{what} of {name}: {found[what].get(name, 0):.6g}, at most {bound}"
        for what, named in bounds.items()
        for name, bound in named.items()
        if found[what].get(name, 0) > bound
    ]
    assert not beyond, f"dearer than before, for {TASKS} tasks or for each:\n" + "\n".join(beyond)


def _calibrated() -> float:
    """Seconds of processor time that half an addition takes in a loop of this interpreter."""
    count, total = 500_000, 0
    began = time.thread_time()
    for n in range(count):
        total += n
    return (time.thread_time() - began) / count / 2


def _spent() -> float:
    """Seconds of processor time of this process and all below it."""
    this = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (this, *this.children(recursive=True)))

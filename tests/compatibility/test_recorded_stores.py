"""A home that an older fxhpc has left is what it was: its results are read, its queue runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.forwarder.store.schema import MIGRATIONS
from tests.compatibility.stores import DONE, IN_A_FILE, IN_A_ROW, QUEUED, path, unpack
from tests.process.homes import TestHome

VERSIONS = range(1, len(MIGRATIONS) + 1)

_SCRIPT = """
    import json, os
    from fxhpc import FuncXClient

    with open(os.path.join(os.environ["FXHPC_HOME"], "recorded.json")) as file:
        recorded = json.load(file)
    tasks = recorded["tasks"]

    with FuncXClient() as client:
        ended = client.get_batch_result(tasks["done"])
        assert [ended[task]["result"] for task in tasks["done"]] == [
            -number for number in range(len(tasks["done"]))
        ]
        large = [len(client.get_result(task)) for task in tasks["large"]]
        said = {}
        for state in ("failed", "lost", "cancelled"):
            try:
                client.get_result(tasks[state][0])
            except BaseException as error:
                said[state] = f"{type(error).__name__}: {error}"
        found = client.search_function("neg of before")
        assert found[0]["function_uuid"] == recorded["functions"]["neg"], found
        queued = client.get_batch_result(tasks["queued"])
        pending = sum(told["pending"] for told in queued.values())
        while any(told["pending"] for told in queued.values()):
            queued = client.get_batch_result(tasks["queued"])
        results = [queued[task]["result"] for task in tasks["queued"]]
        assert results == [-number for number in range(len(results))], results
    print(json.dumps({"large": large, "done": len(ended), "queued": len(results), **said}))
"""


@pytest.fixture
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestHome]:
    """The home that a version has left."""
    unpack(request.param, tmp_path / "home")
    home = TestHome(tmp_path / "home", tmp_path / "scripts")
    yield home
    home.close()


def test_the_store_of_every_version_is_recorded() -> None:
    missing = [version for version in VERSIONS if not path(version).exists()]
    assert not missing, f"no store of version {missing} is recorded: tests/compatibility/README.md"


@pytest.mark.parametrize("left", VERSIONS, indirect=True)
def test_results_are_read_and_the_queue_runs(
    left: TestHome, request: pytest.FixtureRequest
) -> None:
    version = request.node.callspec.params["left"]
    told = json.loads(left.run("reads.py", _SCRIPT))
    assert (told["done"], told["queued"]) == (DONE, QUEUED)
    assert told["large"] == [IN_A_ROW, IN_A_FILE]
    assert told["failed"] == "ZeroDivisionError: division by zero"
    assert told["lost"].startswith("WorkerDied: ")
    assert "on before was killed by signal 6 (SIGABRT)" in told["lost"]
    assert told["cancelled"].startswith("TaskCancelled: ")
    copies = [one.name for one in left.path.glob("store.db.v*.bak")]
    assert copies == ([f"store.db.v{version}.bak"] if version < len(MIGRATIONS) else [])

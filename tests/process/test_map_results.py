"""`map_run(...).results()` through a home: the first values come while later chunks still run."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from fxhpc import FuncXClient
from tests.waiting import eventually


def wait_for_file(path: str, x: int) -> int:
    while x >= 4 and not Path(path).exists():
        os.sched_yield()
    return x


def test_the_first_values_come_while_later_chunks_run(client: FuncXClient, tmp_path: Path) -> None:
    go = tmp_path / "go"
    function = client.register_function(functools.partial(wait_for_file, str(go)))
    found = client.map_run(range(12), endpoint_id="local", function_id=function, chunksize=2)
    values = found.results(60)
    assert [next(values) for _ in range(2)] == [0, 1]
    assert client.wait(found[4:], timeout=0)[1] == found[4:]
    go.touch()
    assert list(values) == [*range(2, 12)]
    eventually(lambda: not client.wait(found, timeout=0)[1])

"""A home that is moved, or removed: what was started for it ends, and leaves nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fxhpc import FuncXClient
from fxhpc.forwarder.home import Home
from fxhpc.hosts import is_alive
from tests.process.homes import TestHome
from tests.waiting import eventually


def test_a_home_that_was_moved_goes_on_and_one_that_is_gone_leaves_nothing(
    home: TestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "else where"
    monkeypatch.setenv("FXHPC_FORWARDER_GRACE", "60")
    with FuncXClient(home.path) as client:
        function = client.register_function(abs)
        task = client.run(-3, endpoint_id="local", function_id=function)
        assert client.get_result(task, timeout=30) == 3
    before = home.forwarder()
    home.path.rename(moved)
    eventually(lambda: not is_alive(before.pid, before.started), 20)

    with FuncXClient(moved) as client:
        assert client.get_result(task, timeout=30) == 3
    after = eventually(Home(moved).read_owner)
    assert after.pid != before.pid
    shutil.rmtree(moved)

    eventually(lambda: not is_alive(after.pid, after.started), 20)
    eventually(lambda: not home.processes(), 20)
    for owner in (before, after):
        assert not os.path.exists(os.path.dirname(owner.clients.removeprefix("ipc://")))
    assert not home.path.exists()
    assert not moved.exists()
    Home(home.path).create()  # for what the fixture looks at

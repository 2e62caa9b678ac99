"""`fxhpc manager start`: which workers a site's limit of login nodes is about."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fxhpc.cli import main, manager, output
from fxhpc.client.started.allocation import Allocation
from fxhpc.site import reading


class _Site:
    def because(self, key: str) -> str:
        return f"(the administrators have set {key})"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Where managers are started, of an endpoint that runs, on a host where none may run."""
    found: list[Any] = []

    class Run:
        def __init__(self, directory: Any, spec: Path, allocation: Allocation | None) -> None:
            found.append(allocation)

        def wait(self) -> int:
            return 0

    directory = SimpleNamespace(manager_logs=tmp_path, manager_spec=tmp_path / "manager.json")
    monkeypatch.setattr(manager, "_find", lambda name: directory)
    monkeypatch.setattr(manager, "_reachable_address", lambda name, directory: "tcp://h:1")
    monkeypatch.setattr(manager, "_read_spec", lambda name, directory: None)
    monkeypatch.setattr(manager, "_Run", Run)
    monkeypatch.setattr(reading, "login_limit_here", lambda: (0, _Site()))
    return found


def test_nodes_of_a_job_are_no_login_node(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Allocation(1, "srun", "7")
    monkeypatch.setattr(manager, "find_allocation", lambda environ: nodes)
    assert main.main(["manager", "start", "--endpoint", "midway"]) == output.OK
    assert started == [nodes]


def test_this_host_is_one(started: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["manager", "start", "--endpoint", "midway", "--this-node"]) == output.USAGE
    assert "No tasks run on this login node" in capsys.readouterr().err
    assert not started

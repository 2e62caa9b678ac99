"""A private endpoint as its client sees it: what is sent, and how a start fails."""

from __future__ import annotations

import json
import stat
import sys
import tempfile
import threading
from pathlib import Path
from types import MappingProxyType

import pytest

from fxhpc import errors
from fxhpc.client.started import cluster
from fxhpc.client.started.hindrances import Hindrances


def _program(path: Path, code: str) -> str:
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o700)
    return str(path)


def _answers(said: str) -> str:
    """A stand-in for Python: it says this to the descriptor that is its last argument."""
    return f'for fd; do :; done; cat > "$(dirname "$0")/request"; printf {said} > /proc/self/fd/$fd'


def test_a_configuration_is_sent_as_yaml_could_hold_it() -> None:
    config = MappingProxyType(
        {"state_dir": Path("/scratch"), "provider": MappingProxyType({"walltime": (1, 2)})}
    )
    assert cluster._plain(config) == {"state_dir": "/scratch", "provider": {"walltime": [1, 2]}}


def test_a_configuration_with_something_else_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="a configuration holds what YAML can"):
        cluster._plain({"provider": object()})


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("echo it has no modules >&2; exit 1", "it has no modules"),
        (_answers("nonsense"), "the process that prepares it died"),
        (_answers("""'{"error":"the disk is full"}\\n'"""), "the disk is full"),
        (_answers("'{}\\n'"), "died as it started"),
        (_answers("'{}\\nport 5555 is taken'"), "port 5555 is taken"),
    ],
    ids=["dies", "nonsense", "error", "interchange dies", "interchange says why"],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    monkeypatch.setattr(sys, "executable", _program(tmp_path / "python", code))
    with pytest.raises(errors.EndpointStartFailed, match=says):
        cluster.PrivateEndpoint(tmp_path / "home", {})
    assert list((tmp_path / "home" / "executors").iterdir()) == []


def test_all_problems_of_a_configuration_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = _answers("""'{"problems":["a: wrong","b: wrong"]}\\n'""")
    monkeypatch.setattr(sys, "executable", _program(tmp_path / "python", code))
    with pytest.raises(errors.ConfigError) as caught:
        cluster.PrivateEndpoint(tmp_path / "home", tmp_path / "some.yaml")
    assert caught.value.problems == ["a: wrong", "b: wrong"]
    request = (tmp_path / "request").read_text()
    assert str(tmp_path / "some.yaml") in request


def test_a_home_is_made_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", _program(tmp_path / "python", "exit 1"))
    with pytest.raises(errors.EndpointStartFailed):
        cluster.PrivateEndpoint(tmp_path / "home", {})
    for path in (tmp_path / "home", tmp_path / "home" / "executors"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_no_python_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(errors.EndpointStartFailed, match="no process can be started"):
        cluster.PrivateEndpoint(tmp_path / "home", {})


def test_what_hinders_is_said_when_it_has_lasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def report(reason: str, queued: int = 3, workers: int = 0) -> None:
        told = {"reason": reason, "queued": queued, "workers": workers, "report": {}}
        (tmp_path / "status.json").write_text(json.dumps(told))

    def said(now: float) -> str:
        hindrances.look(tmp_path, now)
        return capsys.readouterr().err

    hindrances = Hindrances("executor-1")
    assert said(0.0) == ""  # there is no report yet
    report("Slurm job 1 PENDING (Priority)")
    assert said(5.0) == ""
    assert said(16.0) == "fxhpc: tasks of executor-1 wait: Slurm job 1 PENDING (Priority)\n"
    assert said(100.0) == ""  # once is enough
    report("Slurm job 1 PENDING (Resources)")
    assert "(Resources)" in said(105.0)
    report("another")
    assert said(110.0) == ""  # not every moment
    report("all are busy", workers=2)
    assert said(200.0) == ""
    report("no tasks", queued=0)
    assert said(300.0) == ""
    (tmp_path / "status.json").write_text("nonsense")
    assert said(400.0) == ""


def test_an_endpoint_is_given_up_when_no_block_will_ever_come(tmp_path: Path) -> None:
    words = "scaling is paused after 3 failed blocks: sbatch: error: invalid partition"

    def look(now: float, **report: object) -> errors.NodesUnavailable | None:
        workers = report.pop("workers", 0)
        told = {"workers": workers, "queued": 1, "reason": words, "report": report}
        (tmp_path / "status.json").write_text(json.dumps(told))
        return hindrances.look(tmp_path, now)

    hindrances = Hindrances("executor-1")
    paused = f"{words}; fix it, then: make another executor (one block is tried in 30 min)"
    comes, goes = [{"block": 4, "state": "pending"}], [{"block": 4, "state": "cancelling"}]
    assert look(0.0, paused="") is None  # the batch system is away, for one
    assert look(5.0, paused=paused) is None  # it may pass
    assert look(7.0, paused=paused, blocks=comes) is None
    assert look(100.0, paused=paused, workers=1) is None
    assert look(105.0, paused=paused, blocks=goes) is None
    failure = look(110.0, paused=paused, blocks=goes)
    assert str(failure) == (
        f"no node will come to run the tasks of this executor: {words}; "
        f"mend its config, and make another executor"
    )
    assert isinstance(failure, errors.EndpointStartFailed)


@pytest.mark.parametrize(
    ("status", "starts"),
    [(1, 3), (-11, 3), (-9, 99), (-15, 99)],
    ids=["exit", "SEGV", "KILL", "TERM"],
)
def test_interchanges_that_somebody_kills_are_started_again_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, starts: int
) -> None:
    monkeypatch.setattr(cluster, "_BACKOFF_S", 0.0)
    endpoint = cluster.PrivateEndpoint.__new__(cluster.PrivateEndpoint)
    endpoint.name, endpoint.directory = "executor-1", tmp_path
    endpoint.failure, endpoint.on_failure = None, None
    endpoint._stopping, endpoint._lock = threading.Event(), threading.Lock()
    (tmp_path / cluster.SPEC_FILE).touch()
    started: list[object] = []
    monkeypatch.setattr(endpoint, "_wait", lambda: status)
    monkeypatch.setattr(endpoint, "_start", lambda command, spec: started.append(spec))
    with tempfile.TemporaryFile() as endpoint._output:
        endpoint._watch()
    assert len(started) == starts
    assert "again and again" in str(endpoint.failure)

"""What `fxhpc endpoint status` prints of an endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from fxhpc.cli import status
from fxhpc.endpoint.state import State


def shown(capsys: pytest.CaptureFixture[str], **details: Any) -> list[str]:
    """The lines for a running endpoint that reports this."""
    status._show(
        {
            "name": "midway",
            "endpoint_id": "1234",
            "state": State.RUNNING,
            "sentence": "running on host login1",
            "trouble": "",
            "restarts": 0,
            "left_blocks": [],
            "report": {"report": details},
            "report_age_s": 1.0,
        }
    )
    return capsys.readouterr().out.splitlines()


def test_what_waits_is_listed_by_size(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [{"needs": f"{n} cores", "tasks": 20 - n, "reason": "why"} for n in range(2, 14)]
    lines = shown(capsys, waiting=sizes)
    (head,) = (number for number, line in enumerate(lines) if line.startswith("WAITING"))
    assert lines[head].split() == ["WAITING", "EACH", "NEEDS", "BECAUSE"]
    rows = lines[head + 1 :]
    assert rows[0].split() == ["18", "2", "cores", "why"]
    assert len(rows) == 11
    assert rows[-1].split() == ["15", "2", "other", "sizes"]


def test_of_ordinary_tasks_there_is_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert not [line for line in shown(capsys, waiting=[]) if line.startswith("WAITING")]


def test_processes_of_other_versions_are_told_with_the_way_on() -> None:
    ours = status.__version__
    endpoint = {"name": "midway", "versions": {"supervisor": ours, "forwarder": ours}}
    assert status._differences(endpoint) == ""
    endpoint["versions"] = {"supervisor": "0.0.9", "interchange": ours, "forwarder": ours}
    words = status._differences(endpoint)
    assert words.startswith(f"supervisor 0.0.9, interchange {ours}, forwarder {ours}; this is")
    assert words.endswith("lose nothing: fxhpc endpoint restart midway")
    endpoint["versions"] = {"supervisor": ours, "forwarder": "0.0.9"}
    assert status._differences(endpoint).endswith("lose nothing: fxhpc forwarder restart")
    assert status._differences({"name": "stopped"}) == ""

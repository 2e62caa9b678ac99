"""What a notebook shows: all of it escaped, whatever a user has called things."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from fxhpc import ShellResult
from fxhpc.client.batch import Batch
from fxhpc.client.shown import notebooks
from fxhpc.client.shown.search import FunctionSearchResults
from fxhpc.client.task_group import TaskGroup
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol.service import FunctionRecord
from fxhpc.tables import MOST_ROWS, facts, grid

EVIL = "<img src=x onerror=alert(1)>\x1b[2J<script>alert('&')</script>"
FUNCTION = "5b5b0c5e-0d5c-4a6e-9a0e-0d7c7d7e8f90"

#: The tags that may be there; none has an attribute but one.
_ALLOWED = re.compile(r"</?(table|caption|tr|th|td|pre)>|<br>|<td colspan=\"\d+\">")


def text_of(shown: str) -> str:
    """What is left without the tags that may be there: no other tag, no quote, no control."""
    left = _ALLOWED.sub(" ", shown)
    assert not re.search(r"[<>\"'\x1b]", left), left
    return left


class Unshowable:
    """An object whose own words raise."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def tasks() -> list[dict[str, Any]]:
    return [
        {"task_id": EVIL, "status": "success", "pending": False, "result": Unshowable()},
        {"task_id": "t", "status": "failed", "exception": ValueError(EVIL), "details": {}},
        {"task_id": "t", "status": "waiting-for-nodes", "reason": EVIL, "pending": True},
        {
            "task_id": "t",
            "status": "success",
            "result": EVIL * 1000,
            "details": {"host": EVIL, "ended": 1.7e9, "labels": [EVIL], "metadata": {EVIL: EVIL}},
        },
    ]


@pytest.mark.parametrize("told", tasks())
def test_tasks(told: dict[str, Any]) -> None:
    record = notebooks.TaskRecord(told)
    shown = record._repr_html_()
    assert told["status"] in text_of(shown)
    assert len(shown) < 5_000
    assert record == told


def test_a_record_is_a_dictionary_for_all_else() -> None:
    record = notebooks.TaskRecord({"status": "success", "result": 1})
    assert json.loads(json.dumps(record)) == {"status": "success", "result": 1}
    assert repr(record) == "{'status': 'success', 'result': 1}"


def test_endpoints() -> None:
    block = {"block": 1, "job": EVIL, "state": "running", "words": EVIL}
    details = {"endpoint_name": EVIL, "reason": EVIL, "managers": 1234, "blocks": [block] * 60}
    shown = notebooks.EndpointRecord({"status": "online", "details": details})._repr_html_()
    assert "online" in text_of(shown)
    assert "1,234" in shown
    assert "and 10 more" in shown


def test_functions() -> None:
    records = [FunctionRecord(FUNCTION, b"digest", EVIL, description=EVIL, author=EVIL)] * 3
    shown = FunctionSearchResults(records, total=80, offset=10)._repr_html_()
    assert FUNCTION in text_of(shown)
    assert "and 67 more" in shown


def test_batches_groups_futures_and_clients() -> None:
    batch = Batch()
    for number in range(3):
        batch.add(number, endpoint_id=LOCAL_ENDPOINT, function_id=FUNCTION)
    shown = text_of(batch._repr_html_())
    assert "Batch of 3 tasks" in shown
    assert FUNCTION in shown
    group = TaskGroup(EVIL, lambda _: None, lambda: None, lambda _: {}, False)  # type: ignore[arg-type,return-value]
    assert "counts()" in text_of(group._repr_html_())
    assert "pending" in text_of(notebooks.of_future(None, "pending"))
    for closed, attached in ((False, None), (False, ("0.1.0", 3)), (True, ("0.1.0", 3))):
        assert "home" in text_of(notebooks.of_client(EVIL, "group", attached, closed))
    assert "closed" in notebooks.of_client(None, "group", ("0.1.0", 3), True)


def test_commands() -> None:
    shown = text_of(ShellResult(EVIL, EVIL + "\n2", "", 7, "subprocess.X")._repr_html_())
    assert "exit code" in shown
    assert "subprocess.X" in shown


def test_what_is_empty_is_left_out_and_what_is_much_is_cut() -> None:
    shown = facts("t", [("none", None), ("empty", ""), ("list", []), ("zero", 0), ("no", False)])
    assert shown.count("<tr>") == 2
    assert grid("t", ["a"], [[1]] * (MOST_ROWS + 5)).count("<tr>") == MOST_ROWS + 2
    assert "more" not in grid("t", ["a"], [[1]])

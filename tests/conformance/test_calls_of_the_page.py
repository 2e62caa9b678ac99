"""docs/api.md names every option of what people make, and all that a task group can do."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fxhpc import Executor, FuncXClient, ShellFunction, TaskGroup

_WORDS = set(
    re.findall(r"\w+", (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text())
)


@pytest.mark.parametrize(
    "call",
    [FuncXClient, FuncXClient.create_batch, FuncXClient.register_function, Executor, ShellFunction],
)
def test_every_option_is_named(call: Callable[..., Any]) -> None:
    assert set(inspect.signature(call).parameters) - {"self", "ignored"} <= _WORDS


def test_every_call_of_a_group_is_named() -> None:
    assert {name for name in dir(TaskGroup) if name[0] != "_"} <= _WORDS

"""A file that has the name of one of Python's own modules is named."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from fxhpc.shadowed import shadowed, to_blame


def test_none_is_named_without_reason() -> None:
    assert shadowed() == ""
    assert to_blame(KeyError("x")).startswith("a mistake in fxhpc: KeyError('x')")


def test_a_file_beside_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = ModuleType("random")
    beside.__file__ = "/home/ada/study/random.py"
    monkeypatch.setitem(sys.modules, "random", beside)
    told = to_blame(AttributeError("no attribute 'getrandbits'"))
    assert "/home/ada/study/random.py has the name of one of Python's own modules" in told
    assert "Rename it" in told
    assert "report" not in told


def test_what_is_installed_replaces_modules_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = ModuleType("random")
    installed.__file__ = "/home/ada/venv/lib/python3.11/site-packages/random.py"
    monkeypatch.setitem(sys.modules, "random", installed)
    assert shadowed() == ""

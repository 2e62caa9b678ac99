"""A file that has the name of one of Python's own modules is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fxhpc.shadowed import shadowed, to_blame


def test_none_is_named_without_reason() -> None:
    assert shadowed() == ""
    told = to_blame(KeyError("x"), "please report it")
    assert told == "a mistake in fxhpc, please report it (KeyError('x'))"


def test_a_file_beside_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = ModuleType("random")
    beside.__file__ = "/home/ada/study/random.py"
    monkeypatch.setitem(sys.modules, "random", beside)
    told = to_blame(AttributeError("no attribute 'getrandbits'"), "report it")
    assert "/home/ada/study/random.py has the name of one of Python's own modules" in told
    assert "; rename it (AttributeError(" in told
    assert "report" not in told


def test_what_is_installed_replaces_modules_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = ModuleType("random")
    installed.__file__ = "/home/ada/venv/lib/python3.11/site-packages/random.py"
    monkeypatch.setitem(sys.modules, "random", installed)
    assert shadowed() == ""


def test_the_import_says_so(tmp_path: Path) -> None:
    (tmp_path / "signal.py").write_text("x = 1\n")
    (tmp_path / "study.py").write_text("from fxhpc import FuncXClient\n")
    done = subprocess.run(
        [sys.executable, tmp_path / "study.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"{tmp_path / 'signal.py'} has the name of one of Python's own" in done.stderr
    assert "rename it" in done.stderr.splitlines()[-1]

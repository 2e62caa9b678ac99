"""What tells that the files of this process were replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fxhpc.version
from fxhpc.interchange.notices import INSTALLED_S, Upgrade
from fxhpc.replaced import Installation


def write(path: Path, version: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(f'"""Which."""\n\n__version__ = "{version}"\n')
    os.replace(new, path)


def test_files_of_another_version_are_told_at_the_second_look(tmp_path: Path) -> None:
    path = tmp_path / "version.py"
    write(path, "0.1.0")
    installation = Installation(str(path))
    assert not installation.is_replaced()
    assert not installation.is_replaced()
    write(path, "0.2.0")
    assert not installation.is_replaced()  # whoever does it may not be ready
    assert installation.is_replaced()
    ours = fxhpc.version.__version__
    assert installation.words() == (
        f"fxhpc 0.2.0 was installed in the place of the {ours} that this process runs"
    )


def test_the_same_version_installed_anew_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "version.py"
    write(path, "0.1.0")
    installation = Installation(str(path))
    write(path, "0.1.0")
    assert [installation.is_replaced() for _ in range(2)] == [False, True]


def test_files_that_are_gone_were_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "version.py"
    write(path, "0.1.0")
    installation = Installation(str(path))
    path.unlink()
    assert [installation.is_replaced() for _ in range(3)] == [False] * 3
    write(path, "0.3.0")
    assert [installation.is_replaced() for _ in range(2)] == [False, True]
    path.write_text("nothing that it says")
    assert installation.version() == ""


def test_the_version_of_the_real_files_is_found() -> None:
    assert Installation().version() == fxhpc.version.__version__


def test_an_interchange_tells_how_to_take_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "version.py"
    write(path, "0.1.0")
    now = 1000.0
    monkeypatch.setattr("fxhpc.interchange.notices.time.monotonic", lambda: now)
    named, private = (Upgrade(name, Installation(str(path))) for name in ("midway", ""))
    told = []
    for _ in range(3):
        told.append((named.tell(), private.tell()))
        write(path, "0.2.0") if len(told) == 1 else None
        now += INSTALLED_S
    assert told[:2] == [("", "")] * 2
    assert told[2][0].endswith(
        "that this process runs: it goes on; `fxhpc endpoint restart midway` takes it up, with "
        "its blocks"
    )
    assert told[2][1].endswith("that this process runs: it goes on")

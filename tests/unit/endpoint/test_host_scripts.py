"""Shell lines on the endpoint's host: their ends, their output, their limit."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from fxhpc.endpoint.host_scripts import run_script


def test_nothing_is_run_where_there_is_nothing(tmp_path: Path) -> None:
    assert run_script("endpoint_setup", " \n", tmp_path / "log") == ""
    assert not (tmp_path / "log").exists()


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run_script("endpoint_setup", "echo one\necho two >&2", log) == ""
    assert run_script("endpoint_setup", "pwd", log) == ""
    assert log.read_text() == f"one\ntwo\n{Path.home()}\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first; echo no license >&2; exit 3", "failed with exit code 3: first / no license"),
        ("exit 1", "endpoint_setup failed with exit code 1"),
        ("kill -9 $$", "failed with signal 9"),
        ("no-such-command", "exit code 127"),
    ],
)
def test_what_went_wrong_is_said(tmp_path: Path, script: str, words: str) -> None:
    (tmp_path / "log").write_text("of an earlier start\n")
    trouble = run_script("endpoint_setup", script, tmp_path / "log")
    assert words in trouble
    assert "earlier" not in trouble


def test_one_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    trouble = run_script("endpoint_setup", "sleep 600 & wait", tmp_path / "log", limit_s=0.2)
    assert "did not end within 200 ms" in trouble
    assert time.monotonic() - began < 10

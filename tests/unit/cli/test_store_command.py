"""`fxhpc store set`: limits that can be meant so, and a file that says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fxhpc.cli.main import commands
from fxhpc.forwarder.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def set_limits(home: Home, *words: str) -> Result:
    command = ["store", "set", *words]
    return CliRunner().invoke(commands, command, env={"FXHPC_HOME": str(home.path)})


def test_limits_are_written_for_the_owner_alone(home: Home) -> None:
    assert set_limits(home, "--max-bytes", "2GB", "--retention", "3d").exit_code == 0
    assert home.limits.stat().st_mode & 0o077 == 0
    assert json.loads(home.limits.read_bytes())["retention_s"] == 3 * 86400
    assert set_limits(home, "--retention", "4d").exit_code == 0
    shown = json.loads(set_limits(home, "--json").stdout)
    assert shown["retention_s"] == 4 * 86400
    assert shown["max_bytes"] == 2 * 2**30


@pytest.mark.parametrize("words", [("--max-bytes", ""), ("--max-bytes", "0"), ("--retention", "")])
def test_what_cannot_be_meant_is_refused(home: Home, words: tuple[str, str]) -> None:
    assert set_limits(home, *words).exit_code != 0
    assert not home.limits.exists()


@pytest.mark.parametrize("text", ["garbage{", '{"max_bytes": -4}', '{"max_byte": 4}'])
def test_a_file_that_says_nothing_can_be_written_anew(home: Home, text: str) -> None:
    home.limits.write_text(text)
    assert set_limits(home, "--max-bytes", "1GB").exit_code != 0
    assert set_limits(home, "--max-bytes", "1GB", "--retention", "1d").exit_code == 0
    assert set_limits(home).exit_code == 0

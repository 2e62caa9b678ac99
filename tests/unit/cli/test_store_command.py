"""`fxhpc store set`: limits that can be meant so, and a file that says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fxhpc.cli.main import commands
from fxhpc.errors import HomeError
from fxhpc.forwarder.home import Home
from fxhpc.forwarder.limits import MAX_BYTES_VARIABLE, RETENTION_VARIABLE, limits_in_force


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


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("--max-bytes", "", "is not a size"),
        ("--max-bytes", "0", "8.0 MB at least"),
        ("--max-bytes", "1", "8.0 MB at least"),
        ("--max-bytes", "7MB", "8.0 MB at least"),
        ("--max-bytes", str(10**30), "16 TB at most"),
        ("--max-bytes", "17TB", "16 TB at most"),
        ("--retention", "", "is not a duration"),
        ("--retention", "0s", "60 s at least"),
        ("--retention", "59s", "60 s at least"),
        ("--retention", "1000000000d", "36525 days"),
    ],
)
def test_what_cannot_be_meant_is_refused(home: Home, option: str, text: str, told: str) -> None:
    refused = set_limits(home, option, text)
    assert refused.exit_code != 0
    assert option in str(refused.exception)
    assert told in str(refused.exception)
    assert not home.limits.exists()


def test_the_bounds_themselves_are_taken(home: Home) -> None:
    for words in (("8MB", "60s"), ("16TB", "36525d")):
        assert set_limits(home, "--max-bytes", words[0], "--retention", words[1]).exit_code == 0


def test_a_limit_that_the_disk_does_not_reach_is_told(home: Home) -> None:
    assert "in all" in set_limits(home, "--max-bytes", "16TB").stderr
    assert "in all" not in set_limits(home, "--max-bytes", "8MB").stderr


@pytest.mark.parametrize(
    ("variable", "text"), [(MAX_BYTES_VARIABLE, "1"), (RETENTION_VARIABLE, "0s")]
)
def test_variables_have_the_same_bounds(
    home: Home, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(HomeError, match=f"{variable}: .* at least"):
        limits_in_force(home)


@pytest.mark.parametrize("text", ["garbage{", '{"max_bytes": -4}', '{"max_byte": 4}'])
def test_a_file_that_says_nothing_can_be_written_anew(home: Home, text: str) -> None:
    home.limits.write_text(text)
    assert set_limits(home, "--max-bytes", "1GB").exit_code != 0
    assert set_limits(home, "--max-bytes", "1GB", "--retention", "1d").exit_code == 0
    assert set_limits(home).exit_code == 0

"""`fxhpc store set|purge`: what can be meant so, what would go, and a file that says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fxhpc.cli import store
from fxhpc.cli.main import commands
from fxhpc.errors import ForwarderError, HomeError, UsageError
from fxhpc.forwarder.home import Home
from fxhpc.forwarder.limits import (
    MAX_BYTES_VARIABLE,
    RETENTION_VARIABLE,
    keep_group,
    limits_in_force,
)
from fxhpc.protocol import service


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def set_limits(home: Home, *words: str) -> Result:
    return run(home, "set", *words)


def run(home: Home, *words: str, answer: str | None = None) -> Result:
    command = ["store", *words]
    return CliRunner().invoke(commands, command, answer, env={"FXHPC_HOME": str(home.path)})


class Asked:
    """A client of a store that holds 9 MB in 3 batches, of which all are older than 5 days."""

    def __init__(self) -> None:
        self.purges: list[service.PurgeTasks] = []
        self.fails = False

    def __enter__(self) -> Asked:
        if self.fails:
            raise ForwarderError("it is away.")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, message: Any) -> Any:
        if isinstance(message, service.GetStoreUsage):
            return service.StoreUsage(0, 0, 0, 0, 0, 0, 0, 0, 9 * 2**20, 2**40, 1.0)
        assert isinstance(message, service.PurgeTasks)
        self.purges.append(message)
        gone = message.older_s <= 5 * 86400
        return service.Purged(0, 3 if gone else 0, 2000 if gone else 0, 0)


@pytest.fixture
def asked(home: Home, monkeypatch: pytest.MonkeyPatch) -> Asked:
    home.store.touch()
    client = Asked()
    monkeypatch.setattr(store, "_client", lambda: client)
    return client


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
        ("--retention", "7", "Write for example 7d for days"),
        ("--retention", " 1e6 ", "seconds, hours or days?"),
        ("--retention", "59min", "--yes"),
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
        told = set_limits(home, "--max-bytes", words[0], "--retention", words[1], "--yes")
        assert told.exit_code == 0


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


def test_a_retention_that_makes_results_go_asks_first(home: Home, asked: Asked) -> None:
    refused = set_limits(home, "--retention", "5d")
    assert refused.exit_code != 0
    for words in ("nothing was set", "3 batches of 2,000 tasks, older than 5 days", "--yes"):
        assert words in str(refused.exception)
    assert not home.limits.exists()
    told = set_limits(home, "--retention", "5d", "--yes")
    assert told.exit_code == 0
    assert "3 batches of 2,000 tasks" in told.stderr
    assert json.loads(home.limits.read_bytes())["retention_s"] == 5 * 86400
    assert all(call.dry_run and not call.pending for call in asked.purges)


def test_who_is_asked_decides(home: Home, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False
    )
    assert run(home, "set", "--retention", "5d", answer="n\n").exit_code != 0
    assert not home.limits.exists()
    assert run(home, "set", "--retention", "5d", answer="y\n").exit_code == 0
    assert home.limits.exists()


def test_a_retention_that_makes_nothing_go_does_not_ask(home: Home, asked: Asked) -> None:
    assert set_limits(home, "--retention", "6d").exit_code == 0
    assert len(asked.purges) == 1
    assert set_limits(home, "--retention", "30d").exit_code == 0  # longer
    assert len(asked.purges) == 1


def test_what_cannot_be_told_needs_a_yes(home: Home, asked: Asked) -> None:
    asked.fails = True
    refused = set_limits(home, "--retention", "5d")
    assert "because it is away; if" in str(refused.exception)
    assert not home.limits.exists()
    assert set_limits(home, "--retention", "5d", "--yes").exit_code == 0
    assert set_limits(home, "--max-bytes", "1GB").exit_code == 0  # harms nobody


def test_less_room_than_is_taken_is_told(home: Home, asked: Asked) -> None:
    told = set_limits(home, "--max-bytes", "8MB")
    assert told.exit_code == 0
    assert "holds 9.0 MB, more than 8.0 MB: submissions are refused until" in told.stderr
    assert "refused until" not in set_limits(home, "--max-bytes", "10MB").stderr


def test_a_group_is_found_however_its_id_is_written(home: Home, asked: Asked) -> None:
    group = "0a0b0c0d-0000-4000-8000-00000000000f"
    assert run(home, "purge", "--group", group.upper(), "--yes").exit_code == 0
    assert [call.group for call in asked.purges] == [group, group]


@pytest.mark.parametrize("option", ["--group", "--endpoint", "--older-than"])
def test_an_empty_word_does_not_mean_everything(home: Home, asked: Asked, option: str) -> None:
    refused = run(home, "purge", "--ended", option, "", "--yes")
    assert refused.exit_code != 0
    assert f"{option} is empty" in refused.output
    assert not asked.purges


def test_old_says_its_unit(home: Home, asked: Asked) -> None:
    refused = run(home, "purge", "--older-than", "7", "--yes")
    assert "Write for example 7d" in str(refused.exception)
    assert not asked.purges


def test_limits_leave_what_is_kept_for_groups_as_it_is(home: Home, asked: Asked) -> None:
    keep_group(home, "a", 86400.0)
    keep_group(home, "b", 3600.0)
    assert set_limits(home, "--retention", "30d").exit_code == 0
    keep_group(home, "b", None)
    assert limits_in_force(home).groups == {"a": 86400.0}
    with pytest.raises(UsageError, match="group a: 1 s are out of bounds"):
        keep_group(home, "a", 1.0)

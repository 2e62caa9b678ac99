"""`fxhpc store move`: the store lies elsewhere, with all that it holds; none is begun anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fxhpc import FuncXClient, errors
from fxhpc.cli.main import commands
from fxhpc.forwarder.home import Home
from tests.process.homes import TestHome


def _store(home: TestHome, *words: str) -> Result:
    return CliRunner().invoke(commands, ["store", *words], env={"FXHPC_HOME": str(home.path)})


def test_a_moved_store_has_what_it_had(client: FuncXClient, home: TestHome, tmp_path: Path) -> None:
    place = tmp_path / "much room"
    function = client.register_function(len)
    large = client.run("x" * 400_000, endpoint_id="local", function_id=function)
    assert client.get_result(large, timeout=20) == 400_000

    assert _store(home, "move", str(place)).exit_code == 0

    assert client.get_result(large) == 400_000
    assert (
        client.get_result(client.run("ab", endpoint_id="local", function_id=function), timeout=20)
        == 2
    )
    assert Home(home.path).store == place / "store.db"
    assert not list(home.path.glob("store.db*"))
    assert "not empty" in str(_store(home, "move", str(tmp_path)).exception)
    assert _store(home, "move", "--back").exit_code == 0
    assert client.get_result(large) == 400_000
    assert not list(place.iterdir())
    assert Home(home.path).store == home.path / "store.db"


def test_without_its_directory_no_other_store_is_begun(
    home: TestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "scratch"
    Home(home.path).create()
    assert _store(home, "move", str(place)).exit_code == 0
    shutil.rmtree(place)

    with pytest.raises(errors.FxhpcError, match="which this host does not see"):
        FuncXClient(home.path)
    place.mkdir(mode=0o755)
    with pytest.raises(errors.FxhpcError, match="must be yours alone"):
        FuncXClient(home.path)
    assert not list(place.iterdir())


@pytest.mark.parametrize("within", ["payloads/x", "locals", "other"])
def test_a_store_is_not_moved_into_itself(home: TestHome, tmp_path: Path, within: str) -> None:
    Home(home.path).create()
    before = sorted(home.path.rglob("*"))
    (tmp_path / "link").symlink_to(home.path)
    for place in (home.path / within, tmp_path / "link" / within):
        assert "outside of it" in str(_store(home, "move", str(place)).exception)
    assert sorted(home.path.rglob("*")) == before

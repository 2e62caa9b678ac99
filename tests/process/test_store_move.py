"""`fxhpc store move`: the store lies elsewhere, with all that it holds; none is begun anew."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fxhpc import FuncXClient, errors
from fxhpc.cli.main import commands
from fxhpc.forwarder.home import MOVE_NOTE, Home
from fxhpc.forwarder.store import moving
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


@pytest.mark.parametrize("stage", ["copy", "switch", "remove"])
@pytest.mark.parametrize("back", [False, True])
def test_a_move_that_is_killed_is_finished_by_who_comes_next(
    client: FuncXClient, home: TestHome, tmp_path: Path, stage: str, back: bool
) -> None:
    """Before the first file is there, before the switch, or before anything is removed."""
    place, before = tmp_path / "much room", home.path
    function = client.register_function(len)
    task = client.run("x" * 400_000, endpoint_id="local", function_id=function)
    assert client.get_result(task, timeout=20) == 400_000
    if back:
        assert _store(home, "move", str(place)).exit_code == 0
        place, before = before, place
    killed = home.start(
        "killed.py",
        """
        import os, shutil, sys
        from pathlib import Path
        from fxhpc.forwarder.home import MOVE_NOTE, Home
        from fxhpc.forwarder.store import moving

        def deadly(before, harmless):
            def call(first, *rest, **named):
                if not harmless(first):
                    os.kill(os.getpid(), 9)
                return before(first, *rest, **named)

            return call

        def is_note(path):
            return Path(path).name == MOVE_NOTE

        if sys.argv[1] == "copy":
            shutil.copy2 = deadly(shutil.copy2, is_note)
        elif sys.argv[1] == "switch":
            moving.replace_file = deadly(moving.replace_file, is_note)
            Path.unlink = deadly(Path.unlink, lambda path: path.name != "store.path")
        else:
            moving._remove = deadly(moving._remove, lambda names: False)
        moving.move_store(Home(), Path(sys.argv[2]) if sys.argv[3] != "True" else None)
        """,
        stage,
        str(place),
        str(back),
    )
    assert killed.wait(20) == -9

    assert client.get_result(task, timeout=20) == 400_000
    there, gone = (place, before) if stage == "remove" else (before, place)
    assert Home(home.path).store == there / "store.db"
    assert not list(gone.glob("store.db*"))
    assert not (gone / "payloads").exists()
    assert not list(tmp_path.rglob("store.moving"))
    assert _store(home, "move", str(tmp_path / "other")).exit_code == 0
    assert client.get_result(task, timeout=20) == 400_000
    assert _store(home, "move", "--back").exit_code == 0
    assert client.get_result(task, timeout=20) == 400_000


def test_a_directory_that_was_made_anew_is_left_alone(home: TestHome, tmp_path: Path) -> None:
    """The note of a move that was killed names it; meanwhile it has another store."""
    Home(home.path).create()
    place = tmp_path / "place"
    place.mkdir(0o700)
    said = b"\0".join([b"mark", os.fsencode(home.path), os.fsencode(place)])
    (home.path / MOVE_NOTE).write_bytes(said)
    (place / MOVE_NOTE).write_bytes(said.replace(b"mark", b"other"))
    (place / "store.db").write_bytes(b"another home's")
    moving.finish_move(Home(home.path))
    assert (place / "store.db").exists()
    assert not (home.path / MOVE_NOTE).exists()

"""A home that is used from elsewhere: by an access file, until that is taken back."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fxhpc import FuncXClient, errors
from fxhpc.cli.main import commands
from fxhpc.testing.endpoint import RunningEndpoint
from tests.process.homes import TestHome, finish
from tests.waiting import eventually


def fxhpc(home: TestHome, *words: str, code: int = 0) -> Any:
    """What a command says, as JSON."""
    done = CliRunner().invoke(commands, ["--json", *words], env=home.environment)
    assert (done.exit_code != 0) == bool(code), f"{done.output} {done.exception!r}"
    return json.loads(done.stdout) if not code else done.exception


def test_a_laptop_is_granted_access_and_loses_it(home: TestHome, tmp_path: Path) -> None:
    file = tmp_path / "my laptop.json"
    opened = fxhpc(home, "access", "init", "--address", "127.0.0.1")
    assert fxhpc(home, "access", "init") == opened  # said again, it changes nothing
    assert fxhpc(home, "access", "export", str(file), "--name", "laptop")["file"] == str(file)
    assert file.stat().st_mode & 0o777 == 0o600
    secret = json.loads(file.read_text())["secret_key"]
    assert secret not in "".join(
        path.read_text(errors="replace") for path in home.path.rglob("*") if path.is_file()
    )
    (other,) = fxhpc(home, "access", "list")["granted"]
    assert (other["name"], other["kind"], other["connected"]) == ("laptop", "client", None)
    with RunningEndpoint(home.path, "cluster", workers=1):
        laptop = home.start(
            "laptop.py",
            """
            import os, sys
            from fxhpc import FuncXClient, errors
            fxc = FuncXClient(sys.argv[1])
            function = fxc.register_function(len)
            def run(text):
                return fxc.get_result(
                    fxc.run(text, endpoint_id="cluster", function_id=function), timeout=30
                )
            print(run("x" * 1_000_000), flush=True)
            try:
                fxc.run("x", endpoint_id="local", function_id=function)
            except errors.EndpointNotFound as error:
                print("embedded=True" in str(error), flush=True)
            sys.stdin.readline()
            try:
                run("x")
            except errors.ForwarderUnreachable as error:
                print("taken back" in str(error), flush=True)
            """,
            str(file),
        )
        assert laptop.stdout is not None
        assert laptop.stdin is not None
        line = laptop.stdout.readline()
        assert line == "1000000\n", laptop.communicate()
        assert laptop.stdout.readline() == "True\n"
        eventually(lambda: fxhpc(home, "access", "list")["granted"][0]["connected"])
        assert fxhpc(home, "access", "revoke", "laptop") == {"left": []}
        assert finish(laptop) == "True\n"
        assert fxhpc(home, "access", "list")["granted"] == []
        fxhpc(home, "access", "revoke", "--all")
        assert home.forwarder().hosts == ""
    assert not (home.path / "access.json").exists()


def test_words_for_what_cannot_be(home: TestHome, tmp_path: Path) -> None:
    """Nothing here needs a forwarder that answers."""
    file = tmp_path / "laptop.json"
    fxhpc(home, "access", "export", str(file), code=1)  # there is no port yet
    assert not file.exists()
    file.write_text("{}")
    with pytest.raises(errors.HomeError, match=r"chmod 600.*revoke"):
        FuncXClient(file)
    file.chmod(0o600)
    with pytest.raises(errors.HomeError, match="no access file"):
        FuncXClient(file)
    with pytest.raises(errors.UsageError, match=r"tcp://HOST:PORT"):
        FuncXClient("tcp://login", access=file)
    with pytest.raises(errors.UsageError, match="FXHPC_ACCESS"):
        FuncXClient("tcp://login:4711")
    with pytest.raises(errors.UsageError, match="access"):
        FuncXClient("ssh://login", access=file)
    made = dict.fromkeys(("name", "server_key", "public_key", "secret_key"), "x" * 40)
    file.write_text(json.dumps({**made, "addresses": ["tcp://127.0.0.1:9"]}))
    with pytest.raises(errors.ForwarderUnreachable, match=r"fxhpc access init") as caught:
        FuncXClient(file)
    assert "x" * 40 not in str(caught.value)


def test_what_is_written_is_not_written_over(home: TestHome, tmp_path: Path) -> None:
    file = tmp_path / "laptop.json"
    before = fxhpc(home, "access", "init", "--address", "127.0.0.1")
    fxhpc(home, "access", "grant", "laptop", "--file", str(file))
    text = file.read_text()
    for words in (("export", str(file)), ("export", str(file), "--name", "other")):
        fxhpc(home, "access", *words, code=1)
    assert file.read_text() == text
    assert len(fxhpc(home, "access", "list")["granted"]) == 1
    rotated = fxhpc(home, "access", "init", "--rotate")
    assert rotated == {"addresses": before["addresses"], "ended": 1}
    fxhpc(home, "access", "grant", "other", "--file", str(tmp_path / "other.json"))
    with pytest.raises(errors.ForwarderUnreachable, match="made anew"):
        FuncXClient(file)
    fxhpc(home, "access", "revoke", "--all")


def test_taken_back_from_one_while_another_gets_it(home: TestHome, tmp_path: Path) -> None:
    """What is granted meanwhile does not grant again what was taken back, and is not lost."""
    fxhpc(home, "access", "init", "--address", "127.0.0.1")
    fxhpc(home, "access", "export", str(tmp_path / "old.json"))
    started = [
        home.start(f"{words[-1]}.py", "from fxhpc.cli.main import main; main()", "access", *words)
        for words in (
            ("revoke", "old"),
            ("grant", "new", "--file", str(tmp_path / "new.json")),
            ("grant", "other", "--file", str(tmp_path / "other.json")),
        )
    ]
    for one in started:
        one.wait(30)
    names = {one["name"] for one in fxhpc(home, "access", "list")["granted"]}
    assert names == {"new", "other"}
    fxhpc(home, "access", "revoke", "--all")


def test_a_forwarder_that_stands_still_has_not_ended_a_connection(
    home: TestHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxhpc.cli.access._SEEN_S", 0.2)
    fxhpc(home, "access", "init", "--address", "127.0.0.1")
    owner = home.forwarder()
    os.kill(owner.pid, signal.SIGSTOP)
    try:
        error = fxhpc(home, "access", "revoke", "--all", code=1)
    finally:
        os.kill(owner.pid, signal.SIGCONT)
    for word in (f"pid {owner.pid}", "has not looked", "kill -9"):
        assert word in str(error)
    monkeypatch.undo()
    fxhpc(home, "access", "revoke", "--all")


@pytest.mark.parametrize("address", ["tcp://login:1", "two words", "-x", "::1", "login:45678"])
def test_an_address_is_a_host(home: TestHome, address: str) -> None:
    error = fxhpc(home, "access", "init", f"--address={address}", code=1)
    assert "IPv4" in str(error)
    assert not home.path.exists()

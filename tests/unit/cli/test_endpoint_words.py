"""Commands about endpoints that need no process: names, files, homes of others, other hosts."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc import hosts
from fxhpc.cli import actions, main, output
from fxhpc.endpoint import identity, lifecycle, places
from fxhpc.endpoint.leftovers import left_blocks
from fxhpc.endpoint.state import State, look
from fxhpc.errors import EndpointElsewhere
from fxhpc.forwarder.home import Home
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.interchange.events import BlockKnown
from fxhpc.protocol.provision import BlockRef, InterchangeSpec

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""

LOCAL = "engine:\n  provider:\n    type: LocalProvider\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FXHPC_HOME", str(tmp_path / "home"))
    return Home()


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "local.yaml"
    path.write_text(LOCAL)
    return path


@pytest.fixture
def midway(home: Home, yaml: Path) -> EndpointDirectory:
    actions.configure(home, "midway", str(yaml), force=False)
    return places.find(home, "midway")


def fails(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says on its error."""
    assert main.main(["endpoint", *arguments]) == code
    return capsys.readouterr().err


def record(host: str, **changes: object) -> identity.SupervisorRecord:
    found = identity.SupervisorRecord(
        host=host,
        boot="another boot",
        pid=4711,
        started=1.0,
        version="0.1.0",
        since=time.time(),
        phase="running",
    )
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def here() -> str:
    return os.uname().nodename


# --- names and files -----------------------------------------------------------------------------


def test_local_has_no_commands(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(["status", "local"], output.USAGE, capsys)
    assert "fxhpc task list --endpoint local" in said


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/b", ".hidden", "a b", "x" * 65, "-x", "é", "local", LOCAL_ENDPOINT],
)
def test_names_that_no_endpoint_may_have(
    name: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["endpoint", "configure", "--", name]) == output.USAGE
    assert "name" in capsys.readouterr().err
    assert not home.path.exists()


def test_an_unknown_endpoint_names_the_one_that_was_meant(
    midway: EndpointDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("start", "stop", "restart", "status", "logs", "check", "delete"):
        said = fails([verb, "midwya"], output.UNKNOWN_ENDPOINT, capsys)
        assert "did you mean 'midway'?" in said
        assert "fxhpc endpoint configure midwya" in said


def test_configure_writes_private_files_once(
    home: Home, yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["endpoint", "configure", "midway", "--from", str(yaml), "--json"]) == 0
    config = Path(json.loads(capsys.readouterr().out)["config"])
    assert config.read_text() == LOCAL
    assert config.stat().st_mode & 0o777 == 0o600
    assert config.parent.stat().st_mode & 0o777 == 0o700
    assert "--force" in fails(["configure", "midway"], output.FAILED, capsys)
    assert main.main(["endpoint", "configure", "midway", "--force"]) == 0
    assert config.read_text() != LOCAL


@pytest.mark.parametrize("kind", actions.KINDS)
def test_configure_from_examples(kind: str, home: Home) -> None:
    assert main.main(["endpoint", "configure", "x", "--from", kind]) == 0
    assert (home.endpoints / "x" / "config.yaml").read_text().startswith("#")


def test_a_bad_file_makes_no_endpoint(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("max_blokcs: 3\n")
    said = fails(["configure", "x", "--from", str(bad)], output.BAD_CONFIG, capsys)
    assert "max_blokcs" in said
    assert "missing.yaml" in fails(
        ["configure", "x", "--from", str(tmp_path / "missing.yaml")], output.BAD_CONFIG, capsys
    )
    assert places.known_names(home) == []


def test_a_configuration_that_was_removed_or_broken(
    midway: EndpointDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    midway.config.write_text("engine: [\n")
    assert "config.yaml:" in fails(["start", "midway"], output.BAD_CONFIG, capsys)
    midway.config.unlink()
    said = fails(["start", "midway"], output.UNKNOWN_ENDPOINT, capsys)
    assert "fxhpc endpoint configure midway" in said


def test_a_directory_that_is_open_to_others(
    midway: EndpointDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    midway.path.chmod(0o755)
    said = fails(["start", "midway"], output.FAILED, capsys)
    assert f"chmod 700 {midway.path}" in said
    assert main.main(["endpoint", "list"]) == 0
    assert "unusable" in capsys.readouterr().out


def test_a_file_where_the_directory_should_be(
    home: Home, yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.create()
    home.endpoints.mkdir(mode=0o700)
    (home.endpoints / "midway").write_text("")
    said = fails(["configure", "midway", "--from", str(yaml)], output.FAILED, capsys)
    assert "not a directory" in said


def test_a_full_disk(
    midway: EndpointDirectory,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(path: Path, data: bytes, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(lifecycle, "replace_file", full)
    said = fails(["start", "midway"], output.FAILED, capsys)
    assert "No space left" in said
    assert "free space" in said


@contextlib.contextmanager
def held(lock: Path) -> Iterator[None]:
    """A process of its own holds a lock: it is not seen by the one that holds it."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(20)


# --- who runs where ------------------------------------------------------------------------------


def test_what_does_not_run_cannot_be_stopped(
    midway: EndpointDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    said = fails(["stop", "midway"], output.NOT_RUNNING, capsys)
    assert "fxhpc endpoint start midway" in said
    assert main.main(["endpoint", "status", "midway"]) == output.NOT_RUNNING
    assert "never started" in capsys.readouterr().out


def test_a_stale_file_and_a_reused_pid_mean_that_it_was_killed(midway: EndpointDirectory) -> None:
    boot = hosts.boot_id()
    dead = record(here(), boot=boot, pid=2**22 + 1)
    identity.write_supervisor(midway, dead)
    assert look(midway).state == State.FAILED
    other = record(here(), boot=boot, pid=os.getpid(), started=1.0)
    identity.write_supervisor(midway, other)
    assert look(midway).state == State.FAILED
    booted = record(here(), pid=os.getpid(), started=hosts.start_time(os.getpid()))
    identity.write_supervisor(midway, booted)
    assert look(midway).state == State.FAILED
    booted.boot = boot
    identity.write_supervisor(midway, booted)
    # It lives, and has not the lock of this directory, which is a copy of its own then.
    assert look(midway).state == State.INITIALIZED
    with held(midway.supervisor_lock):
        assert look(midway).state == State.RUNNING


def test_an_endpoint_on_another_login_node(
    midway: EndpointDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    identity.write_supervisor(midway, record("login2"))
    for verb in ("start", "stop", "restart", "delete"):
        said = fails([verb, "midway"], output.RUNNING, capsys)
        assert "login2" in said
        assert "4711" in said
        assert "last sign of life" in said
    assert main.main(["endpoint", "status", "midway"]) == output.OK
    assert "elsewhere on host login2" in capsys.readouterr().out


def test_one_that_gives_no_sign_of_life_is_taken_over_on_request(
    midway: EndpointDirectory, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    identity.write_supervisor(midway, record("login2"))
    old = time.time() - identity.STALE_S - 10
    os.utime(midway.supervisor, (old, old))
    state = look(midway)
    assert (state.state, state.host) == (State.LOST, "login2")
    assert state.silent_s > identity.STALE_S
    assert "--take-over" in fails(["start", "midway"], output.RUNNING, capsys)
    assert main.main(["endpoint", "status", "midway"]) == output.NOT_RUNNING
    lifecycle.prepare(home, "midway", InterchangeSpec(), take_over=True)
    assert not midway.supervisor.exists()
    assert look(midway).state == State.INITIALIZED


def test_nobody_takes_over_what_holds_its_lock(midway: EndpointDirectory, home: Home) -> None:
    identity.write_supervisor(midway, record("login2"))
    old = time.time() - identity.STALE_S - 10
    os.utime(midway.supervisor, (old, old))
    with held(midway.supervisor_lock):
        assert look(midway).state == State.ELSEWHERE
        with pytest.raises(EndpointElsewhere):
            lifecycle.prepare(home, "midway", InterchangeSpec(), take_over=True)
    assert not identity.is_locked(midway.supervisor_lock)


def test_another_name_of_this_very_kernel_is_no_other_host(midway: EndpointDirectory) -> None:
    identity.write_supervisor(midway, record("old-name", boot=hosts.boot_id()))
    assert look(midway).state == State.FAILED


def test_why_it_failed_is_told(
    midway: EndpointDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    midway.failure.write_text("port 5000 is taken\n")
    assert main.main(["endpoint", "status", "midway", "--json"]) == output.NOT_RUNNING
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["trouble"]) == (State.FAILED, "port 5000 is taken")


def test_blocks_that_were_left_behind_are_told(
    midway: EndpointDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    from fxhpc.interchange.blocks.block_journal import BlockJournal

    midway.raise_epoch()  # it was started once
    journal = BlockJournal(str(midway.known_blocks))
    journal.write(BlockKnown(BlockRef(1, "fxhpc-midway-1", "77"), True))
    journal.write(BlockKnown(BlockRef(2, "fxhpc-midway-2"), True))
    journal.write(BlockKnown(BlockRef(3, "fxhpc-midway-3", "79"), True))
    journal.write(BlockKnown(BlockRef(1, "fxhpc-midway-1", "77"), False))
    journal.close()
    assert left_blocks(midway) == [
        "block 2, named fxhpc-midway-2",
        "block 3, job 79",
    ]
    assert main.main(["endpoint", "status", "midway"]) == output.NOT_RUNNING
    assert "block 3, job 79" in capsys.readouterr().out


# --- logs and deleting ---------------------------------------------------------------------------


def test_logs_of_each_process(
    midway: EndpointDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    midway.log.write_text("one\ntwo\nthree\n")
    (midway.logs / "supervisor.log").write_text("watching\n")
    midway.manager_logs.mkdir()
    (midway.manager_logs / "manager-7-node1-0a1b2c.log").write_text("registered\n")
    midway.blocks.mkdir()
    (midway.blocks / "fxhpc-midway-12345678-7.1.2.submit.stderr").write_text("no such module\n")

    def shown(*arguments: str) -> str:
        assert main.main(["endpoint", "logs", "midway", *arguments]) == 0
        return capsys.readouterr().out

    assert shown("-n", "2") == "two\nthree\n"
    assert shown("--supervisor") == "watching\n"
    assert shown("--provisioner") == ""
    assert "registered" in shown("--manager", "0a1b")
    both = shown("--block", "7")
    assert "no such module" in both
    assert "registered" in both
    assert shown("--path").strip() == str(midway.log)
    assert json.loads(shown("--json", "-n", "1"))["logs"][0]["lines"] == ["three"]
    assert "status midway" in fails(["logs", "midway", "--block", "9"], output.FAILED, capsys)
    with midway.log.open("a") as file:
        file.write("block 9 has failed: sbatch: error: no\nblock 99 runs\n")
    assert shown("--block", "9") == "block 9 has failed: sbatch: error: no\n"


def test_delete_asks_unless_told(
    midway: EndpointDirectory, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--yes" in fails(["delete", "midway"], output.FAILED, capsys)
    assert midway.path.exists()
    assert main.main(["endpoint", "delete", "midway", "--yes"]) == 0
    assert not midway.path.exists()


def test_delete_leaves_what_is_not_ours_in_state_dir(
    home: Home, yaml: Path, tmp_path: Path
) -> None:
    state = tmp_path / "shared"
    yaml.write_text(f"state_dir: {state}\n{LOCAL}")
    actions.configure(home, "midway", str(yaml), force=False)
    spec = actions.load_spec(places.find(home, "midway"), "midway")
    directory = lifecycle.prepare(home, "midway", spec, take_over=False)
    directory.state.mkdir(mode=0o700, exist_ok=True)
    directory.keys("manager")
    directory.blocks.mkdir()
    (directory.state / "mine.txt").write_text("keep")
    found = places.find(home, "midway")
    assert found.state == directory.state
    lifecycle.delete(found, "midway")
    assert not found.path.exists()
    assert [path.name for path in directory.state.iterdir()] == ["mine.txt"]

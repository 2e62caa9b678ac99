"""An endpoint's life by its commands: started, looked at, killed in parts, stopped, deleted."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from homes import TestHome
from lives import titled

from fxhpc import hosts
from fxhpc.cli import actions
from fxhpc.endpoint import identity, lifecycle, places
from fxhpc.endpoint.leftovers import left_blocks
from fxhpc.endpoint.state import State, look, read_status
from fxhpc.errors import EndpointStopFailed
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.provision import InterchangeSpec, StopRequest
from fxhpc.protocol.sizes import SizeLimits
from tests.waiting import LIMIT, eventually

LOCAL = """\
max_workers_per_node: 1
engine:
  provider:
    type: LocalProvider
    max_blocks: 1
"""


class Commands:
    """`fxhpc` in a home."""

    def __init__(self, home: TestHome) -> None:
        self.home = home
        self.directory = EndpointDirectory(home.path / "endpoints" / "midway")
        home.scripts.mkdir(parents=True, exist_ok=True)

    def start_command(self, *words: str, module: str = "main") -> subprocess.Popen[str]:
        """Run a command, and go on."""
        process = subprocess.Popen(
            [sys.executable, "-m", f"fxhpc.cli.{module}", *words],
            env=self.home.environment,
            cwd=self.home.scripts,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.home._started.append(process)
        return process

    def run(self, *words: str, code: int = 0, module: str = "main") -> str:
        """Run a command to its end: what it printed, or its error if it is to fail."""
        process = self.start_command(*words, module=module)
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == code, f"{words}: {process.returncode}\n{out}\n{err}"
        return err if code else out

    def json(self, *words: str, code: int = 0) -> Any:
        """Run a command to its end: the document that it printed."""
        process = self.start_command(*words, "--json")
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == code, f"{words}: {process.returncode}\n{out}\n{err}"
        return json.loads(out)

    def configure(self, text: str = LOCAL) -> None:
        """Configure the endpoint, as the command does."""
        places.create(Home(self.home.path), "midway")
        self.directory.config.write_text(text)

    def pids(self) -> tuple[int, int]:
        """The pids of supervisor and interchange."""
        state = look(self.directory)
        assert state.pid
        assert state.interchange
        return state.pid, state.interchange

    def log(self, name: str = "supervisor") -> str:
        return (self.directory.logs / f"{name}.log").read_text()


@pytest.fixture
def fxhpc(home: TestHome) -> Iterator[Commands]:
    """Commands, and a configured endpoint `midway`, of which nothing is left."""
    commands = Commands(home)
    commands.configure()
    yield commands
    if commands.directory.path.exists() and look(commands.directory).alive:
        commands.run("endpoint", "stop", "midway", "--now")


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line that a command prints; it reads no further."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], LIMIT)[0], "nothing was printed"
    return process.stdout.readline()


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)


def state(fxhpc: Commands) -> str:
    return look(fxhpc.directory).state


# --- start and stop ------------------------------------------------------------------------------


def test_a_life_from_configure_to_delete(fxhpc: Commands) -> None:
    config = fxhpc.home.scripts / "local.yaml"
    config.write_text(LOCAL)
    fxhpc.run("endpoint", "configure", "midway", "--from", str(config), "--force")
    started = fxhpc.json("endpoint", "start", "midway")
    assert (started["state"], started["name"]) == ("running", "midway")
    supervisor, interchange = fxhpc.pids()
    assert (started["pid"], started["interchange_pid"]) == (supervisor, interchange)
    assert psutil.Process(supervisor).cmdline()[0] == "fxhpc: supervisor midway"
    assert "running on host" in fxhpc.run("endpoint", "status", "midway")
    shown = fxhpc.run("endpoint", "list").splitlines()
    assert shown[1].split()[:2] == ["midway", "running"]
    assert "listens at" in fxhpc.run("endpoint", "logs", "midway")

    again = fxhpc.run("endpoint", "start", "midway", code=5)
    assert str(supervisor) in again
    assert "fxhpc endpoint restart midway" in again
    assert "runs" in fxhpc.run("endpoint", "delete", "midway", "--yes", code=5)

    assert "stopped" in fxhpc.run("endpoint", "stop", "midway")
    assert not hosts.is_alive(supervisor, 0)
    assert not hosts.is_alive(interchange, 0)
    left = {path.name for path in fxhpc.directory.path.iterdir()}
    assert not left & {
        "supervisor.json", "interchange.json", "status.json", "stop.json", "managers.address",
        "failure.txt",
    }  # fmt: skip
    assert fxhpc.run("endpoint", "stop", "midway", code=4)
    assert fxhpc.json("endpoint", "status", "midway", code=4)["state"] == "stopped"
    fxhpc.run("endpoint", "delete", "midway", "--yes")
    assert not fxhpc.directory.path.exists()
    assert fxhpc.json("endpoint", "list") == []


def test_tasks_run_on_it(fxhpc: Commands) -> None:
    fxhpc.run("endpoint", "start", "midway")
    out = fxhpc.home.run(
        "submit.py",
        """
        from fxhpc import FuncXClient

        def double(x):
            return 2 * x

        with FuncXClient() as client:
            function = client.register_function(double)
            task = client.run(21, endpoint_id="midway", function_id=function)
            print(client.get_result(task, timeout=50))
        """,
    )
    assert out.split() == ["42"]

    def managers() -> Any:
        """Of the report, which is written anew at most once a second."""
        return read_status(fxhpc.directory).get("managers")

    eventually(managers)
    found = fxhpc.json("endpoint", "status", "midway")
    assert found["report"]["report"]["blocks"][0]["block"] == 1
    shown = fxhpc.run("endpoint", "status", "midway")
    assert "BLOCK" in shown
    assert "MANAGER" in shown
    fxhpc.run("endpoint", "stop", "midway")
    assert not titled(fxhpc.home, "manager")


def test_delete_tells_how_many_tasks_wait(fxhpc: Commands) -> None:
    fxhpc.configure(LOCAL.replace("engine:", "engine:\n  strategy: none"))
    fxhpc.run("endpoint", "start", "midway")
    fxhpc.home.run(
        "submit.py",
        """
        import os
        from fxhpc import FuncXClient

        with FuncXClient() as client:
            function = client.register_function(os.getpid)
            for _ in range(3):
                client.run(endpoint_id="midway", function_id=function)
        """,
    )
    process = fxhpc.start_command("endpoint", "delete", "midway", "--yes", "--force")
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert "3 tasks" in err


def test_i03_two_starts_at_once(fxhpc: Commands) -> None:
    starts = [fxhpc.start_command("endpoint", "start", "midway") for _ in range(2)]
    codes = []
    for process in starts:
        process.communicate(timeout=LIMIT)
        codes.append(process.returncode)
    assert sorted(codes) == [0, 5]
    assert state(fxhpc) == State.RUNNING


def test_a_start_that_another_command_stops_says_so(fxhpc: Commands) -> None:
    starting = fxhpc.start_command("endpoint", "start", "midway")
    # It has a supervisor, whose interchange takes a moment to be ready; and longer here.
    supervisor = eventually(lambda: identity.read_supervisor(fxhpc.directory))
    assert supervisor is not None
    pid = supervisor.pid
    os.kill(pid, signal.SIGSTOP)
    stopping = fxhpc.start_command("endpoint", "stop", "midway")
    eventually(fxhpc.directory.stop_request.exists)
    os.kill(pid, signal.SIGCONT)
    stopping.communicate(timeout=LIMIT)
    assert stopping.returncode == 0
    _, err = starting.communicate(timeout=LIMIT)
    assert starting.returncode == 1
    assert "another command" in err
    # Whether its interchange had begun before the stop came is a matter of luck.
    assert state(fxhpc) in (State.INITIALIZED, State.STOPPED)


def test_a_stop_that_another_start_follows_says_so(
    fxhpc: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fxhpc.json("endpoint", "start", "midway")
    stop = lifecycle.stop

    def stop_and_start_again(*arguments: Any) -> None:
        assert stop(*arguments) == ""
        fxhpc.run("endpoint", "start", "midway")

    monkeypatch.setattr(lifecycle, "stop", stop_and_start_again)
    with pytest.raises(EndpointStopFailed, match="another command has started it again"):
        actions.stop(Home(fxhpc.home.path), "midway", StopRequest(), None)
    assert fxhpc.pids()[0] != first["pid"]
    lifecycle.sweep(fxhpc.directory)  # of a command that is slower still
    assert state(fxhpc) == State.RUNNING


def test_a_disk_that_is_full_keeps_nothing_running(fxhpc: Commands) -> None:
    fxhpc.run("endpoint", "start", "midway")
    pids = fxhpc.pids()
    # No file of this name can be written; that stands for any that cannot.
    fxhpc.directory.stop_request.mkdir()
    assert "cannot be written" in fxhpc.run("endpoint", "restart", "midway", code=1)
    assert fxhpc.pids() == pids
    process = fxhpc.start_command("endpoint", "stop", "midway", "--now")
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert "warning" in err
    assert "stopped as its configuration says" in err
    assert not any(hosts.is_alive(pid, 0) for pid in pids)


def test_a_copy_has_nothing_of_what_was_copied(fxhpc: Commands) -> None:
    fxhpc.configure(LOCAL + "    init_blocks: 1\n")
    first = fxhpc.json("endpoint", "start", "midway")
    eventually(lambda: left_blocks(fxhpc.directory))
    for name in ("two", "three"):
        shutil.copytree(fxhpc.directory.path, fxhpc.directory.path.with_name(name))
    assert fxhpc.json("endpoint", "status", "two", code=4)["state"] == State.INITIALIZED
    assert "not running" in fxhpc.run("endpoint", "stop", "two", code=4)
    fxhpc.run("endpoint", "delete", "three", "--yes", "--force")
    again = fxhpc.json("endpoint", "start", "two")
    assert again["endpoint_id"] != first["endpoint_id"]
    assert fxhpc.pids() == (first["pid"], first["interchange_pid"])
    fxhpc.run("endpoint", "stop", "two")
    assert left_blocks(fxhpc.directory)


def test_endpoints_with_one_state_dir_leave_each_others_files_alone(fxhpc: Commands) -> None:
    state_dir = fxhpc.home.scripts / "state"
    (state_dir / "blocks").mkdir(parents=True)
    (state_dir / "blocks" / "mine").write_text("")
    config = fxhpc.home.scripts / "f.yaml"
    config.write_text(f"state_dir: {state_dir}\n{LOCAL}    init_blocks: 1\n")
    for name in ("one", "two"):
        fxhpc.run("endpoint", "configure", name, "--from", str(config))
        fxhpc.run("endpoint", "start", name)
    for name in ("one", "two"):
        eventually(lambda name=name: fxhpc.json("endpoint", "status", name)["report"]["managers"])
    fxhpc.run("endpoint", "stop", "one")
    fxhpc.run("endpoint", "delete", "one", "--yes")
    assert fxhpc.json("endpoint", "restart", "two")["state"] == State.RUNNING
    fxhpc.run("endpoint", "delete", "two", "--yes", "--force")
    assert [path.name for path in state_dir.rglob("*")] == ["blocks", "mine"]


def test_a_state_dir_that_cannot_be_made_is_told(fxhpc: Commands) -> None:
    fxhpc.configure("state_dir: /proc/x\n" + LOCAL)
    said = fxhpc.run("endpoint", "start", "midway", code=1)
    assert "/proc/x cannot be written: No such file or directory" in said


def test_a_renamed_endpoint_stays_what_it_is(fxhpc: Commands) -> None:
    first = fxhpc.json("endpoint", "start", "midway")
    fxhpc.run("endpoint", "stop", "midway")
    fxhpc.directory.path.rename(fxhpc.directory.path.with_name("two"))
    again = fxhpc.json("endpoint", "start", "two")
    assert again["endpoint_id"] == first["endpoint_id"]
    fxhpc.run("endpoint", "stop", "two")


def test_restart_keeps_the_id_and_changes_the_processes(fxhpc: Commands) -> None:
    first = fxhpc.json("endpoint", "start", "midway")
    again = fxhpc.json("endpoint", "restart", "midway")
    assert again["endpoint_id"] == first["endpoint_id"]
    assert {again["pid"], again["interchange_pid"]}.isdisjoint(
        {first["pid"], first["interchange_pid"]}
    )
    fxhpc.run("endpoint", "stop", "midway")
    fxhpc.configure("limits: {argument: 1MB}\n" + LOCAL)
    assert fxhpc.json("endpoint", "restart", "midway")["state"] == "running"
    record = fxhpc.directory.read_record()
    assert record is not None  # the forwarder and its clients read there what is too large
    assert record.limits == SizeLimits(argument=2**20)


def test_a_restart_with_a_broken_configuration_stops_nothing(fxhpc: Commands) -> None:
    fxhpc.run("endpoint", "start", "midway")
    before = fxhpc.pids()
    fxhpc.directory.config.write_text("max_blokcs: 1\n")
    assert "max_blokcs" in fxhpc.run("endpoint", "restart", "midway", code=6)
    assert fxhpc.pids() == before


def test_delete_with_force_stops_it(fxhpc: Commands) -> None:
    fxhpc.run("endpoint", "start", "midway")
    pids = fxhpc.pids()
    fxhpc.run("endpoint", "delete", "midway", "--yes", "--force")
    assert not fxhpc.directory.path.exists()
    assert not any(hosts.is_alive(pid, 0) for pid in pids)


# --- what dies -----------------------------------------------------------------------------------


def test_a_killed_interchange_is_started_again(fxhpc: Commands) -> None:
    fxhpc.run("endpoint", "start", "midway")
    supervisor, interchange = fxhpc.pids()
    kill(interchange)
    eventually(lambda: look(fxhpc.directory).interchange not in (0, interchange))
    eventually(lambda: state(fxhpc) == State.RUNNING)
    assert fxhpc.pids()[0] == supervisor
    assert "by SIGKILL" in fxhpc.log()
    assert fxhpc.json("endpoint", "status", "midway")["restarts"] == 1


def test_an_interchange_outlives_its_supervisor(fxhpc: Commands) -> None:
    fxhpc.run("endpoint", "start", "midway")
    supervisor, interchange = fxhpc.pids()
    kill(supervisor)
    eventually(lambda: state(fxhpc) == State.UNSUPERVISED)
    assert "restart" in fxhpc.run("endpoint", "status", "midway")
    fxhpc.run("endpoint", "start", "midway")  # replaces it
    assert not hosts.is_alive(interchange, 0)
    again, interchange = fxhpc.pids()
    assert again != supervisor
    kill(again)
    eventually(lambda: state(fxhpc) == State.UNSUPERVISED)
    fxhpc.run("endpoint", "stop", "midway")  # works on it directly
    assert not hosts.is_alive(interchange, 0)


def test_blocks_of_an_endpoint_that_was_killed_are_cancelled_by_stop(fxhpc: Commands) -> None:
    fxhpc.configure(LOCAL + "    init_blocks: 1\n")
    fxhpc.run("endpoint", "start", "midway")

    def managers() -> list[psutil.Process]:
        return titled(fxhpc.home, "fxhpc: manager")

    eventually(managers)
    for pid in fxhpc.pids():
        kill(pid)
    eventually(lambda: state(fxhpc) == State.FAILED)
    assert fxhpc.json("endpoint", "status", "midway", code=4)["left_blocks"]
    assert "was not running" in fxhpc.run("endpoint", "stop", "midway")
    assert not managers()
    assert not fxhpc.json("endpoint", "status", "midway", code=4)["left_blocks"]


def test_a_frozen_interchange_is_killed_after_the_timeout(fxhpc: Commands) -> None:
    fxhpc.run("endpoint", "start", "midway")
    supervisor, interchange = fxhpc.pids()
    address = fxhpc.directory.read_address()
    assert address is not None
    kill(interchange, signal.SIGSTOP)
    said = fxhpc.run("endpoint", "stop", "midway", "--timeout", "1s", code=1)
    assert "was killed" in said
    assert not Path(address.forwarder.removeprefix("ipc://")).parent.exists()
    assert not hosts.is_alive(supervisor, 0)
    assert not hosts.is_alive(interchange, 0)


# --- what cannot start ---------------------------------------------------------------------------


def test_i03_a_taken_port_is_named(fxhpc: Commands) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fxhpc.configure(f"engine:\n  worker_port: {port}\n" + LOCAL.partition("engine:\n")[2])
        said = fxhpc.run("endpoint", "start", "midway", code=1)
        assert str(port) in said
        assert "worker_port" in said
    assert state(fxhpc) == State.FAILED
    assert str(port) in fxhpc.json("endpoint", "status", "midway", code=4)["trouble"]
    fxhpc.run("endpoint", "start", "midway")
    assert not fxhpc.directory.failure.exists()


def test_a_start_that_takes_too_long_leaves_nothing(fxhpc: Commands) -> None:
    said = fxhpc.run("endpoint", "start", "midway", "--timeout", "1ms", code=1)
    assert "--timeout" in said
    assert not look(fxhpc.directory).alive
    fxhpc.run("endpoint", "start", "midway")


# --- in the foreground ---------------------------------------------------------------------------


def foreground(fxhpc: Commands, *words: str) -> subprocess.Popen[str]:
    process = fxhpc.start_command("endpoint", "start", "midway", "--foreground", *words)
    eventually(lambda: state(fxhpc) == State.RUNNING)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_logs_and_ends_by_a_signal(
    fxhpc: Commands, number: signal.Signals
) -> None:
    process = foreground(fxhpc)
    assert look(fxhpc.directory).pid == process.pid  # what a service manager watches
    kill(process.pid, number)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert "the interchange is ready" in err
    assert "listens at" in err
    assert state(fxhpc) == State.STOPPED


def test_in_the_foreground_a_document_says_that_it_is_up(fxhpc: Commands) -> None:
    process = foreground(fxhpc, "--json")
    assert json.loads(next_line(process))["state"] == "running"
    fxhpc.run("endpoint", "stop", "midway")
    assert process.wait(LIMIT) == 0


# --- what a supervisor looks after now and then --------------------------------------------------

#: A supervisor that looks around more often than it would.
OFTEN = """
import sys
from fxhpc.endpoint import identity
identity.SIGN_OF_LIFE_S = 0.1
from fxhpc.endpoint.supervisor import main
sys.exit(main([sys.argv[1], "-1"]))
"""


@pytest.fixture
def supervisor(fxhpc: Commands) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor of `midway`."""
    process = subprocess.Popen(
        [sys.executable, "-c", OFTEN, str(fxhpc.directory.path)],
        env=fxhpc.home.environment,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.msgpack.encode(InterchangeSpec()))
    process.stdin.close()
    eventually(lambda: state(fxhpc) == State.RUNNING)
    yield process
    process.terminate()
    process.wait(LIMIT)


def test_a_removed_directory_ends_it(fxhpc: Commands, supervisor: subprocess.Popen[bytes]) -> None:
    interchange = look(fxhpc.directory).interchange
    shutil.rmtree(fxhpc.directory.path, ignore_errors=True)
    # As processes of it may do, and perhaps have done.
    fxhpc.directory.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    supervisor.wait(LIMIT)
    assert not hosts.is_alive(interchange, 0)
    assert not fxhpc.directory.path.exists()


def test_whoever_takes_it_over_on_another_host_has_it(
    fxhpc: Commands, supervisor: subprocess.Popen[bytes]
) -> None:
    other = identity.SupervisorRecord(
        host="login2", boot="", pid=1, started=1.0, version="", since=1.0
    )
    identity.write_supervisor(fxhpc.directory, other)
    assert supervisor.wait(LIMIT) == 0
    assert identity.read_supervisor(fxhpc.directory) == other
    assert "login2" in fxhpc.log()


def test_a_killed_forwarder_is_started_again(
    fxhpc: Commands, supervisor: subprocess.Popen[bytes]
) -> None:
    from fxhpc.forwarder.attach import ensure_forwarder

    home = Home(fxhpc.home.path)
    first = ensure_forwarder(home.path)
    kill(first.pid)

    def another() -> bool:
        found = home.read_owner()
        return found is not None and found.pid != first.pid

    eventually(another)


# --- logs, check, funcX's words ------------------------------------------------------------------


def test_logs_are_followed_over_a_rotation(fxhpc: Commands) -> None:
    fxhpc.directory.logs.mkdir(mode=0o700, exist_ok=True)
    log = fxhpc.directory.log
    log.write_text("one\n")
    process = fxhpc.start_command("endpoint", "logs", "midway", "-f")
    assert next_line(process) == "one\n"
    with log.open("a") as file:
        file.write("two\n")
    assert next_line(process) == "two\n"
    log.rename(log.with_suffix(".log.1"))
    log.write_text("three\n")
    assert next_line(process) == "three\n"
    kill(process.pid, signal.SIGINT)
    assert process.wait(LIMIT) == 0


def test_check_tries_a_worker_here_and_in_a_block(fxhpc: Commands) -> None:
    found = fxhpc.json("endpoint", "check", "midway", "--on-node")
    assert found["ok"]
    assert "launch.sh" in found["script"]
    assert found["settings"]["provider"] == "LocalProvider"
    assert {finding["what"] for finding in found["findings"]} >= {"versions", "a task here"}
    (node,) = found["nodes"]
    assert node["fatal"] == ""
    assert node["executable"] == sys.executable
    assert node["room"]["workers"] == 1
    assert not list(fxhpc.directory.path.glob("check-*"))
    assert "launch.sh" in fxhpc.run("endpoint", "check", "midway", "--script")


def test_check_tells_what_is_wrong_though_a_worker_starts(fxhpc: Commands) -> None:
    fxhpc.configure(
        "state_dir: " + str(fxhpc.home.scripts / "typo" / "x") + "\ncores_per_worker: 5000\n"
        "address: no.such.host.invalid\n"
        + LOCAL.partition("\n")[2] + "    worker_init: no_such_command\n"
    )  # fmt: skip
    plain = fxhpc.json("endpoint", "check", "midway", code=1)
    told = {(finding["level"], finding["what"]): finding["text"] for finding in plain["findings"]}
    assert "is not there: " in told["warning", "state_dir"]
    assert "'no.such.host.invalid' has no address" in told["problem", "addresses"]
    assert not (fxhpc.home.scripts / "typo").exists()
    fxhpc.configure(LOCAL.replace("max_workers_per_node: 1", "cores_per_worker: 5000"))
    with fxhpc.directory.config.open("a") as file:
        file.write("    worker_init: no_such_command\n")
    found = fxhpc.json("endpoint", "check", "midway", "--on-node", code=1)
    texts = {finding["what"].rpartition(": ")[2]: finding for finding in found["findings"]}
    assert texts["workers"]["level"] == "problem"
    assert "no worker fits" in texts["workers"]["text"]
    assert texts["worker_init"]["level"] == "warning"
    assert "no_such_command" in texts["worker_init"]["text"]


def test_check_tells_why_a_node_would_fail(fxhpc: Commands) -> None:
    fxhpc.configure(LOCAL + "    worker_init: 'echo no module here >&2; exit 3'\n")
    found = fxhpc.json("endpoint", "check", "midway", "--on-node", code=1)
    (problem,) = [finding for finding in found["findings"] if finding["level"] == "problem"]
    assert "no module here" in problem["text"]


def test_the_verbs_of_funcx(fxhpc: Commands) -> None:
    def verb(*words: str, code: int = 0) -> str:
        return fxhpc.run("-c", str(fxhpc.home.path), *words, code=code, module="compat")

    config = fxhpc.home.scripts / "local.yaml"
    config.write_text(LOCAL)
    verb("configure", "--endpoint-config", str(config))
    assert (fxhpc.home.path / "endpoints" / "default" / "config.yaml").read_text() == LOCAL
    assert "up" in verb("start")
    assert verb("list").splitlines()[1].split()[:2] == ["default", "running"]
    verb("restart", "default")
    verb("stop")
    verb("stop", code=4)
    verb("delete", "default", "-y")
    assert "default" not in verb("list")


def test_paths_with_spaces_and_quotes(home: TestHome, tmp_path: Path) -> None:
    home.path = tmp_path / "a 'quoted' home"
    home.environment["FXHPC_HOME"] = str(home.path)
    commands = Commands(home)
    commands.configure()
    assert commands.json("endpoint", "check", "midway", "--on-node")["ok"]
    commands.run("endpoint", "start", "midway")
    commands.run("endpoint", "stop", "midway")

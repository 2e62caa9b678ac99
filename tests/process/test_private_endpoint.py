"""An executor with an endpoint of its own: it has blocks, and leaves nothing, whatever ends it."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest
from homes import TestHome, finish
from lives import titled

from tests.waiting import eventually

#: Put before a script: a configuration with blocks on this host.
CONFIG = """
import os, signal, sys, time
from fxhpc import Executor

CONFIG = {
    "engine": {
        "max_workers_per_node": 2,
        "provider": {"type": "LocalProvider", "init_blocks": 1, "max_blocks": 1},
    }
}

def hold(path):
    open(path, "w").close()
    time.sleep(1000)

def where(x):
    return os.getppid()
"""


def _script(code: str) -> str:
    return CONFIG + textwrap.dedent(code)


def _executors(home: TestHome) -> list[Path]:
    """The directories of private endpoints."""
    folder = home.path / "executors"
    return sorted(folder.iterdir()) if folder.exists() else []


def _nothing_is_left(home: TestHome) -> None:
    eventually(lambda: not _executors(home), within=20)
    eventually(lambda: not home.processes(), within=20)


def test_it_runs_tasks_and_leaves_nothing(home: TestHome) -> None:
    out = home.run(
        "plain.py",
        _script("""
            with Executor(config=CONFIG) as executor:
                assert executor.submit(pow, 2, 5).result(60) == 32
                assert list(executor.map(abs, range(-1000, 0))) == list(range(1000, 0, -1))
                beside = len(set(executor.map(where, range(2)))) == 1
                cwd = executor.submit(os.getcwd).result(60)
                status = executor.status()
                assert status["status"] == "online", status
                assert status["logs"][0]["total_workers"] == 2, status
                assert cwd == os.getcwd(), cwd
                assert executor.endpoint_id == executor.endpoint_id != "local"
            # It waited until all blocks were gone.
            assert os.listdir(os.path.join(os.environ["FXHPC_HOME"], "executors")) == []
            print("fine")
        """),
    )
    assert out == "fine\n"
    _nothing_is_left(home)


def test_a_state_directory_of_its_own(home: TestHome, tmp_path: Path) -> None:
    state = tmp_path / "it's shared"
    out = home.run(
        "state.py",
        _script("""
            with Executor(config={**CONFIG, "state_dir": sys.argv[1]}) as executor:
                assert executor.submit(pow, 2, 5).result(60) == 32
                (private,) = os.listdir(sys.argv[1])
                path = os.path.join(sys.argv[1], private)
                assert os.stat(path).st_mode & 0o777 == 0o700
                assert "managers.address" in os.listdir(path), os.listdir(path)
            assert os.listdir(sys.argv[1]) == []
            print("fine")
        """),
        str(state),
    )
    assert out == "fine\n"
    _nothing_is_left(home)


def test_why_nothing_runs(home: TestHome) -> None:
    out = home.run(
        "why.py",
        _script("""
            executor = Executor(config={**CONFIG, "python": "/nowhere/python3"})
            future = executor.submit(pow, 2, 5)
            while "/nowhere/python3" not in (reason := future.pending_reason()):
                time.sleep(0.05)
            assert "paused" in reason and "make another executor" in reason, reason
            assert "/nowhere/python3" in executor.status()["details"]["reason"]
            executor.shutdown(cancel_futures=True)
            assert future.cancelled()
            assert future.pending_reason() == ""
            print("fine")
        """),
    )
    assert out == "fine\n"
    _nothing_is_left(home)


def test_futures_fail_when_no_block_will_ever_come(home: TestHome) -> None:
    out = home.run(
        "hopeless.py",
        _script("""
            from fxhpc.errors import NodesUnavailable
            with Executor(config={**CONFIG, "python": "/nowhere/python3"}) as executor:
                futures = [executor.submit(pow, 2, x) for x in range(3)]
                for future in futures:
                    error = future.exception(60)
                    assert isinstance(error, NodesUnavailable), error
                    assert "/nowhere/python3" in str(error), error
                    assert "make another executor" in str(error), error
                try:
                    executor.submit(pow, 2, 5)
                except NodesUnavailable:
                    print("fine")
        """),
    )
    assert out == "fine\n"
    _nothing_is_left(home)


@pytest.mark.parametrize("ending", ["kill", "terminate", "interrupt", "exit", "error", "hangup"])
def test_whatever_ends_the_process_ends_its_blocks(
    home: TestHome, ending: str, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    process = home.start(
        "ended.py",
        _script("""
            with Executor(config=CONFIG) as executor:
                future = executor.submit(hold, sys.argv[1])
                while not os.path.exists(sys.argv[1]):
                    time.sleep(0.01)
                print(executor._attachment.connection._host.directory, flush=True)
                sys.stdin.readline()
                if sys.argv[2] == "exit":
                    future.cancel()
                    executor.shutdown(wait=False)
                    sys.exit(3)
                if sys.argv[2] == "error":
                    executor.shutdown(wait=False, cancel_futures=True)
                    os._exit(1)
                future.result()
        """),
        str(begun),
        ending,
    )
    assert process.stdout is not None
    sockets = Path(process.stdout.readline().strip())
    assert sockets.is_dir()
    assert len(_executors(home)) == 1
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    if ending == "interrupt":
        process.send_signal(signal.SIGINT)
    elif ending in ("kill", "terminate", "hangup"):
        numbers = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "hangup": signal.SIGHUP}
        process.send_signal(numbers[ending])
    process.communicate(timeout=30)
    _nothing_is_left(home)
    assert not sockets.exists()


def test_a_forked_child_leaves_the_parents_blocks_alone(home: TestHome) -> None:
    out = home.run(
        "forking.py",
        _script("""
            with Executor(config=CONFIG) as executor:
                manager = executor.submit(where, 0).result(60)
                for ending in (sys.exit, os._exit):
                    child = os.fork()
                    if child == 0:
                        ending(0)
                    os.waitpid(child, 0)
                child = os.fork()
                if child == 0:  # it has blocks of its own, if it wants some
                    other = executor.submit(where, 0).result(60)
                    executor.shutdown()
                    os._exit(0 if other != manager else 1)
                assert os.waitpid(child, 0)[1] == 0
                assert executor.submit(where, 0).result(60) == manager
            print("fine")
        """),
    )
    assert out.splitlines()[-1] == "fine"
    _nothing_is_left(home)


def test_a_task_that_no_block_is_long_enough_for(home: TestHome) -> None:
    out = home.run(
        "walltime.py",
        _script("""
            from fxhpc.errors import WalltimeTooLong
            provider = {"type": "SlurmProvider", "partition": "normal", "walltime": "00:10:00"}
            config = {"provider": provider, "strategy": "none"}
            spec = {"walltime": "01:00:00"}
            with Executor(config=config, resource_specification=spec) as executor:
                error = executor.submit(pow, 2, 5).exception(60)
            assert isinstance(error, WalltimeTooLong), repr(error)
            print("fine")
        """),
    )
    assert out == "fine\n"
    _nothing_is_left(home)


def test_two_executors_at_once(home: TestHome) -> None:
    out = home.run(
        "two.py",
        _script("""
            with Executor(config=CONFIG) as first:
                with Executor(config=CONFIG) as second:
                    futures = [executor.submit(where, 0) for executor in (first, second)]
                    assert len({future.result(60) for future in futures}) == 2
                assert first.submit(pow, 2, 3).result(60) == 8
            print("fine")
        """),
    )
    assert out == "fine\n"
    _nothing_is_left(home)


def test_an_interchange_that_dies_is_started_again_and_adopts_the_block(
    home: TestHome, tmp_path: Path
) -> None:
    process = home.start(
        "adopting.py",
        _script("""
            with Executor(config=CONFIG) as executor:
                manager = executor.submit(where, 0).result(60)
                print("ready", flush=True)
                sys.stdin.readline()
                assert executor.submit(where, 0).result(60) == manager
            print("fine")
        """),
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    (interchange,) = titled(home, "fxhpc: interchange")
    interchange.kill()
    eventually(
        lambda: [p.pid for p in titled(home, "fxhpc: interchange")] not in ([], [interchange.pid])
    )
    process.stdin.write("\n")
    process.stdin.flush()
    assert finish(process) == "fine\n"
    _nothing_is_left(home)


def test_futures_fail_with_a_reason_when_no_interchange_can_be_started(home: TestHome) -> None:
    process = home.start(
        "failing.py",
        _script("""
            from fxhpc.errors import EndpointStartFailed
            executor = Executor(config=CONFIG)
            assert executor.submit(pow, 2, 3).result(60) == 8
            future = executor.submit(time.sleep, 1000)
            print("ready", flush=True)
            try:
                future.result(60)
            except EndpointStartFailed as error:
                assert "somebody ended it" in str(error), error
            else:
                raise AssertionError
            try:
                executor.submit(pow, 2, 3).result(60)
            except EndpointStartFailed as error:
                assert "make another executor" in str(error), error
            executor.shutdown()
            print("fine")
        """),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (interchange,) = titled(home, "fxhpc: interchange")
    interchange.terminate()  # as somebody would who does not know whose it is
    assert finish(process) == "fine\n"
    _nothing_is_left(home)


def test_who_was_killed_with_its_interchange_is_cleaned_up_after(home: TestHome) -> None:
    process = home.start(
        "killed.py",
        _script("""
            executor = Executor(config=CONFIG)
            assert executor.submit(pow, 2, 3).result(60) == 8
            print("ready", flush=True)
            time.sleep(1000)
        """),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (interchange,) = titled(home, "fxhpc: interchange")
    interchange.suspend()  # so that it does not see the other's end
    process.kill()
    process.wait()
    interchange.kill()
    (left,) = _executors(home)
    home.run("next.py", _script("Executor(config=CONFIG).shutdown()"))
    eventually(lambda: left not in _executors(home), within=30)
    _nothing_is_left(home)


def test_what_is_wrong_is_said_at_once(home: TestHome, tmp_path: Path) -> None:
    yaml = tmp_path / "it's wrong.yaml"
    yaml.write_text("engine:\n  nodes_per_blok: 2\n  provider: {type: SlurmProvidr}\n")
    out = home.run(
        "wrong.py",
        _script("""
            from fxhpc.errors import ConfigError
            for config in (sys.argv[1], sys.argv[1] + ".missing", {"engine": {"nope": 1}},
                           {"engine": {"provider": object()}}):
                try:
                    Executor(config=config)
                except ConfigError as error:
                    print(len(error.problems), str(error).replace(chr(10), " "))
            for others in ({"max_workers": 3}, {"endpoint_id": "midway"}):
                try:
                    Executor(config=CONFIG, **others)
                except ValueError as error:
                    print(error)
        """),
        str(yaml),
    )
    lines = out.splitlines()
    assert "nodes_per_block" in lines[0]
    assert "SlurmProvider" in lines[0]
    assert int(lines[0].split()[0]) == 2
    assert ".missing" in lines[1]
    assert "nope" in lines[2]
    assert "what YAML can" in lines[3]
    assert [line.startswith("config= says where") for line in lines[4:]] == [True, True]
    _nothing_is_left(home)


def test_a_home_that_cannot_be_used(home: TestHome, tmp_path: Path) -> None:
    open_home = tmp_path / "open"
    open_home.mkdir(mode=0o755)
    os.chmod(open_home, 0o755)
    process = home.start(
        "home.py", _script("Executor(config=CONFIG, home=sys.argv[1])"), str(open_home)
    )
    _, err = process.communicate(timeout=60)
    assert "chmod 700" in err
    assert process.returncode == 1
    home.environment |= {"SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2"}
    home.environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FXHPC_HOME": str(open_home)}
    (tmp_path / "srun").touch(mode=0o755)
    process = home.start("job.py", _script("Executor()"))
    _, err = process.communicate(timeout=60)
    assert "FXHPC_ALLOCATION=0" in err.splitlines()[-1]


@pytest.fixture(autouse=True)
def _outside_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "PBS_")):
            monkeypatch.delenv(name)


def test_a_job_of_several_nodes(home: TestHome, tmp_path: Path) -> None:
    """With a stand-in for srun, which runs both tasks of the step on this host."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(
        "#!/bin/bash\n"
        'for n in 0 1; do SLURM_NODEID=$n bash "${@: -1}" & done\n'
        "trap 'kill $(jobs -p)' TERM; wait; wait\n"
    )
    srun.chmod(0o755)
    home.environment |= {
        "PATH": f"{srun.parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NAME": "mine",
        "FXHPC_WORKERS": "1",
    }
    process = home.start(
        "allocation.py",
        _script("""
            with Executor() as executor:
                managers = set()
                while len(managers) < 2:
                    managers |= set(executor.map(where, range(8)))
                assert executor.submit(os.getenv, "PARSL_WORKER_COUNT").result(60) == "1"
            with Executor(1) as executor:
                assert executor.endpoint_id != "", "on this node alone"
                assert executor.submit(pow, 2, 3).result(60) == 8
            print("fine")
        """),
    )
    out, err = process.communicate(timeout=60)
    assert out == "fine\n", err
    assert err.count("all 2 nodes of job 77") == 1
    assert not list(home.scripts.glob("cmd_*"))
    _nothing_is_left(home)

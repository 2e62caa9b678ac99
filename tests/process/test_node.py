"""A real manager as on a node: its share of the machine, its job's end, hostile surroundings."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from workers import tasks
from workers.interchange import ROOT, Interchange

from fxhpc.ids import task_id
from fxhpc.interchange.left_results import LeftResults
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import UNIT, Needs, pack
from fxhpc.protocol.outcome import LossCause, Outcome, OutcomeKind
from fxhpc.serialize import unpack_exception, unpack_result
from fxhpc.transport.keys import create_keys, new_keys

Start = Callable[..., Interchange]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts managers as on a node: nobody is watched, the specification lies in a file."""
    started: list[Interchange] = []

    def start(ready: bool = True, **options: Any) -> Interchange:
        defaults = {"file": tmp_path / "a manager's.json", "watch_pid": 0}
        interchange = Interchange(**(defaults | options))
        started.append(interchange)
        return interchange.ready() if ready else interchange

    yield start
    for interchange in started:
        interchange.close()


def value(outcome: Outcome) -> Any:
    assert outcome.kind == OutcomeKind.VALUE, unpack_exception(outcome.data)
    return unpack_result(outcome.data)


def said(interchange: Interchange) -> str:
    """What a manager that has ended had to say."""
    assert interchange.process.stderr is not None
    return interchange.process.stderr.read().decode()


def started(interchange: Interchange) -> int:
    return sum(sum(refs.ranges[1::2]) for refs in interchange.started)


# --- its share of the machine -----------------------------------------------------------------


def test_it_registers_with_what_its_job_has(start: Start) -> None:
    environ = {
        "PARSL_CORES": "3",
        "PARSL_MEMORY_GB": "1",
        "FXHPC_BLOCK": "7",
        "FXHPC_BLOCK_STARTED": str(time.time() - 100),
        "SLURM_JOB_ID": "123",
        "CUDA_VISIBLE_DEVICES": "2,3,5",
    }
    interchange = start(environ=environ, workers=0, walltime_s=1000.0, accelerators=["0", "1"])
    (register,) = interchange.registered
    assert (register.slots, register.cores, register.memory) == (2, 3, 2**30)
    assert (register.block, register.job, register.accelerators) == ("7", "123", 2)
    assert register.remaining_s == pytest.approx(900, abs=30)
    assert register.walltime_s == 1000
    assert register.python == ".".join(map(str, sys.version_info[:3]))


def test_cores_and_devices_go_to_whoever_replaces_a_worker(start: Start) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    interchange = start(
        affinity=f"list:{cores[0]}:{cores[-1]}",
        accelerators=["0", "1"],
        environ={"CUDA_VISIBLE_DEVICES": "6,7"},
    )
    expected = {("0", (cores[0],), "6"), ("1", (cores[-1],), "7")}
    for _ in range(2):
        found = {
            (rank, tuple(bound), device)
            for rank, bound, device in map(value, interchange.run(tasks.bound, (), ()))
        }
        assert found == expected
        (victim, *_) = map(value, interchange.run(tasks.pid, ()))
        os.kill(victim, signal.SIGKILL)
        interchange.until(lambda victim=victim: not psutil.pid_exists(victim))  # type: ignore[misc]
        interchange.until(lambda: len(_workers(interchange)) == 2)


def test_tasks_that_ask_for_cores_are_alone_on_them_in_a_batch_job(start: Start) -> None:
    cores = sorted(os.sched_getaffinity(0))
    job = {"SLURM_JOB_ID": "123", "SLURM_CPUS_ON_NODE": str(len(cores)), "FXHPC_BLOCK": "7"}
    interchange = start(environ=job, workers=0, max_workers=2, own_cores=True)
    stream = interchange.send(tasks.bound, (), (), needs=pack(Needs(cores=UNIT)))
    found = [value(outcome)[1] for outcome in interchange.wait(stream, 2)]
    assert sorted(found) == [[core] for core in cores[:2]] or len(cores) == 1
    ordinary = map(value, interchange.run(tasks.bound, (), ()))
    assert [bound for _, bound, _ in ordinary] == [cores, cores]


def _workers(interchange: Interchange) -> list[psutil.Process]:
    (seed,) = psutil.Process(interchange.process.pid).children()
    return seed.children()


def test_what_tasks_are_told(start: Start) -> None:
    interchange = start(workers=1, manager="m1", block="9", environ={"OMP_NUM_THREADS": None})
    names = (
        "FXHPC_TASK_ID",
        "GC_TASK_UUID",
        "FXHPC_BLOCK",
        "PARSL_WORKER_RANK",
        "PARSL_WORKER_COUNT",
        "PARSL_WORKER_POOL_ID",
        "PARSL_WORKER_BLOCK_ID",
        "OMP_NUM_THREADS",
    )
    stream = interchange.send(tasks.surroundings, names, names)
    for outcome in interchange.wait(stream, 2):
        task = task_id(stream, outcome.index)
        expected = dict(zip(names, (task, task, "9", "0", "1", "m1", "9", "1"), strict=True))
        assert value(outcome) == expected


def test_no_worker_fits(start: Start) -> None:
    interchange = start(ready=False, workers=0, environ={"PARSL_CORES": "2"}, cores_per_worker=4.0)
    assert interchange.process.wait(20) == 78
    assert "fxhpc: fatal: no worker fits on" in said(interchange)


def test_each_task_in_a_directory_of_its_own(start: Start, tmp_path: Path) -> None:
    sandbox = tmp_path / "not there yet" / "tasks"
    interchange = start(sandbox=str(sandbox), cwd=str(tmp_path))
    stream = interchange.send(tasks.write_file, ("result",), ("result",))
    for outcome in interchange.wait(stream, 2):
        directory = sandbox / task_id(stream, outcome.index)
        assert value(outcome) == str(directory)
        assert (directory / "result").read_text() == "kept"
    (outcome,) = interchange.run(tasks.surroundings, ("GC_TASK_SANDBOX_DIR",))
    assert value(outcome)["GC_TASK_SANDBOX_DIR"].startswith(str(sandbox))


def test_a_sandbox_that_cannot_be_made_is_the_tasks_error(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    interchange = start(sandbox=str(tmp_path / "file" / "tasks"))
    (outcome,) = interchange.run(tasks.double, (1,))
    assert "run_in_sandbox" in str(unpack_exception(outcome.data))


# --- the job's end -------------------------------------------------------------------------------


@pytest.mark.parametrize("left_s", [0, 3600])
def test_the_batch_system_ends_all_processes_at_once(start: Start, left_s: int) -> None:
    environ = {"FXHPC_BLOCK": "7", "FXHPC_BLOCK_STARTED": str(time.time() - 7200 + left_s)}
    interchange = start(environ=environ, walltime_s=7200.0)
    stream = interchange.send(tasks.nap, (60.0,), (60.0,), (60.0,))
    interchange.until(lambda: started(interchange) == 2)
    family = interchange.family()
    began = time.monotonic()
    for process in reversed(family):  # the workers first
        process.send_signal(signal.SIGTERM)
    interchange.until(lambda: interchange.bye)
    assert interchange.process.wait(5) == 0
    assert time.monotonic() - began < 2
    cause = LossCause.INTERRUPTED if left_s else LossCause.WALLTIME
    assert [lost.loss.cause for lost in interchange.lost] == [cause] * 2
    assert [refs.ranges for refs in interchange.returned] == [[2, 1]]
    assert "block 7" in interchange.lost[0].loss.text
    assert stream
    _, alive = psutil.wait_procs(family, timeout=2)
    assert not alive


# --- finding the interchange ------------------------------------------------------------------


def test_the_address_that_answers_is_taken(start: Start, tmp_path: Path) -> None:
    """One refuses, one is silent, and one is somebody else's who takes connections."""
    create_keys(tmp_path / "manager.key", "manager")
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            refusing = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        strange = f"tcp://127.0.0.1:{stranger.getsockname()[1]}"
        interchange = start(
            others=[refusing, "tcp://192.0.2.1:9", strange],
            key=new_keys("endpoint").public.decode(),
            key_file=str(tmp_path / "manager.key"),
            ready=False,
        )
        interchange.until(lambda: interchange.capacity is not None, 20)
        assert value(interchange.run(tasks.double, (1,))[0]) == 2


def test_alone_it_leaves_and_names_what_it_tried(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (tmp_path / "address").write_text(f"tcp://127.0.0.1:{port} ipc:///tmp/none/such/m\n")
    address_file = str(tmp_path / "address")
    interchange = start(ready=False, address_file=address_file, alone_s=1.0, workers=1)
    assert interchange.process.wait(20) == 1
    told = said(interchange)
    assert f"tcp://127.0.0.1:{port} (Connection refused)" in told
    assert "ipc:///tmp/none/such/m (No such file or directory)" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("ended", ["alone", "by a signal"])
def test_results_that_nobody_stored_are_left(start: Start, tmp_path: Path, ended: str) -> None:
    shared = tmp_path / "managers.address"
    alone_s = 1.0 if ended == "alone" else 600.0
    node = start(alone_s=alone_s, address_file=str(shared), ready=False)
    shared.write_text(node.address)
    node.ready()
    node.store = False
    stream = node.send(tasks.double, (1,), (2,))
    node.wait(stream, 2)
    node.away()
    if ended == "by a signal":
        began = time.monotonic()
        for process in node.family():
            process.send_signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    if ended == "by a signal":
        assert time.monotonic() - began < 2
    ((path, batch),) = LeftResults(tmp_path / "manager-results").look()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    runs = [run for results in batch for run in results.runs]
    assert {run.stream for run in runs} == {stream}
    assert sorted(value(outcome) for run in runs for outcome in run.outcomes) == [2, 4]


def test_what_is_acknowledged_late_is_left_too(start: Start, tmp_path: Path) -> None:
    shared = tmp_path / "managers.address"
    node = start(address_file=str(shared), ready=False)
    shared.write_text(node.address)
    node.ready()
    node.store = False
    node.wait(node.send(tasks.double, (1,), (2,)), 2)
    node.process.terminate()
    node.until(lambda: node.bye)
    assert node.process.wait(5) == 0
    assert len(list((tmp_path / "manager-results").iterdir())) == 1


def test_refused_for_its_version_it_says_so_to_whoever_reads_the_jobs_output(start: Start) -> None:
    interchange = start()
    interchange.say(msg.Refuse("manager m is fxhpc 2 (protocol 9), the interchange fxhpc 1"))
    assert interchange.process.wait(10) == 78
    assert "fxhpc: fatal: manager m is fxhpc 2" in said(interchange)


# --- surroundings -----------------------------------------------------------------------------


@pytest.mark.parametrize("home", [None, "/proc/1/nothing", "/dev/null"])
def test_without_a_home(start: Start, home: str | None) -> None:
    interchange = start(environ={"HOME": home, "USER": None, "LOGNAME": None, "TMPDIR": "/proc"})
    assert value(interchange.run(tasks.double, (1,))[0]) == 2
    assert len(value(interchange.run(tasks.echo, (b"x" * (2 << 20),))[0])) == 2 << 20


def test_in_a_directory_that_is_gone(start: Start, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        "import os, sys\n"
        f"os.rmdir({str(gone)!r})\n"
        "from fxhpc.manager.__main__ import main\n"
        "sys.exit(main())\n"
    )
    interchange = start(code=code, directory=str(gone), cwd="")
    assert value(interchange.run(tasks.double, (1,))[0]) == 2


def test_tasks_run_where_the_job_was_started(start: Start, tmp_path: Path) -> None:
    interchange = start(directory=str(tmp_path), cwd="")
    assert value(interchange.run(os.getcwd, ())[0]) == str(tmp_path)


def test_a_working_directory_is_made(start: Start, tmp_path: Path) -> None:
    interchange = start(cwd=str(tmp_path / "a" / "b"))
    assert value(interchange.run(os.getcwd, ())[0]) == str(tmp_path / "a" / "b")


#: What no node needs: it takes its time, or may not be there.
FOREIGN = {"parsl", "pydantic", "yaml", "click", "rich", "jinja2", "sqlite3", "psutil"}


def test_workers_import_little(start: Start) -> None:
    found = set(value(start().run(tasks.modules, ())[0]))
    # The test's own module of tasks brings the last one.
    assert not found & (FOREIGN | {"zmq"})


def test_managers_import_little() -> None:
    code = (
        "import json, sys, fxhpc.manager.__main__, fxhpc.manager.shell\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert not set(json.loads(done.stdout)) & FOREIGN


# --- logs -------------------------------------------------------------------------------------


def test_a_log_of_its_own_names_tasks(start: Start, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    interchange = start(log_dir=str(logs), worker_logs=True, manager="m1", block="3")
    stream = interchange.send(tasks.say_and_crash, ())
    interchange.until(lambda: interchange.lost)
    (path,) = [path for path in logs.iterdir() if "worker" not in path.name]
    assert path.name == f"manager-3-{os.uname().nodename}-m1.log"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    interchange.until(lambda: f"lost: task {task_id(stream, 0)}, attempt 1" in path.read_text())
    (worker_log,) = [path for path in logs.iterdir() if "worker" in path.name]
    assert "the last words" in worker_log.read_text()
    assert stat.S_IMODE(worker_log.stat().st_mode) == 0o600


def test_without_a_place_for_logs_it_works_all_the_same(start: Start) -> None:
    interchange = start(log_dir="/there/is/none", worker_logs=True)
    assert value(interchange.run(tasks.double, (1,))[0]) == 2

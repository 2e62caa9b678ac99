"""`fxhpc manager start`: managers that no block has brought join a running endpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from homes import TestHome

from fxhpc import Executor, FuncXClient
from fxhpc.endpoint import launch
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.testing.endpoint import RunningEndpoint
from tests.waiting import eventually


@pytest.fixture
def endpoint(home: TestHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEndpoint]:
    """A running endpoint without a manager."""
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    with RunningEndpoint(home.path, "midway", managers=0) as endpoint:
        spec = ManagerSpec(
            endpoint=b"",
            workers=0,
            max_workers=1,
            address_file=str(endpoint.directory.managers_address),
            key_file=str(endpoint.directory.manager_key),
            log_dir=str(endpoint.directory.manager_logs),
        )
        launch.install(endpoint.directory, spec)
        yield endpoint


def _start(home: TestHome, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "fxhpc.cli.main", "manager", "start", *arguments],
        env={**home.environment, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    home._started.append(process)
    return process


def _end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_a_manager_joins_and_drains(
    home: TestHome, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)  # a login node has one
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    process = _start(home, "--endpoint", "midway", "--workers", "2", PATH=path)
    with Executor(endpoint_id="midway") as executor:
        assert list(executor.map(abs, range(-9, 0))) == list(range(9, 0, -1))
        assert executor.submit(os.getenv, "PARSL_WORKER_COUNT").result(60) == "2"
        assert executor.submit(os.getenv, "FXHPC_BLOCK").result(60) is None
        begun = home.path / "begun"
        future = executor.submit(_begin_and_sleep, str(begun), 1.0)
        eventually(begun.exists)
        process.send_signal(signal.SIGINT)
        assert future.result(60) == 1.0  # what ran has ended well
    code, err = _end(process)
    assert code == 0, err
    assert "joining endpoint 'midway'" in err
    assert "is a node of no job: tasks run on this host" in err
    assert not list(endpoint.directory.state.glob("manager-*.json"))


def test_the_second_signal_does_not_wait(home: TestHome, endpoint: RunningEndpoint) -> None:
    process = _start(home, "--endpoint", "midway")
    with FuncXClient() as client, Executor(client=client, endpoint_id="midway") as executor:
        begun = home.path / "begun"
        future: Any = executor.submit(_begin_and_sleep, str(begun), 1000.0)
        eventually(begun.exists)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        while "once more" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert not future.done()  # it waits for another manager
        client.cancel(future.task_id, interrupt=True)
    assert process.returncode == 0


def test_all_nodes_of_a_job(home: TestHome, endpoint: RunningEndpoint, tmp_path: Path) -> None:
    """With a stand-in for srun, which runs both tasks of the step on this host."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(
        '#!/bin/bash\necho "$@" > $OUT\n'
        'while [ "$1" != /bin/sh ]; do shift; done\n'
        'tee >("$@") | "$@"; wait\n'
    )
    srun.chmod(0o755)
    out = tmp_path / "out"
    process = _start(
        home,
        "--endpoint",
        "midway",
        PATH=f"{srun.parent}:{os.environ['PATH']}",
        OUT=str(out),
        SLURM_JOB_ID="77",
        SLURM_JOB_NUM_NODES="2",
    )
    with Executor(endpoint_id="midway") as executor:
        eventually(lambda: len(set(executor.map(_manager, range(8)))) == 2)
    process.send_signal(signal.SIGINT)
    code, err = _end(process)
    assert code == 0, err
    assert "2 nodes of job 77" in err
    assert "--overlap --nodes 2 --ntasks 2" in out.read_text()


def test_what_cannot_be_joined(home: TestHome, endpoint: RunningEndpoint) -> None:
    code, err = _end(_start(home, "--endpoint", "midwya"))
    assert (code, "no endpoint 'midwya'" in err) == (3, True), err
    code, err = _end(_start(home, "--endpoint", "midway", "--home", str(home.path / "none")))
    assert (code, "sees no home" in err) == (1, True), err
    spec = endpoint.directory.manager_spec
    spec.rename(spec.with_suffix(".away"))
    code, err = _end(_start(home, "--endpoint", "midway"))
    assert (code, "fxhpc endpoint restart midway" in err) == (1, True), err
    spec.with_suffix(".away").rename(spec)
    address = endpoint.directory.managers_address
    lines = address.read_text().splitlines()
    address.write_text(f"tcp://127.0.0.1:1\n{lines[1]}\n")
    code, err = _end(_start(home, "--endpoint", "midway"))
    assert (code, "no address of endpoint 'midway' answers" in err) == (4, True), err
    endpoint.stop()
    code, err = _end(_start(home, "--endpoint", "midway"))
    assert (code, "fxhpc endpoint start midway" in err) == (4, True), err


def _begin_and_sleep(path: str, seconds: float) -> float:
    import time

    Path(path).touch()
    time.sleep(seconds)
    return seconds


def _manager(x: int) -> int:
    import time

    time.sleep(0.05)
    return psutil.Process(os.getppid()).ppid()

"""A named endpoint that asks for blocks: from the interchange's process down to the jobs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from batch import Batch
from homes import TestHome

from fxhpc import FuncXClient, hosts
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.interchange.recovering import RETURN_S
from fxhpc.protocol.provision import InterchangeSpec, ScalingPolicy, StopRequest
from fxhpc.testing.endpoint import RunningEndpoint
from tests.waiting import eventually

Submit = Callable[..., list[str]]


def where(seconds: float = 0.0) -> str:
    """What the tests run: in which block it was."""
    import os
    import time

    time.sleep(seconds)
    return os.environ["FXHPC_BLOCK"]


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint that is not started yet, of which no process is left after the test."""
    endpoint = RunningEndpoint(home.path, "midway", managers=0)
    yield endpoint
    if endpoint.interchange is not None and endpoint.interchange.poll() is None:
        ask_to_stop(endpoint, drain_s=0.0)
    endpoint.stop()


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batch]:
    """A batch system, of which no job is left after the test."""
    batch = Batch(tmp_path / "pbs", monkeypatch.setenv)
    yield batch
    batch.heal()
    for job in batch.alive():
        subprocess.run(["qdel", str(job["number"])], check=False, timeout=10)
    eventually(lambda: not batch.alive())


@pytest.fixture
def submit(client: FuncXClient, endpoint: RunningEndpoint) -> Submit:
    """Submits calls of `where` to the endpoint."""

    def submit(count: int, seconds: float = 0.0) -> list[str]:
        function = client.register_function(where)
        batch = client.create_batch()
        for _ in range(count):
            batch.add(seconds, endpoint_id=endpoint.endpoint_id, function_id=function)
        ids = client.batch_run(batch)
        assert isinstance(ids, list)
        return ids

    return submit


def ask_to_stop(endpoint: RunningEndpoint, **request: Any) -> None:
    """Stop the interchange as a command would."""
    path = endpoint.directory.stop_request
    path.write_bytes(msgspec.json.encode(StopRequest(**request)))
    assert endpoint.interchange is not None
    endpoint.interchange.terminate()


def status(directory: EndpointDirectory) -> dict[str, Any]:
    """What `status.json` says; empty if it is not there."""
    try:
        found: dict[str, Any] = json.loads(directory.status.read_bytes())
    except OSError:
        return {}
    return found


def blocks(directory: EndpointDirectory) -> list[dict[str, Any]]:
    """The blocks that `status.json` lists."""
    found: list[dict[str, Any]] = status(directory).get("report", {}).get("blocks", [])
    return found


def local_blocks() -> list[psutil.Process]:
    """The scripts of blocks on this host that this test has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if process.name() == "bash" and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


# --- blocks come and go -----------------------------------------------------------------------


def test_a_block_comes_with_the_work_and_goes_without(
    client: FuncXClient, endpoint: RunningEndpoint, submit: Submit
) -> None:
    endpoint.start_interchange(endpoint.blocks_spec(max_idle_s=1.0))
    assert blocks(endpoint.directory) == []
    ids = submit(20)
    client.wait(ids, timeout=60)
    assert {client.get_result(name) for name in ids} == {"1"}
    eventually(lambda: not blocks(endpoint.directory) and not local_blocks())
    assert client.get_result(submit(1)[0], timeout=60) == "2"
    found = client.get_endpoint_status(endpoint.endpoint_id)
    assert found["status"] == "online"


def test_blocks_of_pbs_are_drained_and_cancelled(
    batch: Batch, client: FuncXClient, endpoint: RunningEndpoint, submit: Submit
) -> None:
    spec = endpoint.blocks_spec({"type": "PBSProProvider"}, walltime_s=600.0)
    endpoint.start_interchange(spec)
    ids = submit(3, 0.2)
    client.wait(ids, timeout=60)
    assert {client.get_result(name) for name in ids} == {"1"}
    eventually(lambda: [block["state"] for block in blocks(endpoint.directory)] == ["running"])
    assert blocks(endpoint.directory)[0]["job"] == "1.pbs"
    assert batch.calls("qstat") <= 3
    ask_to_stop(endpoint)
    assert endpoint.interchange is not None
    assert endpoint.interchange.wait(30) == 0
    eventually(lambda: not batch.alive(), within=10)
    assert len(batch.jobs()) == 1


def test_why_nothing_runs_is_said_in_the_batch_systems_words(
    batch: Batch, client: FuncXClient, endpoint: RunningEndpoint, submit: Submit
) -> None:
    batch.set("queues", "workq")
    endpoint.start_interchange(endpoint.blocks_spec({"type": "PBSProProvider", "queue": "gpu"}))
    (task,) = submit(1)
    eventually(lambda: "qsub: Unknown queue" in client.get_task(task)["reason"])
    eventually(lambda: "qsub: Unknown queue" in status(endpoint.directory).get("reason", ""))


def test_three_blocks_are_wasted_at_most(
    batch: Batch, client: FuncXClient, endpoint: RunningEndpoint, submit: Submit
) -> None:
    spec = endpoint.blocks_spec(
        {"type": "PBSProProvider"}, worker_init="echo 'no module named conda' >&2; exit 1"
    )
    endpoint.start_interchange(spec)
    (task,) = submit(1)
    eventually(lambda: "no module named conda" in client.get_task(task)["reason"])
    assert len(batch.jobs()) <= 3


def test_a_python_without_fxhpc_wastes_one_block(
    batch: Batch, client: FuncXClient, endpoint: RunningEndpoint, submit: Submit, tmp_path: Path
) -> None:
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    (folder / "python3").chmod(0o755)
    spec = endpoint.blocks_spec(
        {"type": "PBSProProvider"}, worker_init=f"export PATH={folder}:$PATH"
    )
    endpoint.start_interchange(spec)
    (task,) = submit(1)
    eventually(lambda: "has no fxhpc" in client.get_task(task)["reason"])
    eventually(lambda: status(endpoint.directory)["report"]["paused"])
    assert len(batch.jobs()) == 1


# --- deaths -------------------------------------------------------------------------------------


def test_a_killed_interchange_finds_its_blocks_again(
    batch: Batch, client: FuncXClient, endpoint: RunningEndpoint, submit: Submit
) -> None:
    """One that runs, and one that waits: the same two jobs, no third."""
    batch.set("slots", "1")
    spec = endpoint.blocks_spec({"type": "PBSProProvider"}, max_blocks=2, init_blocks=2)
    endpoint.start_interchange(spec)
    ids = submit(6, 1.0)
    eventually(lambda: len(batch.jobs()) == 2)
    eventually(lambda: any(block["managers"] for block in blocks(endpoint.directory)))
    assert endpoint.interchange is not None
    endpoint.interchange.kill()
    endpoint.interchange.wait()
    endpoint.start_interchange(spec)
    client.wait(ids, timeout=60)
    assert {client.get_result(name) for name in ids} == {"1"}
    eventually(lambda: len(blocks(endpoint.directory)) == 2)
    assert len(batch.jobs()) == 2
    batch.set("slots", "2")
    ask_to_stop(endpoint)
    assert endpoint.interchange.wait(30) == 0
    eventually(lambda: not batch.alive(), within=10)


def test_a_provisioner_killed_in_a_submission_makes_no_second_job(
    batch: Batch, client: FuncXClient, endpoint: RunningEndpoint, submit: Submit
) -> None:
    batch.set("fault.qsub", "lost")
    endpoint.start_interchange(endpoint.blocks_spec({"type": "PBSProProvider"}, command_s=60.0))
    (task,) = submit(1)
    eventually(batch.alive)
    assert endpoint.interchange is not None
    (provisioner,) = psutil.Process(endpoint.interchange.pid).children()
    provisioner.kill()
    batch.heal()
    assert client.get_result(task, timeout=60) == "1"
    assert len(batch.jobs()) == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_restart_keeps_blocks(
    client: FuncXClient, endpoint: RunningEndpoint, submit: Submit, number: signal.Signals
) -> None:
    spec = endpoint.blocks_spec()
    endpoint.start_interchange(spec)
    assert client.get_result(submit(1)[0], timeout=60) == "1"
    ids = submit(1, 2.0)
    eventually(lambda: status(endpoint.directory).get("running"))
    before = local_blocks()
    assert before
    if number == signal.SIGTERM:
        ask_to_stop(endpoint, keep_blocks=True)
    else:
        assert endpoint.interchange is not None
        endpoint.interchange.send_signal(number)
    assert endpoint.interchange is not None
    assert endpoint.interchange.wait(10) == 0
    assert not endpoint.directory.status.exists()
    endpoint.start_interchange(spec)
    assert client.get_result(ids[0], timeout=60) == "1"
    assert local_blocks() == before


def tracks(folder: str, seconds: float) -> None:
    """What the tests run where it matters how often: one file for each time."""
    import os
    import time
    import uuid

    time.sleep(seconds)
    with open(os.path.join(folder, uuid.uuid4().hex), "x"):
        pass


@pytest.mark.parametrize("end", ["job cancelled", "endpoint stopped"])
def test_what_ended_while_the_endpoint_was_away_does_not_run_again(
    batch: Batch, client: FuncXClient, endpoint: RunningEndpoint, tmp_path: Path, end: str
) -> None:
    """Its job ends before any interchange is there to be told of the results."""
    folder = tmp_path / "tracks"
    folder.mkdir()
    spec = endpoint.blocks_spec({"type": "PBSProProvider"})
    endpoint.start_interchange(spec)
    assert endpoint.interchange is not None
    function = client.register_function(tracks)
    task = client.run(str(folder), 2.0, endpoint_id=endpoint.endpoint_id, function_id=function)
    eventually(lambda: status(endpoint.directory).get("running"))
    ask_to_stop(endpoint, keep_blocks=True)
    assert endpoint.interchange.wait(10) == 0
    eventually(lambda: list(folder.iterdir()))
    if end == "job cancelled":
        (job,) = batch.alive()
        subprocess.run(["qdel", str(job["number"])], check=True, timeout=10)
        eventually(lambda: not batch.alive(), within=10)
        assert endpoint.directory.manager_results.exists()
    else:
        assert spec.scaling is not None
        endpoint.start_interchange(
            msgspec.structs.replace(spec, scaling=ScalingPolicy(scale=False))
        )
        ask_to_stop(endpoint, drain_s=0.0)
        assert endpoint.interchange.wait(30) == 0
    endpoint.start_interchange(spec)
    began = time.monotonic()
    assert client.get_result(task, timeout=25) is None
    assert time.monotonic() - began < RETURN_S / 2
    assert len(list(folder.iterdir())) == 1
    eventually(lambda: not endpoint.directory.manager_results.exists())


def test_a_stop_waits_for_running_tasks_and_a_second_one_does_not(
    client: FuncXClient, endpoint: RunningEndpoint, submit: Submit
) -> None:
    endpoint.start_interchange(endpoint.blocks_spec())
    ids = submit(1, 3.0)
    eventually(lambda: status(endpoint.directory).get("running"))
    ask_to_stop(endpoint)
    assert endpoint.interchange is not None
    assert endpoint.interchange.wait(20) == 0
    assert client.get_task(ids[0])["pending"] is False
    endpoint.start_interchange(endpoint.blocks_spec())
    submit(1, 600.0)
    eventually(lambda: status(endpoint.directory).get("running"))
    endpoint.interchange.terminate()
    eventually(lambda: "being stopped" in status(endpoint.directory).get("reason", ""))
    endpoint.interchange.terminate()
    assert endpoint.interchange.wait(20) == 0
    eventually(lambda: not local_blocks())


def test_with_the_process_that_it_belongs_to_everything_ends(
    batch: Batch, endpoint: RunningEndpoint
) -> None:
    owner = subprocess.Popen(["sleep", "600"])
    try:
        spec = endpoint.blocks_spec({"type": "PBSProProvider"}, init_blocks=1)
        spec.watch_pid = owner.pid
        spec.watch_started = hosts.start_time(owner.pid)
        spec.remove = True
        endpoint.start_interchange(spec)
        eventually(batch.alive)
    finally:
        owner.kill()
        owner.wait()
    assert endpoint.interchange is not None
    assert endpoint.interchange.wait(30) == 0
    eventually(lambda: not batch.alive(), within=10)  # PBS ends what was deleted in two steps
    assert not endpoint.directory.path.exists()


# --- files and addresses --------------------------------------------------------------------------


def test_a_taken_port_is_named_with_a_remedy(endpoint: RunningEndpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            RuntimeError, match=rf"port {port} of host .* is taken by .*worker_port"
        ):
            endpoint.start_interchange(InterchangeSpec(bind=f"tcp://127.0.0.1:{port}"))
    assert endpoint.interchange is not None
    assert endpoint.interchange.wait(20) == 1


def test_all_addresses_are_offered_and_a_manager_takes_one(endpoint: RunningEndpoint) -> None:
    endpoint.start_interchange(InterchangeSpec(bind="tcp://0.0.0.0:*"))
    address = endpoint.directory.read_address()
    assert address is not None
    offered = address.managers.split()
    own = {
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET
    }
    assert offered
    assert {one.removeprefix("tcp://").partition(":")[0] for one in offered} <= own
    assert endpoint.directory.managers_address.read_text().splitlines()[0] == address.managers
    endpoint.start_manager()
    eventually(lambda: status(endpoint.directory).get("managers") == 1)


def test_addresses_that_are_given_are_offered_alone(endpoint: RunningEndpoint) -> None:
    spec = InterchangeSpec(bind="tcp://127.0.0.1:*", addresses=["login1", "tcp://10.0.0.1:99"])
    endpoint.start_interchange(spec)
    address = endpoint.directory.read_address()
    assert address is not None
    first, second = address.managers.split()
    assert first.startswith("tcp://login1:")
    assert second == "tcp://10.0.0.1:99"


def test_what_is_written_is_private_and_gone_after_a_stop(
    client: FuncXClient, endpoint: RunningEndpoint, submit: Submit
) -> None:
    endpoint.start_interchange(endpoint.blocks_spec())
    client.get_result(submit(1)[0], timeout=60)
    directory = endpoint.directory
    eventually(lambda: status(directory).get("managers") == 1)
    found = status(directory)
    assert found["report"]["scheduler"] == "Local"
    assert found["report"]["managers"][0]["host"] == os.uname().nodename
    for path in (directory.status, directory.manager_spec, directory.address, directory.log):
        assert path.stat().st_mode & 0o777 == 0o600
    for path in (*directory.blocks.glob("fxhpc-*"), *directory.manager_logs.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    for path in (directory.blocks, directory.logs, directory.manager_logs):
        assert path.stat().st_mode & 0o777 == 0o700
    ask_to_stop(endpoint)
    assert endpoint.interchange is not None
    assert endpoint.interchange.wait(20) == 0
    for path in (
        directory.status,
        directory.address,
        directory.managers_address,
        directory.stop_request,
        directory.failure,
    ):
        assert not path.exists()
    assert not local_blocks()


def test_an_idle_interchange_hardly_wakes_up(endpoint: RunningEndpoint) -> None:
    endpoint.start_interchange(endpoint.blocks_spec())
    assert endpoint.interchange is not None
    process = psutil.Process(endpoint.interchange.pid)
    eventually(process.children)
    eventually(lambda: status(endpoint.directory).get("report", {}).get("scheduler"))
    before = process.num_ctx_switches().voluntary
    begun = process.cpu_times()
    with pytest.raises(psutil.TimeoutExpired):
        process.wait(3.0)
    assert process.num_ctx_switches().voluntary - before < 40
    spent = process.cpu_times()
    assert spent.user + spent.system - begun.user - begun.system < 0.3

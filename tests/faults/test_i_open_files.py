"""Row I9: no file descriptor is left."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fxhpc import FuncXClient
from fxhpc.forwarder.remotes import RemoteInterchanges
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.testing.endpoint import RunningEndpoint
from tests.process.homes import TestHome
from tests.waiting import eventually


def double(number: int) -> int:
    return 2 * number


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    with RunningEndpoint(home.path, "midway", managers=0, workers=1) as endpoint:
        yield endpoint


def test_i09_an_interchange_without_descriptors_says_so_and_goes_on(
    client: FuncXClient, endpoint: RunningEndpoint
) -> None:
    """I9: an interchange that can take no more connections. The log and the status name the limit
    and what to do; managers try again, and register when there are descriptors.
    """
    function = client.register_function(double)
    task = client.run(4, endpoint_id=endpoint.endpoint_id, function_id=function)
    assert endpoint.interchange is not None
    pid = endpoint.interchange.pid

    def status() -> dict[str, Any]:
        return client.get_endpoint_status(endpoint.endpoint_id)

    eventually(lambda: status()["status"] == "online")
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files(pid), limits[1]))
    endpoint.start_manager()
    eventually(lambda: "open files is reached" in endpoint.directory.log.read_text())
    assert f"the limit of {open_files(pid)} open files" in endpoint.directory.log.read_text()
    assert endpoint.interchange.poll() is None
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert client.get_result(task, timeout=30) == 8


def test_i09_a_forwarder_raises_its_limit_within_what_users_may_set(home: TestHome) -> None:
    """I9: a shell's `ulimit -Sn 64` is no limit for a forwarder: each client takes a descriptor."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    code = "from fxhpc import FuncXClient; FuncXClient().register_function(abs)"
    subprocess.run(
        ["sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh", sys.executable, "-c", code],
        env=home.environment | {"FXHPC_FORWARDER_GRACE": "5"},
        check=True,
        timeout=30,
    )
    pid = home.forwarder().pid
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == min(16_384, hard)
    os.kill(pid, signal.SIGTERM)  # it would wait for another client


def test_i09_endpoints_that_cannot_be_looked_at_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """I9: a forwarder that cannot read the endpoints' directory goes on, and says why once."""
    EndpointDirectory(tmp_path / "endpoints" / "midway").create("midway")
    remotes = RemoteInterchanges(tmp_path / "endpoints")
    assert len(list(remotes.look())) == 1

    def full(self: Path, pattern: str) -> Iterator[Path]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "glob", full)
        assert not list(remotes.look())
        assert not list(remotes.look())
    assert len(caplog.records) == 1
    assert "ulimit -n" in caplog.text
    assert not any(remote.deleted for remote in remotes._remotes.values())
    assert not list(remotes.look())
    remotes.close()


def test_i09_a_manager_that_may_not_open_enough_says_how_many_it_needs(home: TestHome) -> None:
    """I9: a manager counts what its workers need before it starts any."""
    with RunningEndpoint(home.path, "midway", managers=0, workers=4) as endpoint:
        endpoint.directory.keys("manager")
        spec = manager_spec(endpoint)
        done = subprocess.run(
            ["sh", "-c", 'ulimit -n 20; exec "$@"', "sh", sys.executable, "-m", "fxhpc.manager"],
            input=spec,
            capture_output=True,
            timeout=30,
            cwd="/",
        )
    assert done.returncode
    assert b"the limit (`ulimit -n`) is 20" in done.stderr


def manager_spec(endpoint: RunningEndpoint) -> bytes:
    """What a manager of an endpoint is told."""
    return msgspec.msgpack.encode(
        ManagerSpec(
            endpoint=b"",
            workers=4,
            address_file=str(endpoint.directory.managers_address),
            key_file=str(endpoint.directory.manager_key),
            manager="m",
            cwd="/",
        )
    )

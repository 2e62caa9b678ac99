"""The process's own endpoint: its manager is told what it needs, watched, and given up in words."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import msgspec
import psutil
import pytest
from fake_forwarder import FakeForwarder

import fxhpc
from fxhpc import Executor, errors, hosts
from fxhpc.client.started import local as module
from fxhpc.client.started.local import LocalEndpoint
from fxhpc.protocol.pool import ManagerSpec
from tests.waiting import eventually

_want = LocalEndpoint.want  # as it was before the fixture for all tests of this directory


@pytest.fixture(autouse=True)
def _with_managers(_no_managers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalEndpoint, "want", _want)


def _command(tmp_path: Path, then: str) -> list[str]:
    spec, ready = str(tmp_path / "spec"), str(tmp_path / "ready")
    program = (
        f"import os, sys, time; open({spec!r}, 'wb').write(sys.stdin.buffer.read())\n"
        f"open({ready!r}, 'a').write('x')\n{then}"
    )
    return [sys.executable, "-c", program]


def _spec(tmp_path: Path) -> ManagerSpec:
    eventually((tmp_path / "ready").exists)
    return msgspec.msgpack.decode((tmp_path / "spec").read_bytes(), type=ManagerSpec)


def test_the_spec_says_what_tasks_need(tmp_path: Path) -> None:
    local = LocalEndpoint(b"e" * 16, "ipc:///a", 3, command=_command(tmp_path, "time.sleep(60)"))
    local.want()
    spec = _spec(tmp_path)
    assert (spec.endpoint, spec.workers, spec.watch_pid) == (b"e" * 16, 3, os.getpid())
    assert spec.cwd == os.getcwd()
    assert all(os.path.isabs(entry) for entry in spec.sys_path)
    assert abs(spec.watch_started - hosts.start_time(os.getpid())) < 0.02
    process = local._process
    assert process is not None
    if spec.address_file:
        path = spec.address_file.replace("self", str(process.pid))
        assert Path(path).read_text() == "ipc:///a\n"
        local.set_address("ipc:///longer")
        assert Path(path).read_text() == "ipc:///longer\n"
    assert psutil.Process(process.pid).cwd() == "/"
    assert os.getsid(process.pid) == process.pid
    local.stop()
    assert not psutil.pid_exists(process.pid)


def test_a_manager_that_died_is_started_again(tmp_path: Path) -> None:
    local = LocalEndpoint(b"", "ipc:///a", 1, command=_command(tmp_path, "time.sleep(60)"))
    local.want()
    eventually(lambda: _starts(tmp_path) == 1)  # it is opened before it is written
    assert local._process is not None
    local._process.kill()
    eventually(lambda: (tmp_path / "ready").read_text() == "xx")
    local.stop()


def test_managers_that_had_registered_are_replaced_however_often_they_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACKOFF_S", 0.001)
    told: list[errors.FxhpcError] = []
    register = (
        f"import msgspec; spec = msgspec.msgpack.decode(open({str(tmp_path / 'spec')!r}, 'rb')"
        ".read()); os.write(spec['ready_fd'], b'1'); os.kill(os.getpid(), 9)"
    )
    local = LocalEndpoint(b"", "ipc:///a", 1, told.append, _command(tmp_path, register))
    local.want()
    eventually(lambda: _starts(tmp_path) > 4)
    assert not told
    local.stop()


def test_what_is_not_utf_8_reaches_the_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(path)
    monkeypatch.chdir(path)
    monkeypatch.syspath_prepend(path)
    local = LocalEndpoint(b"", "ipc:///a", 1, command=_command(tmp_path, "time.sleep(60)"))
    local.want()
    spec = _spec(tmp_path)
    assert os.fsdecode(spec.cwd) == path
    assert path in map(os.fsdecode, spec.sys_path)
    local.stop()


def _starts(tmp_path: Path) -> int:
    ready = tmp_path / "ready"
    return len(ready.read_text()) if ready.exists() else 0


def test_a_manager_that_does_not_end_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); open('/dev/null'); time.sleep(60)"
    local = LocalEndpoint(b"", "ipc:///a", 1, command=_command(tmp_path, stubborn))
    local.want()
    _spec(tmp_path)
    process = local._process
    assert process is not None
    local.stop(timeout=0.1)
    eventually(lambda: not psutil.pid_exists(process.pid))


def _given_up(tmp_path: Path, then: str) -> tuple[LocalEndpoint, list[errors.FxhpcError]]:
    """One whose managers all do this instead of registering, until that was told; what is told."""
    told: list[errors.FxhpcError] = []
    local = LocalEndpoint(b"", "ipc:///a", 1, told.append, _command(tmp_path, then))
    local.want()
    eventually(lambda: told)
    return local, told


def test_managers_that_do_not_start_are_given_up_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACKOFF_S", 0.001)
    local, told = _given_up(tmp_path, "sys.exit('no module named numpy')")
    assert (tmp_path / "ready").read_text() == "xxx"
    assert "no module named numpy" in str(told[0])
    assert "exit code 1" in str(told[0])
    local.stop()


def test_work_that_comes_right_after_that_is_tried_later_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(module, "_RETRY_AFTER_S", 0.3)
    local, told = _given_up(tmp_path, "sys.exit(1)")
    local.want()
    local.want()
    assert local.failure is told[0]  # who waits meanwhile is told why
    eventually(lambda: len(told) == 2)
    assert _starts(tmp_path) == 6
    local.stop()


def test_kills_from_outside_are_borne_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACKOFF_LAST_S", 0.001)
    monkeypatch.setattr(module, "_KILLED_LIMIT", 5)
    local, told = _given_up(tmp_path, "os.kill(os.getpid(), 9)")
    assert _starts(tmp_path) == 5
    assert "5 times in a row" in str(told[0])
    assert "SIGKILL" in str(told[0])
    local.stop()


def test_futures_of_a_local_that_cannot_start_end(
    forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(
        LocalEndpoint,
        "_start",
        lambda self, output, ready: (_ for _ in ()).throw(OSError("no memory")),
    )
    forwarder.service.hold = True
    with Executor(1) as executor, pytest.raises(errors.WorkerStartFailed, match="no memory"):
        executor.submit(len, "x").result(10)


def test_it_is_started_once(tmp_path: Path) -> None:
    local = LocalEndpoint(b"", "ipc:///a", 1, command=_command(tmp_path, "time.sleep(60)"))
    threads = [threading.Thread(target=local.want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _spec(tmp_path)
    eventually(lambda: (tmp_path / "ready").read_text())  # it is opened before it is written
    local.stop()
    assert (tmp_path / "ready").read_text() == "x"
    local.want()
    assert local._process is None


def test_nothing_of_the_users_directory_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    environ, changes = module._environments()
    root = str(Path(fxhpc.__file__).resolve().parents[1])
    if changes:
        assert environ["PYTHONPATH"] == f"{root}:/somewhere"
        assert changes == {"PYTHONPATH": "/somewhere"}
    else:
        assert environ["PYTHONPATH"] == "/somewhere"

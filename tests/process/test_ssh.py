"""A home that ssh leads to, with a real ssh server: connections that break, and what is left."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from homes import TestHome
from notes import lines, note
from sshd import PASSPHRASE, Sshd, fxhpc

from fxhpc import Executor, FuncXClient, errors
from fxhpc.client.connection import ssh, ssh_connection
from fxhpc.testing.endpoint import RunningEndpoint
from tests.waiting import LIMIT, eventually


@pytest.fixture
def sshd(home: TestHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """An ssh server, and a user's ssh that knows it."""
    sshd = Sshd(tmp_path / "ssh d")
    monkeypatch.setenv("FXHPC_SSH", sshd.command)
    monkeypatch.setenv("FXHPC_HOME", str(tmp_path / "no home here"))
    monkeypatch.setattr(ssh_connection, "can_ask", lambda: False)
    monkeypatch.setattr(ssh_connection, "_PAUSE_S", 0.05)
    monkeypatch.setattr(ssh_connection, "_LAST_PAUSE_S", 0.2)
    sshd.start()
    yield sshd
    sshd.stop()


@pytest.fixture
def address(home: TestHome) -> str:
    """The home's, with a shell there that says something before."""
    # A daemon that stays for the usual minute would be found by the next test.
    command = f"echo Welcome; echo $0; env FXHPC_FORWARDER_GRACE=0.3 {fxhpc()}"
    return f"ssh://login{home.path}?command={command}"


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint of that home with one worker."""
    with RunningEndpoint(home.path, "midway", managers=1, workers=1) as endpoint:
        yield endpoint


def _titled(home: TestHome, title: str) -> list[psutil.Process]:
    found = []
    for one in home.processes():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if title in " ".join(one.cmdline()):
                found.append(one)
    return found


def test_a_client_elsewhere_works_as_one_at_home(
    home: TestHome, sshd: Sshd, address: str, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    with FuncXClient(address) as client:
        function = client.register_function(len)
        batch = client.create_batch()
        large = os.urandom(3_000_000)
        for size in (0, 10, len(large)):
            batch.add(large[:size], endpoint_id="midway", function_id=function)
        ids = client.batch_run(batch)
        client.wait(ids, LIMIT)
        assert [client.get_result(one) for one in ids] == [0, 10, 3_000_000]
        status = client.get_endpoint_status("midway")
        assert status["status"] == "online"
        with Executor(client=client, endpoint_id="midway") as executor:
            assert executor.submit(bytes, large).result(LIMIT) == large
        client.on_exceed, client.max_payload = "spill", 1_000_000
        echo = client.register_function(bytes)
        one = client.run(large, endpoint_id="midway", function_id=echo)
        assert client.get_result(one, timeout=LIMIT) == large  # no file here has it
        assert not list(endpoint.directory.path.glob("spill/*/*"))
        for name in ("local", "4b116d3c-1703-4f8f-9f6f-39921e5864df"):
            with pytest.raises(errors.EndpointNotFound, match="Name an endpoint there"):
                client.run(b"", endpoint_id=name, function_id=function)
        with pytest.raises(errors.EndpointNotFound, match="The home has midway"):
            client.run(b"", endpoint_id="midwya", function_id=function)
        with pytest.raises(errors.UsageError, match="call resume"):
            client.resume()
    with Executor("midway", home=address) as executor:
        assert executor.submit(len, b"abc").result(LIMIT) == 3
    eventually(lambda: not sshd.sessions())
    eventually(lambda: not _titled(home, "relay"))
    assert not (tmp_path / "no home here").exists()


def test_a_connection_that_breaks_is_made_again(
    home: TestHome, sshd: Sshd, address: str, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    with FuncXClient(address) as client, Executor(client=client, endpoint_id="midway") as executor:

        def submit(count: int) -> None:
            begin = len(futures)
            futures.extend(
                executor.submit(note, str(notes), index) for index in range(begin, begin + count)
            )

        futures: list[Any] = []
        for title in ("-F", "relay"):  # the client's ssh, and what it has started
            submit(50)
            eventually(lambda: len(lines(notes)) > len(futures) - 45)
            for one in _titled(home, title):
                one.kill()
        submit(50)
        eventually(lambda: len(lines(notes)) > len(futures) - 45)
        (relay,) = _titled(home, "relay")
        os.kill(home.forwarder().pid, signal.SIGKILL)  # which needs no other connection
        submit(50)
        eventually(lambda: len(lines(notes)) > len(futures) - 45)
        assert relay.is_running()
        sshd.stop()
        submit(1)  # while nobody is there
        sshd.start()
        results = [future.result(LIMIT) for future in futures]
        assert results == [2 * index for index in range(len(futures))]
        function = client.register_function(abs)
        one = client.run(-3, endpoint_id="midway", function_id=function)
        assert client.get_result(one, timeout=LIMIT) == 3
    assert set(Counter(lines(notes)).values()) == {1}


def test_the_work_of_a_client_that_is_killed_ends(
    home: TestHome, sshd: Sshd, address: str, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    home.environment.update(FXHPC_SSH=sshd.command, FXHPC_HOME=str(tmp_path / "no home here"))
    script = home.start(
        "killed.py",
        """
        import sys, time
        from fxhpc import Executor

        def note(path, index):
            with open(path, "a") as file:
                file.write(f"{index}\\n")
            time.sleep(0.1)

        executor = Executor("midway", home=sys.argv[1])
        futures = [executor.submit(note, sys.argv[2], index) for index in range(1000)]
        futures[1].result()
        print("ready", flush=True)
        futures[-1].result()
        """,
        address,
        str(notes),
    )
    assert script.stdout is not None
    assert script.stdout.readline() == "ready\n"
    script.kill()
    with FuncXClient(home=home.path) as client:
        eventually(lambda: client.get_endpoint_status("midway")["logs"][0]["pending_tasks"] == 0)
        eventually(lambda: not client.tasks(state="pending"))
    eventually(lambda: not sshd.sessions())
    eventually(lambda: not _titled(home, "relay"))
    assert len(lines(notes)) < 100


def _answer(client: FuncXClient) -> list[dict[str, Any]] | None:
    with contextlib.suppress(errors.ForwarderUnreachable):  # an attempt of before
        return client.tasks()
    return None


def test_nobody_is_asked_in_the_background(
    home: TestHome,
    sshd: Sshd,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ssh_connection, "_ASKING_PAUSE_S", 0.2)
    monkeypatch.setattr(ssh_connection, "_MASTER_LOOK_S", 0.1)
    with FuncXClient(address) as client:
        sshd.allow(None)
        with caplog.at_level(logging.WARNING):
            for one in _titled(home, "-F"):
                one.kill()
            eventually(lambda: "nobody is asked in the background" in caplog.text)
        assert caplog.text.count("ControlMaster") == 1
        sshd.allow("user")
        assert client.tasks() == []
        monkeypatch.setattr(ssh_connection, "_CALLS_S", 0.2)
        sshd.stop()
        with pytest.raises(errors.ForwarderUnreachable, match="Connection refused"):
            client.tasks()
        sshd.start()
        eventually(lambda: _answer(client) == [])


def test_calls_do_not_wait_for_an_ssh_that_says_nothing(
    sshd: Sshd, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: TestHome
) -> None:
    mute = tmp_path / "mute"
    mute.write_text('#!/bin/sh\ncase " $* " in *" -G "*) exit;; esac\nexec sleep 60\n')
    mute.chmod(0o700)
    monkeypatch.setattr(ssh_connection, "_CALLS_S", 0.2)
    monkeypatch.setattr(ssh_connection, "_MUTE_S", 0.2)
    monkeypatch.setattr(ssh, "OPENING_S", 2.0)
    with FuncXClient(address) as client:
        monkeypatch.setenv("FXHPC_SSH", str(mute))
        for one in _titled(home, "-F"):
            one.kill()
        begun = time.monotonic()
        with pytest.raises(errors.ForwarderUnreachable, match="ssh has no answer yet"):
            client.tasks()
        assert time.monotonic() - begun < 10.0
        monkeypatch.setenv("FXHPC_SSH", sshd.command)
        eventually(lambda: _answer(client) == [])


def test_who_sits_at_a_terminal_is_asked_and_ctrl_c_leaves_the_connection(
    home: TestHome, sshd: Sshd, address: str
) -> None:
    sshd.use_key("locked")
    sshd.allow("locked")
    script = home.write(
        "terminal.py",
        """
        import sys, time
        from fxhpc import FuncXClient

        client = FuncXClient(sys.argv[1])
        ssh = client._attached().connection._ssh
        try:
            print("connected", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted", client.tasks(), flush=True)
        print("the same", client._attached().connection._ssh is ssh, flush=True)
        client.close()
        """,
    )
    ours, theirs = os.openpty()
    said = b""

    def has_said(words: bytes) -> bool:
        nonlocal said
        if select.select([ours], [], [], 0.5)[0]:
            said += os.read(ours, 1000)
        return words in said

    process = subprocess.Popen(
        [sys.executable, str(script), address],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        eventually(lambda: has_said(b"Enter passphrase for key"), every=0)
        os.write(ours, PASSPHRASE.encode() + b"\n")
        eventually(lambda: has_said(b"connected"), every=0)
        os.write(ours, b"\x03")  # to all processes of the terminal
        eventually(lambda: has_said(b"the same True"), every=0)
        assert b"interrupted []" in said
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait(LIMIT)
        os.close(ours)


def _told(url: str) -> str:
    with pytest.raises(errors.ForwarderError) as raised:
        FuncXClient(url)
    return str(raised.value)


def test_what_goes_wrong_is_told(sshd: Sshd, tmp_path: Path) -> None:
    text = _told("ssh://login/h?command=/not/there/fxhpc")
    assert "No such file" in text
    assert "ssh://login/h?command=/path/of/venv/bin/fxhpc" in text
    assert "command not found" in _told("ssh://login?command=fxhpc-is-not-here")
    text = _told("ssh://login?command=echo Hello; exit 7; ")
    assert "ended with exit code 7, and said: Hello" in text
    assert "the home /dev/null" in _told(f"ssh://login/dev/null?command={fxhpc()}")
    sshd.use_key("stranger")
    text = _told("ssh://login")
    assert "Permission denied" in text
    assert "nobody is asked in the background" in text
    sshd.use_key("user")
    sshd.stop()
    assert "Connection refused" in _told("ssh://login")
    sshd.change_host_key()
    sshd.start()
    assert "does not trust the host's key" in _told("ssh://login")
    assert not (tmp_path / "no home here").exists()

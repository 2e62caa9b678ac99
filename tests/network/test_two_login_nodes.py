"""One home that two hosts see: who owns its store when one is cut off, rebooted, taken over."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fxhpc.forwarder.home import Home
from tests.network.login_nodes import LoginNodes, go_on, read_file, said
from tests.process.homes import TestHome, finish
from tests.waiting import eventually

#: Each attaches, and has a task of the host's own `local` run.
TASK = """
import platform, sys
from fxhpc import FuncXClient

def where(text):
    import platform
    return platform.node(), len(text)

fxc = FuncXClient()
function = fxc.register_function(where)

def run(text="x", endpoint="local"):
    task = fxc.run(text, endpoint_id=endpoint, function_id=function)
    return fxc.get_result(task, timeout=60)

def say(*words):
    print(*words, flush=True)
"""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[LoginNodes]:
    home = TestHome(tmp_path / "home", tmp_path / "scripts")
    nodes = LoginNodes(home)
    yield nodes
    nodes.close()


def stored_tasks(nodes: LoginNodes) -> int:
    """How many tasks the store has, when nobody has it open."""
    if (owner := Home(nodes.home.path).read_owner()) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner.pid, signal.SIGTERM)  # it would wait for clients that were killed
    eventually(lambda: not nodes.home.processes())
    with sqlite3.connect(Home(nodes.home.path).store) as store:
        (count,) = store.execute("SELECT coalesce(sum(count), 0) FROM submission").fetchone()
    store.close()
    return int(count)


def test_the_other_login_node_attaches_and_is_cut_off(nodes: LoginNodes) -> None:
    first = nodes.script(0, TASK + "say(run()); sys.stdin.readline()")
    assert said(first) == "('login0', 1)"
    second = nodes.script(
        1,
        TASK
        + """
say(run("x" * 3_000_000))
sys.stdin.readline()
say(run())
""",
    )
    assert said(second) == "('login1', 3000000)"
    owner = nodes.home.forwarder()
    code, text = nodes.command(1, "forwarder", "status")
    assert code == 0
    assert f"runs on login0, pid {owner.pid}" in text
    # Cut off: who comes is told by whom, and what to do; who is there waits.
    nodes.network.cut(0)
    code, text = nodes.command(1, "forwarder", "start")
    assert code != 0
    for word in ("login0", f"pid {owner.pid}", "cut off", "fxhpc forwarder start --take-over"):
        assert word in text
    go_on(second)
    nodes.network.mend(0)
    assert said(second) == "('login1', 1)"
    assert nodes.home.forwarder() == owner
    finish(second)
    go_on(first)
    finish(first)


def test_a_login_node_is_rebooted(nodes: LoginNodes) -> None:
    """The other takes over by itself: nobody listens there, and the lock is free."""
    first = nodes.script(0, TASK + "say(run()); sys.stdin.readline()")
    assert said(first) == "('login0', 1)"
    second = nodes.script(1, TASK + "say(run()); sys.stdin.readline(); say(run('xx'))")
    assert said(second) == "('login1', 1)"
    before = nodes.home.forwarder()
    nodes.reboot(0)
    go_on(second)
    assert said(second) == "('login1', 2)"
    after = nodes.home.forwarder()
    assert (after.host, after.epoch) == ("login1", before.epoch + 1)
    assert nodes.run(0, TASK + "say(run('xxx'))") == "('login0', 3)\n"
    finish(second)
    assert stored_tasks(nodes) == 4
    nodes.command(0, "store", "du")  # there it is seen that the first one's process is no more


def test_one_that_is_cut_off_is_taken_over(nodes: LoginNodes) -> None:
    """It still sees the home: it writes nothing any more, says that it has ended, and its clients
    are told where the home's forwarder is now. What runs on `local` there runs on, once.
    """
    began, gate = nodes.home.scripts / "began", nodes.home.scripts / "gate"
    first = nodes.script(
        0,
        TASK
        + f"""
def slow(began, gate):
    import os, time
    with open(began, "a") as file:
        file.write("began ")
    while not os.path.exists(gate):
        time.sleep(0.01)
    return "ended"

say(run())
task = fxc.run({str(began)!r}, {str(gate)!r}, endpoint_id="local",
               function_id=fxc.register_function(slow))
sys.stdin.readline()
say(run("xx"))
say(fxc.get_result(task, timeout=60))
""",
    )
    assert said(first) == "('login0', 1)"
    eventually(began.exists)
    before = nodes.home.forwarder()
    nodes.network.cut(0)
    code, text = nodes.command(1, "forwarder", "start", "--take-over")
    assert code == 0, text
    assert "runs on login1" in text
    eventually(lambda: "another forwarder has taken over the home" in nodes.forwarder_log())
    eventually(lambda: not psutil.pid_exists(before.pid))
    go_on(first)  # it waits for an answer
    code, text = nodes.command(0, "forwarder", "status")
    assert code != 0
    assert "host login1" in text
    nodes.network.mend(0)
    assert said(first) == "('login0', 2)"
    assert nodes.home.forwarder().epoch > before.epoch
    gate.touch()
    assert said(first) == "ended"
    assert read_file(began) == "began "
    finish(first)
    assert stored_tasks(nodes) == 3


def test_one_that_hangs_is_fenced_before_it_writes(nodes: LoginNodes) -> None:
    """It cannot see that it was taken over, as behind a network that is down, and its lock is lost.
    What it was told meanwhile is not stored by it: its client tells the new one.
    """
    first = nodes.script(
        0,
        TASK
        + """
say(run())
sys.stdin.readline()
say("submits")
say(run("xx"))
""",
    )
    assert said(first) == "('login0', 1)"
    old = psutil.Process(nodes.home.forwarder().pid)
    files = [Home(nodes.home.path).store, Path(f"{Home(nodes.home.path).store}-wal")]
    inodes = [path.stat().st_ino for path in files]
    old.send_signal(signal.SIGSTOP)
    nodes.network.cut(0)
    code, text = nodes.command(1, "forwarder", "start", "--take-over")
    assert code == 0, text
    assert [path.stat().st_ino for path in files if path.exists()] != inodes
    go_on(first)
    assert said(first) == "submits"  # to the old one, which stands still
    old.send_signal(signal.SIGCONT)
    nodes.network.mend(0)
    assert said(first) == "('login0', 2)"
    eventually(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE)
    assert nodes.home.forwarder().host == "login1"
    assert "its lock broken; ending" in nodes.forwarder_log()
    finish(first)
    assert stored_tasks(nodes) == 2


def test_an_endpoint_on_the_one_and_the_forwarder_on_the_other(nodes: LoginNodes) -> None:
    """Each of them can be anywhere. Who asks on the wrong node is told on which it runs."""
    directory = Home(nodes.home.path).endpoints / "shared"
    second = nodes.script(1, TASK + "say(); sys.stdin.readline(); say(run(endpoint='shared'))")
    assert said(second) == ""
    assert nodes.home.forwarder().host == "login1"
    code, text = nodes.command(0, "endpoint", "configure", "shared")
    assert code == 0, text
    code, text = nodes.command(0, "endpoint", "start", "shared")
    assert code == 0, text
    assert "10.200.0.10" in (directory / "interchange.json").read_text()
    try:
        go_on(second)
        assert said(second) == "('login0', 1)"
        assert nodes.home.forwarder().host == "login1"
        finish(second)
        code, text = nodes.command(1, "endpoint", "status", "shared")
        assert "login0" in text
        code, text = nodes.command(1, "endpoint", "stop", "shared")
        assert code != 0
        assert "ssh login0 fxhpc endpoint stop shared" in text
    finally:
        code, text = nodes.command(0, "endpoint", "stop", "shared")
    assert code == 0, text

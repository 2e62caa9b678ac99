"""Processes are told apart by pid and start, whatever the clock says."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from fxhpc import hosts


def test_a_process_is_alive_until_it_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = hosts.start_time(process.pid)
    watch = hosts.Watch(process.pid, started)
    assert hosts.is_alive(process.pid, started)
    assert hosts.is_alive(process.pid, 0.0)
    assert not hosts.is_alive(process.pid, started + 10)  # another one, which had this pid before
    assert not watch.is_over()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not hosts.is_alive(process.pid, started)  # it waits to be buried
    assert watch.is_over()
    assert watch.fd < 0 or watch.has_signalled()
    watch.close()
    process.communicate()
    assert hosts.start_time(process.pid) == 0.0


def test_start_times_do_not_move_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hosts.start_time(os.getpid())
    assert abs(hosts.wall_time(before) - psutil.Process().create_time()) < 2.0
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86400.0)
    assert hosts.start_time(os.getpid()) == before
    assert hosts.is_alive(os.getpid(), before)


def test_a_boot_has_a_name() -> None:
    assert hosts.boot_id() == hosts.boot_id() != ""

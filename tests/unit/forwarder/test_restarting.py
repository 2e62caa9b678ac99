"""Ending the forwarder whose place another is to take."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.errors import ForwarderUnreachable
from fxhpc.forwarder import restarting
from fxhpc.forwarder.home import ForwarderAddress, Home
from fxhpc.hosts import boot_id, start_time


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def deaf(home: Home) -> Iterator[ForwarderAddress]:
    """What passes for the home's forwarder, and does not end when it is told to."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" TERM; echo; read word'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    started = start_time(process.pid)
    yield ForwarderAddress(platform.node(), boot_id(), process.pid, started, "", "")
    process.kill()
    process.communicate()


def test_one_that_does_not_end_is_named_with_the_way_on(
    home: Home, deaf: ForwarderAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarting, "END_S", 0.1)
    home.write_owner(deaf)
    with pytest.raises(ForwarderUnreachable) as raised:
        restarting.restart_forwarder(home)
    for word in (str(home.path), f"kill -CONT {deaf.pid}", f"kill -9 {deaf.pid}"):
        assert word in str(raised.value)
    assert home.read_owner() == deaf


def test_one_on_another_host_is_to_be_restarted_there(
    home: Home, deaf: ForwarderAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ForwarderAddress("login7", "another", deaf.pid, deaf.started, "", "")
    home.write_owner(there)
    monkeypatch.setattr(restarting, "find_forwarder", lambda home: there)
    with pytest.raises(ForwarderUnreachable, match="ssh login7 fxhpc forwarder restart"):
        restarting.restart_forwarder(home)

"""A process that may open no more files is told so before libzmq would end it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from fxhpc import errors
from fxhpc.client.connection import open_files
from fxhpc.forwarder.attach import module_environment

#: Leaves so many descriptors, and then makes clients of both kinds.
SCRIPT = """
import os, resource, sys
from fxhpc import Executor, FuncXClient, errors
import fxhpc.client.sending.functions, fxhpc.serialize

highest = max(map(int, os.listdir("/proc/self/fd")))
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + int(sys.argv[1]), hard))
for make in (FuncXClient, lambda: FuncXClient(embedded=True), lambda: Executor(1).submit(abs, 1)):
    try:
        make()
    except errors.ForwarderError as error:
        print(error)
"""


@pytest.mark.parametrize("spare", [1, 6])
def test_attaching_without_descriptors_says_which_limit(tmp_path: Path, spare: int) -> None:
    """With one, ZeroMQ raises an error without words; with six, it would end the process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(spare)],
        env={**module_environment(), "FXHPC_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    assert len(told) == 3
    for line in told:
        assert line.startswith("Too many files are open in this process (pid ")
        assert "(ulimit -n)" in line
        assert "`ulimit -n " in line
        assert "a client takes up to 32" in line
    assert not (tmp_path / "home").exists()


def test_where_there_is_room_nothing_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    open_files.check_open_files()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("number", "limits", "words"),
    [
        (errno.EMFILE, (100, 300), r"100 open \(ulimit -n\), 2 more can be.*`ulimit -n 300`"),
        (errno.EMFILE, (5000, resource.RLIM_INFINITY), "may have 5,000 open.*`ulimit -n 10000`"),
        (errno.EMFILE, (100, 100), "hard limit, which it is"),
        (errno.ENFILE, (100, 300), "No program can open files on this machine.*fs.file-max"),
    ],
)
def test_each_limit_has_its_words(
    monkeypatch: pytest.MonkeyPatch, number: int, limits: tuple[int, int], words: str
) -> None:
    def dup(_: int) -> int:
        raise OSError(number, os.strerror(number))

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "dup", dup)
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    with pytest.raises(errors.ForwarderError, match=words):
        open_files.check_open_files()
    assert os.listdir("/proc/self/fd") == before


def test_errors_for_want_of_descriptors_are_known() -> None:
    raised = errors.HomeError("no forwarder can be started")
    raised.__cause__ = OSError(errno.EMFILE, "Too many open files")
    for error in (zmq.ZMQError(errno.EMFILE), OSError(errno.ENFILE, "full"), raised):
        assert open_files.is_exhausted(error)
        assert "files" in open_files.told(error)
    for other in (OSError(errno.ENOENT, "away"), ValueError("nonsense"), errors.HomeError("a")):
        assert not open_files.is_exhausted(other)
        assert open_files.told(other) == str(other)

"""The client, and `local`, where the system has not what Linux has: as on macOS.

Python's names for it are taken away, in this process's children and theirs: whatever uses one of
them fails. Their kernel stays Linux, so that nothing is shown of what only macOS has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from homes import TestHome
from sshd import Sshd, fxhpc

from fxhpc.testing.endpoint import RunningEndpoint

_TAKE_AWAY = """
import builtins, fcntl, io, os, resource, select, selectors, signal, socket, sys, sysconfig, time
import psutil

sysconfig.get_config_vars()  # these two know this system as it is

GONE = {
    fcntl: ["F_ADD_SEALS", "F_SEAL_GROW", "F_SEAL_SEAL", "F_SEAL_SHRINK", "F_SEAL_WRITE"],
    os: [
        "EFD_CLOEXEC", "EFD_NONBLOCK", "MFD_ALLOW_SEALING", "MFD_CLOEXEC", "O_PATH", "O_TMPFILE",
        "P_PID", "WCONTINUED", "WEXITED", "WNOWAIT", "WSTOPPED", "copy_file_range", "eventfd",
        "fdatasync", "getrandom", "memfd_create", "pidfd_open", "pipe2", "posix_fadvise",
        "posix_fallocate", "sched_getaffinity", "sched_setaffinity", "splice", "waitid",
    ],
    resource: ["prlimit"],
    select: ["epoll"],  # which stands for kqueue, in `selectors` alone
    signal: ["pidfd_send_signal"],
    socket: [
        "MSG_CMSG_CLOEXEC", "MSG_NOSIGNAL", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SOCK_SEQPACKET",
        "SO_PEERCRED",
    ],
    time: ["CLOCK_BOOTTIME"],
}
for module, names in GONE.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def without_proc(function):
    def guarded(path=".", *args, **kwargs):
        text = path if isinstance(path, str) else str(path)
        if text.startswith("/proc"):
            if not sys._getframe(1).f_globals.get("__name__", "").startswith("psutil"):
                raise FileNotFoundError(2, "there is no /proc here", text)
        return function(path, *args, **kwargs)

    return guarded


builtins.open = io.open = without_proc(open)
for name in ("open", "listdir", "scandir", "stat", "lstat", "readlink"):
    setattr(os, name, without_proc(getattr(os, name)))
sys.platform = "darwin"
"""

_WORK = """
import json, os, signal, sys

assert sys.platform == "darwin" and not hasattr(os, "pidfd_open") and not os.path.exists("/proc")

import fxhpc
from fxhpc import Executor, FuncXClient


def double(x):
    return 2 * x


def system():
    return sys.platform, hasattr(os, "memfd_create"), os.path.exists("/proc")


def use(client, endpoint):
    function = client.register_function(double)
    batch = client.create_batch()
    for index in range(50):
        batch.add(index, endpoint_id=endpoint, function_id=function)
    batch.add(b"x" * 1_000_000, endpoint_id=endpoint, function_id=function)
    ids = client.batch_run(batch)
    client.wait(ids, 60)
    results = [client.get_result(one) for one in ids]
    assert results == [*range(0, 100, 2), b"x" * 2_000_000], results


where = sys.argv[1]
if where == "embedded":
    with Executor(2) as executor:
        assert list(executor.map(double, range(20))) == [*range(0, 40, 2)]
        assert executor.submit(double, b"x" * 1_000_000).result(60) == b"x" * 2_000_000
        assert executor.submit(system).result(60) == ("darwin", False, False)
else:
    with FuncXClient(None if where == "home" else where) as client:
        endpoint = "local" if where == "home" else "midway"
        use(client, endpoint)
        with Executor(client=client, endpoint_id=endpoint) as executor:
            assert executor.submit(double, 4).result(60) == 8
        if where == "home":
            with open(os.environ["FXHPC_HOME"] + "/forwarder.json") as file:
                os.kill(json.load(file)["pid"], signal.SIGKILL)
            use(client, endpoint)
print("done")
"""


@pytest.fixture
def elsewhere(home: TestHome) -> TestHome:
    """The test's home; what is started there has nothing of Linux."""
    home.write("sitecustomize.py", _TAKE_AWAY)
    home.environment["PYTHONPATH"] = str(home.scripts)
    return home


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint of that home with one worker, on Linux."""
    with RunningEndpoint(home.path, "midway", managers=1, workers=1) as endpoint:
        yield endpoint


def test_a_home(elsewhere: TestHome) -> None:
    assert elsewhere.run("work.py", _WORK, "home") == "done\n"


def test_an_executor_of_its_own(elsewhere: TestHome) -> None:
    assert elsewhere.run("work.py", _WORK, "embedded") == "done\n"


def test_a_home_that_ssh_leads_to(
    elsewhere: TestHome, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    sshd = Sshd(tmp_path / "ssh d")
    sshd.start()
    try:
        elsewhere.environment["FXHPC_SSH"] = sshd.command
        elsewhere.environment["FXHPC_HOME"] = os.fspath(tmp_path / "no home here")
        command = f"env FXHPC_FORWARDER_GRACE=0.3 {fxhpc()}"
        url = f"ssh://login{elsewhere.path}?command={command}"
        assert elsewhere.run("work.py", _WORK, url) == "done\n"
    finally:
        sshd.stop()

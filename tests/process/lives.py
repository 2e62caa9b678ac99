"""What tests of life in other people's processes share: tasks that hold on, and who is alive."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
from homes import TestHome, title

from tests.waiting import LIMIT, eventually

#: Seconds, as promised: until the prompt is back, and until what ran is gone.
PROMPT_S = 1.0
GONE_S = 2.0

#: Seconds that a forwarder stays: long enough for a next client to find it, mostly.
GRACE = "0.3"

#: Put before a script: a task that leaves processes in every way, and notes their pids.
TASKS = """
import os, sys, time
from fxhpc import Executor, FuncXClient

def hold(folder, number=0):
    import os, subprocess, time
    child = subprocess.Popen(["sleep", "1000"])
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()  # a daemon: a session of its own, and soon no parent
        daemon = os.fork()
        if daemon == 0:
            os.execvp("sleep", ["sleep", "1000"])
        os.write(writer, str(daemon).encode())
        os._exit(0)
    os.waitpid(between, 0)
    daemon = int(os.read(reader, 100))
    part = os.path.join(folder, f"part-{number}")
    with open(part, "w") as file:
        file.write(f"{os.getpid()} {child.pid} {daemon}")
    os.rename(part, os.path.join(folder, f"pids-{number}"))
    time.sleep(1000)

def double(x):
    return 2 * x

def at_prompt():
    print("prompt", flush=True)
    sys.stdin.readline()
"""


def script(code: str) -> str:
    """A script that knows TASKS."""
    return TASKS + textwrap.dedent(code)


def launch(
    home: TestHome, name: str, code: str, *arguments: object, python: str = sys.executable
) -> subprocess.Popen[str]:
    """Run a script in a process group of its own, as a shell does."""
    path = home.write(name, code)
    process = subprocess.Popen(
        [python, str(path), *map(str, arguments)],
        env={**home.environment, "FXHPC_FORWARDER_GRACE": GRACE},
        cwd=home.scripts,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    home._started.append(process)
    return process


def held(folder: Path, count: int) -> list[int]:
    """The pids of so many tasks that hold on, and of what they have started; waits for them."""
    eventually(lambda: len(list(folder.glob("pids-*"))) >= count)
    return [int(pid) for path in sorted(folder.glob("pids-*")) for pid in path.read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def gone(pids: list[int], within: float = GONE_S) -> float:
    """Wait until none of these is alive; the seconds that it took."""
    began = time.monotonic()
    eventually(lambda: not any(map(alive, pids)), within)
    return time.monotonic() - began


def read_line(process: subprocess.Popen[str], within: float = LIMIT) -> str:
    """The next line that a script prints; what it wrote to stderr, if there is none."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + within
    line = b""
    while not line.endswith(b"\n"):  # from the pipe itself: its buffer would hide further lines
        ready, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
        assert ready, f"printed nothing for {within} s, but {line!r}"
        read = os.read(process.stdout.fileno(), 1)
        assert read, f"has ended: {process.stderr.read()}"
        line += read
    return line.decode().rstrip("\n")


def say(process: subprocess.Popen[str], line: str = "") -> None:
    """Write a line to a script."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def titled(home: TestHome, word: str) -> list[psutil.Process]:
    """The processes of this test whose title has this word."""
    return [process for process in home.processes() if word in title(process)]


def only_forwarder_left(home: TestHome, within: float = GONE_S) -> None:
    """Wait until nothing of a home's clients is left."""

    def others() -> list[str]:
        found = []
        for process in home.processes():
            try:
                words = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if "forwarder" not in words:
                found.append(words)
        return found

    eventually(lambda: not others(), within, told=lambda: f"still there: {others()}")


def socket_directories(process: int) -> set[str]:
    """The directories of the sockets that a process listens on."""
    addresses = [one.laddr for one in psutil.Process(process).net_connections("unix")]
    return {os.path.dirname(one) for one in addresses if one.startswith("/tmp/fxhpc-")}

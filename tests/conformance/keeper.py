"""Runs a command and waits until nothing of it is left: neither children nor what they orphaned.

The command's keeper is a process of its own and a subreaper: every descendant whose parent ends
becomes its child, whatever session or group it is in, so none escapes its count.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import fxhpc

#: What a keeper exits with when something was left after the time.
LEFT_BEHIND = 99

_SOURCE = """
import ctypes, os, signal, subprocess, sys
import psutil

limit, left_behind, argv = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0):  # PR_SET_CHILD_SUBREAPER
    sys.exit("this kernel has no subreapers")

def too_late(*_):
    left = psutil.Process().children(recursive=True)
    for process in left:
        try:
            print("left behind:", process.pid, process.cmdline(), file=sys.stderr)
            process.kill()
        except psutil.Error:
            pass
    os._exit(left_behind)

signal.signal(signal.SIGALRM, too_late)
signal.setitimer(signal.ITIMER_REAL, limit)
first = subprocess.Popen(argv).pid
code = 0
while True:
    try:
        pid, status = os.waitpid(-1, 0)
    except ChildProcessError:
        os._exit(code)
    if pid == first:
        code = os.waitstatus_to_exitcode(status) & 0xFF
"""


def run_kept(
    command: Sequence[str],
    home: str | os.PathLike[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    limit: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run the command in a home of its own, until it and all that it started have gone.

    Args:
        command: a program and its arguments.
        home: the FXHPC_HOME; its forwarder leaves a second after its last client.
        env: more variables of the environment.
        limit: seconds for all of it; what is left then is killed, and the code is LEFT_BEHIND.
    """
    # The fxhpc that is tested is the one that this process has, installed or not.
    path = [str(Path(fxhpc.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environ = os.environ | {
        "FXHPC_HOME": str(home),
        "FXHPC_FORWARDER_GRACE": "0.3",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }
    environ |= env or {}
    keeper = subprocess.Popen(
        [sys.executable, "-c", _SOURCE, str(limit), str(LEFT_BEHIND), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environ,
    )
    try:
        out, err = keeper.communicate(timeout=limit + 10)
    except BaseException:
        keeper.send_signal(signal.SIGALRM)  # it ends what is left
        keeper.wait()
        raise
    return subprocess.CompletedProcess(command, keeper.returncode, out, err)

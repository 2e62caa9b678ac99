"""Waits until a child has ended, and ends one that stands still: nobody else would."""

from __future__ import annotations

import logging
import os
import subprocess
import threading

from fxhpc.client.shown.sparing import SparingLog

#: Seconds after which a child that was stopped (SIGSTOP) and does not go on is given up: as long
#: as its interchange waits for its heartbeats.
STILL_S = 15.0

#: Seconds between two looks at one that stands still.
_LOOK_S = 0.5

_warnings = SparingLog(logging.getLogger(__name__))


def wait(process: subprocess.Popen[bytes], leaving: threading.Event) -> int:
    """Wait for the end of a child: how it ended, as `Popen.wait` tells.

    Only the time counts in which this process runs itself: whoever stops both at once (`scontrol
    suspend`) lets both go on, and nothing is lost by that.

    Args:
        leaving: the child is asked to end, which it cannot while it stands still.
    """
    while _stands_still(process.pid):
        still_s = 0.0
        while still_s < STILL_S and not leaving.wait(_LOOK_S) and not _goes_on(process.pid):
            still_s += _LOOK_S
        if leaving.is_set() or still_s >= STILL_S:
            if not leaving.is_set():
                _warnings.warning(
                    0.0,
                    "the manager of this process's local endpoint, pid %s, stood still for %s s "
                    "(SIGSTOP): it is killed, and another one runs its tasks again",
                    process.pid,
                    f"{STILL_S:g}",
                )
            try:
                process.kill()
            except OSError:
                pass  # it has gone
            break
    return process.wait()


def _stands_still(pid: int) -> bool:
    """Wait until a child has ended, or is stopped: whether it is. Its end is left to be waited for,
    its stop is not.
    """
    if not hasattr(os, "waitid"):
        return False  # macOS before Python 3.13
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None
    except ChildProcessError:
        return False  # somebody else has waited for it


def _goes_on(pid: int) -> bool:
    """Whether a stopped child has been continued, or has ended."""
    try:
        if os.waitid(os.P_PID, pid, os.WCONTINUED | os.WNOHANG) is not None:
            return True
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True

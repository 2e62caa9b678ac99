"""The memory of children that a task waits for: the kernel itself only knows the largest ever."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # who only asks need not import it
    import subprocess

_UNIT = 1024 if sys.platform.startswith("linux") else 1  # of the largest resident size

_peak = 0


def wait(process: subprocess.Popen[Any]) -> int:
    """Wait for a child, and note its memory; its code, as `Popen.wait` has it."""
    global _peak
    if process.returncode is None:
        try:
            pid, status, used = os.wait4(process.pid, 0)
        except ChildProcessError:  # somebody else has waited for it
            return process.wait()
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            _peak = max(_peak, used.ru_maxrss * _UNIT)
    return process.wait()


def take_peak() -> int:
    """The largest resident size of what was waited for since this was asked last, in bytes."""
    global _peak
    peak, _peak = _peak, 0
    return peak

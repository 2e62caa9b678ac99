"""What a task has used, of those that ran for a moment: when, where, processor time and memory."""

from __future__ import annotations

import errno
import os
import resource
import sys
import time

import msgspec

from fxhpc import children
from fxhpc.protocol.outcome import Output
from fxhpc.version import __version__

#: Seconds from which on a task is told of: for shorter ones it would take a part of their time.
TOLD_FROM_S = 0.01

_LINUX = sys.platform.startswith("linux")
_UNIT = 1024 if _LINUX else 1  # of the largest resident size
_RESET_PEAK = b"5"  # see proc(5), clear_refs
# A task may put others there.
_wall, _open, _write, _close = time.time, os.open, os.write, os.close

_decode = msgspec.msgpack.Decoder(Output).decode
_encode = msgspec.msgpack.Encoder().encode


class Usage:
    """Tells of the tasks of one worker process.

    Nothing is measured when a task begins: most are short, and nobody knows which. Processor time
    counts from the message that brought a task, or from the last task before it that was told of;
    the largest memory from the latter. What short ones between add to that is little: a message
    has about 1 ms of work, and nobody fills much memory in 10 ms.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._versions = ""
        self._can_reset = _LINUX
        self._of_children = _peak_of_children()  # the largest that any task before has had
        self._cpu_s, self._peak = _read()

    def begin(self) -> None:
        """Tasks have come."""
        self._cpu_s = _cpu_s(resource.getrusage(resource.RUSAGE_SELF))

    def told(self, ran: float, printed: bytes) -> bytes:
        """What is told of a task that has just ended, packed.

        Args:
            ran: seconds that it took.
            printed: what it printed, packed, if that is kept and there is any.
        """
        before_s, before = self._cpu_s, self._peak
        self._cpu_s, peak = _read()
        output = _decode(printed) if printed else Output()
        output.started = _wall() - ran
        output.cpu_s = max(0.0, self._cpu_s - before_s)
        if self._can_reset or peak > before:  # else it may be that of any task before
            output.peak_memory = peak
        # Of its children, too: that of a command was noted, that of others is known if it is the
        # largest so far. The kernel does not count these anew.
        of_children, before = _peak_of_children(), self._of_children
        self._of_children = of_children
        output.peak_memory = max(
            output.peak_memory, children.take_peak(), of_children if of_children > before else 0
        )
        output.pid = self._pid
        output.versions = self._versions = self._versions or _versions()
        self._peak = peak
        if self._can_reset:
            self._reset_peak()
        return _encode(output)

    def _reset_peak(self) -> None:
        """Have the largest resident size counted from here."""
        try:
            # Opened anew each time: a task may have closed any descriptor that was kept.
            fd = _open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                _write(fd, _RESET_PEAK)
            finally:
                _close(fd)
        except OSError as error:
            # A container may forbid it; or a task has left no room for one file more.
            self._can_reset = error.errno in (errno.EMFILE, errno.ENFILE)


def _read() -> tuple[float, int]:
    """Processor time so far, in seconds, and the largest resident size, in bytes."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    return _cpu_s(mine), mine.ru_maxrss * _UNIT


def _peak_of_children() -> int:
    """The largest resident size of any child that was waited for so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _UNIT


def _cpu_s(mine: resource.struct_rusage) -> float:
    """Seconds of processor time, those of children that were waited for included."""
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + others.ru_utime + others.ru_stime


def _versions() -> str:
    dill = sys.modules.get("dill")  # the seed has imported it
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{python} {__version__} {getattr(dill, '__version__', '')}".rstrip()

"""Who may end an interchange: signals, and the end of a process that it belongs to."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import psutil

from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.interchange.events import StopAsked
from fxhpc.protocol.provision import InterchangeSpec

#: Seconds by which two start times of one process may differ: the kernel's clock is adjusted.
_SAME_START_S = 2.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopping:
    """Turns signals, and the end of the watched process, into `StopAsked`.

    SIGTERM and SIGINT stop as `stop.json` says, a second one without draining; a third one means
    to leave at once. SIGHUP leaves at once too, and keeps the blocks.

    Attributes:
        fds: descriptors to poll.
        at_once: leave now, whatever is still to be done.
    """

    def __init__(self, directory: EndpointDirectory, spec: InterchangeSpec) -> None:
        self._directory = directory
        self._spec = spec
        self._asked = 0
        self.at_once = False
        self._received: list[int] = []
        self._watch = Watch(spec.watch_pid, spec.watch_started) if spec.watch_pid else None
        # A signal that comes while the loop waits ends its wait.
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda number, frame: self._received.append(number))

    @property
    def fds(self) -> list[int]:
        """Descriptors that become readable when there is something to look at."""
        watched = [self._watch.fd] if self._watch is not None and self._watch.fd >= 0 else []
        return [self._reader, *watched]

    def look(self) -> StopAsked | None:
        """Whether somebody wants the end, and how."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 64)
        asked: StopAsked | None = None
        received, self._received = self._received, []
        for number in received:
            asked = self._heed(number)
        if self._watch is not None and self._watch.is_gone():
            self._watch.close()
            self._watch = None
            asked = StopAsked(keep_blocks=False, drain_s=0.0)
        return asked

    def close(self) -> None:
        """Signals have their usual effect again."""
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.close(self._reader)
        os.close(self._writer)
        if self._watch is not None:
            self._watch.close()

    def _heed(self, number: int) -> StopAsked:
        if number == signal.SIGHUP:
            return StopAsked(keep_blocks=True, drain_s=0.0)
        self._asked += 1
        self.at_once = self._asked > 2
        request = self._directory.read_stop_request()
        drain_s = self._spec.drain_s if request.drain_s is None else request.drain_s
        return StopAsked(request.keep_blocks, drain_s if self._asked == 1 else 0.0)


class Watch:
    """Looks whether a process still lives: by a descriptor of it, where the kernel has such.

    Args:
        pid: of the process.
        started: its start as psutil has it, seconds since the epoch; 0: not compared.
    """

    def __init__(self, pid: int, started: float) -> None:
        self._pid = pid
        self.fd = -1
        open_pidfd: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
        with contextlib.suppress(OSError):
            if open_pidfd is not None:
                self.fd = open_pidfd(pid)
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
            if started and abs(self._process.create_time() - started) > _SAME_START_S:
                self._process = None  # another one, which got its pid
        except psutil.Error:
            self._process = None

    def is_gone(self) -> bool:
        """Whether it has ended."""
        if self._process is None:
            return True
        try:
            return not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return True

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

"""Who may end an interchange: signals, and the end of a process that it belongs to."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from fxhpc.hosts import Watch
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.interchange.events import StopAsked
from fxhpc.protocol.provision import InterchangeSpec

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopping:
    """Turns signals, and the end of the watched process, into `StopAsked`.

    SIGTERM and SIGINT stop as `stop.json` says, a second one without draining; a third one means
    to leave at once. SIGHUP leaves at once too, and keeps the blocks. So does SIGTERM under a
    supervisor where nobody has written `stop.json`: logouts and shutdowns send it to everybody.

    Attributes:
        fds: descriptors to poll.
        at_once: leave now, whatever is still to be done.
    """

    def __init__(self, directory: EndpointDirectory, spec: InterchangeSpec, name: str) -> None:
        self._name = name
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
        if self._watch is not None and self._watch.is_over():
            self._watch.close()
            self._watch = None
            who = "when the process that it belonged to had ended"
            asked = StopAsked(keep_blocks=False, drain_s=0.0, why=self._why(who))
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
        is_ordered = self._directory.stop_request.exists() or not self._spec.supervised
        if number == signal.SIGHUP or (number == signal.SIGTERM and not is_ordered):
            return StopAsked(keep_blocks=True, drain_s=0.0)
        self._asked += 1
        self.at_once = self._asked > 2
        directory = self._directory
        request = directory.read_stop_request()
        drain_s = self._spec.drain_s if request.drain_s is None else request.drain_s
        who = f"by a signal to its process ({signal.Signals(number).name})"
        if directory.stop_request.exists():
            now = " --now" if request.drain_s == 0 else ""
            who = f"by its user's command (fxhpc endpoint stop {self._name}{now}, or delete)"
        return StopAsked(
            request.keep_blocks, drain_s if self._asked == 1 else 0.0, why=self._why(who)
        )

    @staticmethod
    def _why(who: str) -> str:
        """Why tasks were cut off, for whoever asks for them."""
        return f"the endpoint was stopped {who} on {time.strftime('%Y-%m-%d at %H:%M:%S')}"

"""The provisioner's process, as the interchange has it: started, heard, killed when it hangs."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time

import msgspec

from fxhpc.protocol import provision as pro
from fxhpc.transport.frames import Frames, frame

#: Seconds that it may take to be ready: it imports Parsl, from a file system that may be slow.
START_S = 180.0

#: Seconds beyond the limit of its commands in which it must answer.
ANSWER_MARGIN_S = 15.0

#: Seconds until the next one is started, after one that ended before it was ready.
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 60.0

log = logging.getLogger("fxhpc.interchange")
_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[pro.FromProvisioner] = msgspec.msgpack.Decoder(
    pro.FromProvisioner
)


class ProvisionerProcess:
    """Keeps a provisioner running. It never blocks on it.

    Args:
        spec: what it is told first.
        command: how it is started, before its descriptor and this process's pid.
    """

    def __init__(
        self,
        spec: pro.ProvisionerSpec,
        command: tuple[str, ...] = (sys.executable, "-m", "fxhpc.endpoint.provisioner"),
    ) -> None:
        self._spec = spec
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._frames: Frames | None = None
        self._unsent = bytearray()
        self._later: list[pro.ToProvisioner] = []  # asked for while there was none
        self._ready = False
        self._unanswered = 0
        self._heard = 0.0  # its last word, or the first question after that
        self._delay_s = _FIRST_DELAY_S
        self._start_at = 0.0
        self._ending: list[subprocess.Popen[bytes]] = []  # killed, and perhaps not gone yet

    @property
    def fd(self) -> int:
        """The descriptor to poll; -1 while there is no process."""
        return self._link.fileno() if self._link is not None else -1

    @property
    def pid(self) -> int:
        """The process's; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def send(self, message: pro.ToProvisioner) -> None:
        """Ask for something. If there is no process now, the next one is asked."""
        if self._link is None:
            self._later.append(message)
            return
        if not isinstance(message, pro.WatchBlocks):
            if not self._unanswered:
                self._heard = time.monotonic()
            self._unanswered += 1
        self._unsent += frame(_encode(message))
        self._flush()

    def receive(self) -> tuple[list[pro.FromProvisioner], str]:
        """What it says, and, if it has ended, why; no effect if nothing has come."""
        if self._link is None or self._frames is None:
            return [], ""
        self._flush()
        try:
            received = self._frames.receive()
        except BlockingIOError:
            return [], ""
        if received is None:
            return [], self._lose(self._how_it_ended())
        found: list[pro.FromProvisioner] = []
        for data in received:
            try:
                message = _decoder.decode(data)
            except msgspec.DecodeError as error:
                return found, self.kill(f"it said what nobody understands: {error}")
            self._heard = time.monotonic()
            if isinstance(message, (pro.ProvisionerReady, pro.ProvisionerFailed)):
                self._ready, self._delay_s = True, _FIRST_DELAY_S
            elif not (isinstance(message, pro.Jobs) and message.unasked):
                self._unanswered = max(0, self._unanswered - 1)
            found.append(message)
        return found, ""

    def look_after(self) -> str:
        """Start it if there is none; kill it if it hangs. Why it was killed, if it was."""
        now = time.monotonic()
        self._ending = [process for process in self._ending if process.poll() is None]
        if self._process is None:
            if now >= self._start_at:
                self._start()
            return ""
        silent_s = now - self._heard
        if not self._ready:
            if silent_s > START_S:
                return self.kill(f"it was not ready after {silent_s:.0f} s")
        elif self._unanswered and silent_s > self._spec.command_s + ANSWER_MARGIN_S:
            return self.kill(f"a command of the batch system hung for {silent_s:.0f} s")
        return ""

    def kill(self, why: str) -> str:
        """End it, and with it the command that it runs: another one is started later."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
        return self._lose(why)

    def close(self, patience_s: float = 2.0) -> None:
        """End it for good, politely."""
        process = self._process
        self._start_at = float("inf")
        if process is None:
            return
        self._lose("")
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()

    def _start(self) -> None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:  # no descriptor is left
            log.error("the provisioner cannot be started: %s", error)
            self._put_off()
            return
        try:
            self._process = subprocess.Popen(
                [*self._command, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                cwd="/",  # nothing in a user's directory must stand before a module
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            log.error("the provisioner cannot be started: %s", error)
            ours.close()
            self._put_off()
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        self._link, self._frames = ours, Frames(ours)
        self._ready, self._unanswered, self._heard = False, 0, time.monotonic()
        self._unsent = bytearray(frame(_encode(self._spec)))
        later, self._later = self._later, []
        for message in later:
            self.send(message)
        self._flush()

    def _flush(self) -> None:
        if self._link is None or not self._unsent:
            return
        try:
            del self._unsent[: self._link.send(self._unsent)]
        except BlockingIOError:
            pass  # at the next look
        except OSError:
            self._unsent.clear()  # it has ended: that is read from its link

    def _lose(self, why: str) -> str:
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            self._ending.append(self._process)
        self._link = self._frames = self._process = None
        self._unsent.clear()
        if why:
            log.warning("the provisioner is gone: %s", why)
            self._put_off()
        return why

    def _put_off(self) -> None:
        self._start_at = time.monotonic() + self._delay_s
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)

    def _how_it_ended(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(1.0)  # its link is closed: it ends, or has ended
        except subprocess.TimeoutExpired:
            self._process.kill()
            return "it has closed its link"
        if code < 0:
            return f"signal {signal.Signals(-code).name} ended it"
        return f"it ended with exit code {code}; see {self._spec.log_file or 'its log'}"

"""An interchange as a child of this process: started, heard until it is ready, explained."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
import time

import msgspec

from fxhpc.endpoint.logs import last_lines
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.provision import InterchangeSpec

#: What a process says over its descriptor when it serves; anything else is why it does not.
READY = "ready"

#: Seconds that an interchange may take to be ready.
READY_S = 60.0

#: Open files that it needs beside those for its managers.
_OWN_FILES = 128

#: Lines of its log that tell why it ended without a word.
_LAST_LINES = 3


class InterchangeChild:
    """One run of an endpoint's interchange, from its start to its end.

    Its standard output and error go to its log. It has a session of its own: Ctrl-C is its
    parent's to hear, and it outlives a parent that is killed.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        directory: EndpointDirectory,
        spec: InterchangeSpec,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._log = directory.log
        self._said = b""
        self._killed = ""
        self._begun = time.monotonic()
        self.is_ready = False
        reader, writer = os.pipe()
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            output = os.open(self._log, flags, 0o600)
            try:
                self._log_start = os.fstat(output).st_size
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "fxhpc.interchange",
                        str(directory.path),
                        str(writer),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    cwd="/",  # nothing in the user's directory must stand before a module
                    env=environment,
                    pass_fds=(writer,),
                    start_new_session=True,
                )
            finally:
                os.close(output)
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        _allow_files(self._process.pid, spec)
        #: Where it says whether it is ready; -1 when it has.
        self.ready_fd = reader
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(msgspec.msgpack.encode(spec))

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._begun

    def hear(self) -> bool:
        """Read what it says as it starts: whether this call has learnt that it is ready."""
        while self.ready_fd >= 0 and select.select([self.ready_fd], [], [], 0)[0]:
            part = os.read(self.ready_fd, 4096)
            self._said += part
            if part and self._said != READY.encode():
                continue
            os.close(self.ready_fd)
            self.ready_fd = -1
            self.is_ready = self._said == READY.encode()
            return self.is_ready
        return False

    def has_ended(self) -> bool:
        """Whether it has ended; it is waited for then."""
        if self._process.poll() is None:
            return False
        self.hear()
        self.close()
        return True

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self, why: str = "") -> None:
        """End it at once; `why` tells later why it ended."""
        self._killed = why
        self.send(signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end: whether it came in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self.has_ended()

    def close(self) -> None:
        """Listen no longer."""
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1

    def how(self) -> str:
        """How it has ended."""
        return self._killed or how_ended(self._process.returncode)

    def why(self) -> str:
        """Why it has ended: its own words, or how, and what it wrote last."""
        said = self._said.decode(errors="replace").strip()
        if said and said != READY:
            return said
        if self._killed:
            return self._killed
        text = f"the interchange ended, {how_ended(self._process.returncode)}"
        words = last_lines(self._log, _LAST_LINES, self._log_start)
        return f"{text}: {' | '.join(words)}" if words else text


def files_needed(spec: InterchangeSpec) -> int:
    """Open files that an interchange needs when all its blocks run: one for each manager."""
    policy = spec.scaling
    managers = policy.max_blocks * policy.nodes_per_block if policy is not None else 1
    return _OWN_FILES + managers


def _allow_files(pid: int, spec: InterchangeSpec) -> None:
    """Raise its limit on open files, if that is too low for its managers. No further: batch
    systems hand the limit on to jobs.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = files_needed(spec)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    with contextlib.suppress(OSError, ValueError):  # it works with fewer managers
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (needed, hard))


def how_ended(code: int) -> str:
    """How a process ended, from the code that `subprocess` has of it.

    >>> how_ended(-9)
    'by SIGKILL'
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"

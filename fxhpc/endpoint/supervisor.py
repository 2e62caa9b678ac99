"""Keeps one endpoint's interchange running: `python -m fxhpc.endpoint.supervisor DIRECTORY FD`.

It starts the interchange, starts it again when it dies, and ends it when told to. It knows nothing
of tasks and blocks, so it has no reason to die itself; if it is killed, the interchange goes on
without it. SIGTERM (and SIGINT) stop the endpoint as `stop.json` says, SIGHUP keeps its blocks; so
does SIGTERM in the background without that file, since it is a logout's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from setproctitle import setproctitle

from fxhpc import hosts
from fxhpc.endpoint import identity
from fxhpc.endpoint.child import READY, READY_S, InterchangeChild
from fxhpc.endpoint.logs import Follower, log_to_file
from fxhpc.endpoint.report import BUSY, STOPPED, Report
from fxhpc.endpoint.restarts import LONGEST_DELAY_S, Restarts
from fxhpc.interchange.directory import EndpointDirectory, replace_file
from fxhpc.protocol.provision import InterchangeSpec, StopRequest
from fxhpc.version import __version__

#: Seconds that the interchange may take to end, beyond its draining: it waits for the batch
#: system to cancel blocks.
STOP_MARGIN_S = 60.0

_ECHO_S, _KILLED_S = 0.3, 10.0

log = logging.getLogger("fxhpc.supervisor")


def main(arguments: list[str]) -> int:
    """Supervise an endpoint until it is stopped: an exit code.

    Args:
        arguments: the endpoint's directory; a descriptor where it says "ready" or why it does not
            come up, or -1; "foreground" if its log goes to standard error too; "json" if what it
            says is to be a JSON document. An `InterchangeSpec` comes on standard input.
    """
    report = Report(int(arguments[1]), Path(arguments[0]).name, "json" in arguments[2:])
    foreground = "foreground" in arguments[2:]
    spec = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=InterchangeSpec)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _empty_stdin()
    directory = EndpointDirectory(arguments[0], spec.state_dir)
    record = directory.read_record()
    if record is None:
        report.say(f"there is no endpoint in {directory.path}")
        return 1
    setproctitle(f"fxhpc: supervisor {record.name}")
    try:
        directory.logs.mkdir(mode=0o700, exist_ok=True)
        supervisor = Supervisor(directory, record.name, spec, report, foreground)
    except OSError as error:
        report.say(f"{error.filename or directory.path}: {error.strerror}")
        return 1
    if not supervisor.take_lock():
        report.say(BUSY)
        if foreground:
            print(
                f"error: endpoint {record.name!r} is being started by another process",
                file=sys.stderr,
            )
        return 1
    return supervisor.run()


class Supervisor:
    """The supervisor of one endpoint.

    Args:
        report: where readiness is told.
        foreground: somebody looks on: log to standard error, and let Ctrl-C stop the endpoint.
    """

    def __init__(
        self,
        directory: EndpointDirectory,
        name: str,
        spec: InterchangeSpec,
        report: Report,
        foreground: bool = False,
    ) -> None:
        self._directory = directory
        self._name = name
        if not spec.log_file:
            spec.log_file = str(directory.log)
        spec.supervised = not foreground
        self._spec = spec
        self._report = report
        self._foreground = foreground
        self._lock = -1
        self._record = identity.SupervisorRecord(
            host=platform.node(),
            boot=hosts.boot_id(),
            pid=os.getpid(),
            started=hosts.start_time(os.getpid()),
            version=__version__,
            since=time.time(),
        )
        self._restarts = Restarts()
        self._child: InterchangeChild | None = None
        self._start_at = 0.0  # when to start the next
        self._give_up_at = float("inf")  # when the one that stops, or starts, is killed
        self._was_ready = False
        self._stopping = False
        self._keep_blocks = False
        self._taken = False  # another host has it now
        self._removed = False  # its directory was
        self._signals: list[int] = []
        self._next_sign = 0.0
        self._exit_code = 0
        log_to_file(directory.logs / "supervisor.log", spec.log_bytes, spec.log_files, foreground)
        self._echo = Follower(directory.log) if foreground else None

    def take_lock(self) -> bool:
        """Become the endpoint's supervisor; False if another is it."""
        import fcntl

        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        self._lock = os.open(self._directory.supervisor_lock, flags, 0o600)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def run(self) -> int:
        """Supervise until told to stop, or until the first interchange cannot start."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        log.info("started: fxhpc %s, endpoint %s, pid %d", __version__, self._name, os.getpid())
        try:
            self._directory.stop_request.unlink(missing_ok=True)
            identity.write_supervisor(self._directory, self._record)
            while not self._is_over():
                self._wait(reader)
                self._hear()
                self._reap()
                self._heed_signals()
                self._look_at_clock()
        except OSError as error:
            where = error.filename or self._directory.path
            self._fail(f"the supervisor cannot go on: {where}: {error.strerror}")
        finally:
            self._end()
        return self._exit_code

    # --- the interchange --------------------------------------------------------------------------

    def _start(self) -> None:
        try:
            self._child = InterchangeChild(self._directory, self._spec)
        except OSError as error:
            why = f"the interchange cannot be started: {error.filename or ''} {error.strerror}"
            if not self._was_ready:
                self._fail(why)
                return
            log.error("%s; tried again in %.0f s", why, LONGEST_DELAY_S)
            self._start_at = time.monotonic() + LONGEST_DELAY_S
            self._tell(trouble=why)
            return
        self._give_up_at = time.monotonic() + READY_S
        self._tell(interchange=self._child.pid)

    def _hear(self) -> None:
        """The interchange may have become ready."""
        if self._child is None or not self._child.hear():
            return
        log.info(
            "the interchange is ready, pid %d, after %.2f s", self._child.pid, self._child.age_s
        )
        self._was_ready = True
        if self._stopping:
            return
        self._give_up_at = float("inf")
        self._directory.failure.unlink(missing_ok=True)
        self._tell(phase="running", trouble="")
        self._report.say(READY)

    def _reap(self) -> None:
        """The interchange may have ended: in order, or not."""
        if self._child is None or not self._child.has_ended():
            return
        child, self._child = self._child, None
        self._give_up_at = float("inf")
        if self._stopping:
            log.info("the interchange has ended, %s", child.how())
            self._look_for_leftovers()
            return
        why = child.why()
        if not self._was_ready and not child.is_ready:
            self._fail(why)
            return
        lived = child.age_s
        delay = self._restarts.died(lived, child.is_ready)
        when = f"in {delay:.1f} s" if delay else "at once"
        log.error("%s; it lived %.1f s and is started again %s", why, lived, when)
        self._start_at = time.monotonic() + delay
        if self._restarts.is_trouble:
            why = (
                f"the interchange died {self._restarts.in_a_row} times as it started, and is "
                f"started again every {delay:.0f} s: {why}"
            )
            self._write_failure(why)
        self._tell(phase="restarting", interchange=0, restarts=self._restarts.total, trouble=why)

    def _look_for_leftovers(self) -> None:
        """The interchange was to cancel its blocks: tell of those that are still there."""
        from fxhpc.endpoint.leftovers import left_blocks  # here: seldom needed, and a start is fast

        if not self._keep_blocks and (left := left_blocks(self._directory)):
            self._write_failure(f"it was stopped, but jobs may still be there: {'; '.join(left)}")
            log.error("these may still be there: %s", "; ".join(left))

    def _look_after_forwarder(self) -> None:
        """Start the home's forwarder again if it was killed: what waits there is to go on."""
        home = self._directory.path.parent.parent
        found = identity.read_process(home / "forwarder.json")
        if (
            found is None
            or not identity.is_same_host(found.host)
            or hosts.is_alive(found.pid, found.started)
        ):
            return
        log.warning("the home's forwarder, pid %d, was killed; starting another", found.pid)
        # By a command, and not by what it calls: another version may be installed meanwhile, and
        # what of it is imported now might not fit to what this process has of the one before.
        started = subprocess.run(
            [sys.executable, "-m", "fxhpc.cli.main", "forwarder", "start"],
            env={**os.environ, "FXHPC_HOME": str(home)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if started.returncode != 0:
            log.error("%s", started.stderr.strip() or f"it ended, code {started.returncode}")

    # --- signals and time -------------------------------------------------------------------------

    def _note_signal(self, number: int, frame: object) -> None:
        self._signals.append(number)

    def _heed_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            name = signal.Signals(number).name
            request = self._directory.read_stop_request()
            if number == signal.SIGINT and self._stopping:
                request = StopRequest(drain_s=0.0)  # a second Ctrl-C does not wait for tasks
                self._write_request(request)
            log.info("%s: the endpoint stops%s", name, " again" if self._stopping else "")
            if self._is_unasked(number):
                number = signal.SIGHUP
                if self._was_ready:
                    self._write_failure(
                        f"it was ended by {name}, which no command of fxhpc had sent, as at a "
                        "logout or a shutdown of this host; its jobs were left, and go on for now"
                    )
            first, self._stopping = not self._stopping, True
            if self._child is None:
                continue
            drain = self._spec.drain_s if request.drain_s is None else request.drain_s
            self._keep_blocks = number == signal.SIGHUP or request.keep_blocks
            limit = time.monotonic() + STOP_MARGIN_S + (0.0 if self._keep_blocks else drain)
            self._give_up_at = limit if first else min(self._give_up_at, limit)
            self._child.send(signal.Signals(number))
            self._tell(phase="stopping")

    def _is_unasked(self, number: int) -> bool:
        """Whether a signal is nobody's wish to stop the endpoint, but the end of a session."""
        return (
            number in (signal.SIGTERM, signal.SIGHUP)
            and not self._foreground
            and not self._taken
            and not self._directory.stop_request.exists()
        )

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        if self._child is None and not self._is_over() and now >= self._start_at:
            self._start()
        if self._child is not None and now >= self._give_up_at:
            doing = "ended" if self._stopping else "become ready"
            why = f"the interchange had not {doing} after {self._child.age_s:.0f} s, and was killed"
            self._child.kill(why)
            self._give_up_at = float("inf")
        ready_s = self._child.age_s if self._child is not None and self._child.is_ready else 0.0
        if self._restarts.lived(ready_s):
            self._directory.failure.unlink(missing_ok=True)
        if now >= self._next_sign:
            self._next_sign = now + identity.SIGN_OF_LIFE_S
            self._give_sign_of_life()
            if not self._stopping:
                self._look_after_forwarder()
        if self._echo is not None:
            for line in self._echo.read():
                print(line, file=sys.stderr)

    def _give_sign_of_life(self) -> None:
        """Show other hosts that this process lives, and look whether the endpoint is still its."""
        found = identity.read_supervisor(self._directory)
        if found is not None and (found.host, found.pid) != (self._record.host, self._record.pid):
            log.error("host %s, pid %d, has taken the endpoint over", found.host, found.pid)
            self._taken = True
            self._signals.append(signal.SIGHUP)
        elif not self._has_directory():
            if not self._removed:
                log.error("the directory %s was removed", self._directory.path)
                self._removed = True
                self._signals.append(signal.SIGINT)  # its jobs are to be cancelled
        else:
            with contextlib.suppress(OSError):  # a full disk, or a file server away for a while
                if found is None:
                    identity.write_supervisor(self._directory, self._record)
                os.utime(self._directory.supervisor)

    def _has_directory(self) -> bool:
        """Whether the directory is still the one whose lock is held here.

        If it was removed, whoever of the endpoint writes a file next may have made another.
        """
        try:
            found = os.stat(self._directory.supervisor_lock)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # a file server that is away for a while
        ours = os.fstat(self._lock)
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    def _wait(self, wakeup: socket.socket) -> None:
        """Until a signal, a word of the interchange, or the next moment to do something."""
        now = time.monotonic()
        until = min(self._next_sign, self._give_up_at)
        if self._child is None:
            until = min(until, self._start_at)
        elif self._restarts.in_a_row:
            until = min(until, now + 1.0)
        if self._echo is not None:
            until = min(until, now + _ECHO_S)
        sources = [wakeup.fileno()]
        if self._child is not None and self._child.ready_fd >= 0:
            sources.append(self._child.ready_fd)
        if not self._signals:
            select.select(sources, [], [], max(0.0, until - now))
        with contextlib.suppress(BlockingIOError):
            wakeup.recv(4096)

    # --- what others are told ---------------------------------------------------------------------

    def _is_over(self) -> bool:
        return self._child is None and (self._stopping or self._exit_code != 0)

    def _tell(self, **changes: object) -> None:
        """Change the record; the endpoint goes on if it cannot be written."""
        for field, value in changes.items():
            setattr(self._record, field, value)
        if self._taken:
            return
        try:
            identity.write_supervisor(self._directory, self._record)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._directory.supervisor, error.strerror)

    def _fail(self, why: str) -> None:
        """The endpoint does not come up, or cannot go on."""
        log.error("%s", why)
        self._exit_code = 1
        if self._child is not None:
            self._child.kill()
            self._child.wait(_KILLED_S)
            self._child = None
        self._write_failure(why)
        self._report.say(why)

    def _write_failure(self, why: str) -> None:
        with contextlib.suppress(OSError):
            replace_file(self._directory.failure, f"{why}\n".encode())

    def _write_request(self, request: StopRequest) -> None:
        with contextlib.suppress(OSError):
            replace_file(self._directory.stop_request, msgspec.json.encode(request))

    def _end(self) -> None:
        """Leave nothing that says that the endpoint runs, unless it is another's word by now."""
        found = identity.read_supervisor(self._directory)
        if found is not None and (found.host, found.pid) == (self._record.host, self._record.pid):
            for path in (self._directory.supervisor, self._directory.stop_request):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        log.info("ended")
        if self._stopping:
            self._report.say(STOPPED)  # unless it was up before
        if self._removed and not (
            self._directory.config.exists() or self._directory.record.exists()
        ):
            shutil.rmtree(self._directory.path, ignore_errors=True)  # our own logs and records
        if self._echo is not None:
            for line in self._echo.read():
                print(line, file=sys.stderr)


def _empty_stdin() -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.dup2(descriptor, 0)
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

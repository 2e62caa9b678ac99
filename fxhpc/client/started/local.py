"""This process's `local` endpoint: its manager, started when needed, watched, started again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

import msgspec

from fxhpc import errors, forks, hosts
from fxhpc.client.connection import standing_still
from fxhpc.client.connection.open_files import told
from fxhpc.client.shown.sparing import SparingLog
from fxhpc.client.started import allocation, processes
from fxhpc.client.started.workers import local_share, refusal, tell
from fxhpc.forwarder.attach import module_environment
from fxhpc.message_files import anonymous_file
from fxhpc.protocol.pool import ManagerSpec, OsText

_warnings = SparingLog(logging.getLogger(__name__))

_QUICK_S = 5.0  # a manager that lives for less is not replaced at once
_START_LIMIT = 3  # managers in a row that never registered, until their work is given up
_KILLED_LIMIT = 10  # the same, of those that somebody's signal ended: nothing is wrong with them
_BACKOFF_S, _BACKOFF_LAST_S = 0.2, 2.0
_WARNING_S = 10.0  # between warnings that a manager ended
_RETRY_AFTER_S = 10.0  # after giving up, new work may try again

#: What to do where administrators refuse workers, beside what the refusal says.
_ELSEWHERE = (
    "as it says there. What `run`, `map_run` or a batch has submitted is kept by its home, and "
    "runs where its result is asked for, such as in a job."
)
_STDERR_BYTES = 4096
_TERM_S = 1.5  # for a manager to end its workers and itself


class LocalEndpoint:
    """The manager that runs this process's own work, and the thread that watches it.

    Args:
        endpoint: the id of this instance, random.
        address: where its interchange listens for managers; on another host, with its public key in
            a second line.
        workers: how many; None leaves it to affinity, cgroup and batch system.
        on_failure: told why, when managers fail to start again and again.
        command: what starts a manager; for tests.
        remove: a directory that must not outlive this process, whatever kills it.
        spill: the directory of results that go to files; empty: there is none.
        key_file: the managers' key, with which they register on another host.
    """

    exit_rank = 1

    def __init__(
        self,
        endpoint: bytes,
        address: str,
        workers: int | None = None,
        on_failure: Callable[[errors.FxhpcError], None] | None = None,
        command: list[str] | None = None,
        remove: str = "",
        spill: str = "",
        key_file: str = "",
    ) -> None:
        self.failure: errors.FxhpcError | None = None
        self._endpoint = endpoint
        self._address = _Address(address)
        self._workers = workers
        self._on_failure = on_failure
        self._remove = remove
        self._spill = spill
        self._key_file = key_file
        self._command = command or [sys.executable, "-m", "fxhpc.manager"]
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._failed_at = 0.0
        processes.add_resident(self)

    def want(self) -> bool:
        """Work waits: start the manager if it is not there. Never waits.

        Returns:
            False if none will ever start, since the interpreter ends.
        """
        if self._thread is not None:
            return True
        with self._lock:
            if self.is_over:
                return False
            if self._thread is not None or self._stopping.is_set():
                return True
            delay = 0.0
            if self.failure is not None:
                # Later, but by itself: nobody else would start it for work that comes meanwhile.
                delay = max(0.0, self._failed_at + _RETRY_AFTER_S - time.monotonic())
            self._thread = threading.Thread(
                target=self._run, args=(delay,), name="fxhpc-local", daemon=True
            )
            why, advice = refusal(), _ELSEWHERE
            try:
                if not why:
                    self._thread.start()
                    return True
            except RuntimeError as error:  # a limit of processes, most often
                why, advice = f"no thread can be started to watch its manager: {error}", ""
        self._fail(f"this process's local endpoint cannot start: {why}", "", advice)
        return True

    @property
    def is_over(self) -> bool:
        """Whether none runs, and none will: the interpreter has begun to end."""
        return self._thread is None and processes.is_exiting()

    @property
    def given_up(self) -> errors.FxhpcError | None:
        """Why it does not run, and will not by itself; None: it runs, or is on its way."""
        return self.failure if self._thread is None else None

    def set_address(self, address: str) -> None:
        """A new forwarder listens elsewhere; the manager finds it there."""
        self._address.write(address)

    def stop(self, timeout: float = _TERM_S) -> None:
        """End the manager, and with it its workers; after so many seconds it is killed."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._stopping.set()
            process, thread = self._process, self._thread
        if process is not None:
            _signal(process, signal.SIGTERM)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
            if thread.is_alive() and process is not None:
                _signal(process, signal.SIGKILL)
                thread.join(1.0)
        self._address.close()

    def stop_soon(self) -> None:
        """As `stop`, without waiting: for Ctrl-C. The manager ends its workers by itself."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                _signal(self._process, signal.SIGTERM)

    def leave(self, deadline: float) -> None:
        """The interpreter ends."""
        self.stop(max(0.0, deadline - time.monotonic()))

    def abandon(self) -> None:
        """This is a forked child: the manager is the parent's."""
        processes.bury(self._process, self._thread, self._address)
        self._lock = threading.Lock()
        self._process = self._thread = None
        self._stopping.set()

    # --- the thread -----------------------------------------------------------------------------

    def _run(self, delay: float = 0.0) -> None:
        quick = unready = killed = 0
        if self._stopping.wait(delay):
            return
        self.failure = None
        while True:
            began = time.monotonic()
            ready, code, stderr = self._live()
            if self._stopping.is_set():
                return
            # What kills a manager that had registered is charged to the tasks that it had.
            is_killed = code in _KILLS
            unready = 0 if ready else unready + (not is_killed)
            killed = 0 if ready else killed + is_killed
            quick = quick + 1 if time.monotonic() - began < _QUICK_S else 0
            _warnings.warning(
                _WARNING_S, "the manager of this process's local endpoint ended with %s", code
            )
            if unready >= _START_LIMIT or killed >= _KILLED_LIMIT:
                self._give_up(unready + killed, code, stderr)
                return
            backoff = min(_BACKOFF_S * 2 ** min(quick, 10), _BACKOFF_LAST_S) if quick else 0.0
            if self._stopping.wait(backoff):
                return

    def _live(self) -> tuple[bool, str, str]:
        """One life of a manager: whether it registered, how it ended, its last words."""
        with contextlib.ExitStack() as stack:
            try:
                # Not by `tempfile`: the lock that it takes at its first use would be held for
                # ever in a child that is forked meanwhile. Nor does this thread import anything.
                output = stack.enter_context(os.fdopen(anonymous_file(), "w+b"))
                reader, writer = os.pipe()
            except OSError as error:  # no descriptor is left, or no room
                return False, "no start at all", told(error)
            registered = stack.enter_context(os.fdopen(reader, "rb"))
            try:
                with self._lock:
                    if self._stopping.is_set():
                        return False, "", ""
                    self._process = self._start(output, writer)
                    process = self._process
            except (OSError, ValueError) as error:
                return False, "no start at all", told(error)
            finally:
                os.close(writer)
            status = standing_still.wait(process, self._stopping)
            with self._lock:
                self._process = None
            os.set_blocking(reader, False)  # a child that it left behind may hold the other end
            return bool(registered.read(1)), _told(status), _tail(output)

    def _start(self, output: IO[bytes], ready: int) -> subprocess.Popen[bytes]:
        share = local_share(os.environ, self._workers)
        tell(share)
        environ, changes = _environments()
        spec = ManagerSpec(
            endpoint=self._endpoint,
            workers=share.workers,
            address=self._address.text.partition("\n")[0] if self._address.fd < 0 else "",
            server_key=self._address.text.partition("\n")[2],
            key_file=self._key_file,
            address_file=f"/proc/self/fd/{self._address.fd}" if self._address.fd >= 0 else "",
            cwd=_os_text(_current_directory()),
            sys_path=[_os_text(os.path.abspath(e)) for e in sys.path if isinstance(e, str)],
            environ={
                name: value if value is None else _os_text(value) for name, value in changes.items()
            },
            watch_pid=self._pid,
            watch_started=hosts.start_time(os.getpid()),
            nice=share.nice,
            remove=self._remove,
            spill=_os_text(self._spill),
            ready_fd=ready,
        )
        with forks.none:  # a child would keep the pipes open, whose ends are waited for
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd="/",  # nothing in the user's directory may take the place of a module
                env=environ,
                start_new_session=True,  # Ctrl-C is for this process, which says what is to end
                pass_fds=(ready, self._address.fd) if self._address.fd >= 0 else (ready,),
            )
            assert process.stdin is not None
            try:
                with process.stdin as pipe:
                    pipe.write(msgspec.msgpack.encode(spec))
            except BrokenPipeError:
                pass  # it has ended already; its stderr says why
        return process

    def _give_up(self, count: int, how: str, stderr: str) -> None:
        self._fail(
            f"the manager of this process's local endpoint ended {count} times in a row "
            f"before it could register, the last time with {how}",
            stderr,
        )

    def _fail(self, why: str, stderr: str, advice: str = "") -> None:
        error = errors.WorkerStartFailed(why, stderr=stderr, advice=advice)
        with self._lock:
            self._thread = None
            self._failed_at = time.monotonic()
            self.failure = error
        if self._on_failure is not None:
            self._on_failure(error)


class _Address:
    """An address that a child reads again whenever it likes, and that leaves no file behind."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.fd = -1
        if hasattr(os, "memfd_create") and os.path.exists("/proc/self/fd"):
            self.fd = os.memfd_create("fxhpc-address", os.MFD_CLOEXEC)
        self.write(text)

    def write(self, text: str) -> None:
        self.text = text
        if self.fd >= 0:
            data = f"{text}\n".encode()
            os.pwrite(self.fd, data, 0)  # a reader in between sees a first line that is whole
            os.ftruncate(self.fd, len(data))

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _environments() -> tuple[dict[str, str], dict[str, str | None]]:
    """The manager's environment, and what the tasks' differs by from it."""
    environ = module_environment()
    before = os.environ.get("PYTHONPATH")
    changes: dict[str, str | None] = {}
    if environ.get("PYTHONPATH") != before:
        changes["PYTHONPATH"] = before
    if allocation.current() is not None:
        changes[allocation.SWITCH] = "0"  # a task's executor is not to take the other nodes
    return environ, changes


def _os_text(text: str) -> OsText:
    """As it is, or the bytes that the system has for it where it is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _current_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"  # it was removed


def _signal(process: subprocess.Popen[Any], number: int) -> None:
    try:
        process.send_signal(number)
    except OSError:
        pass  # it has gone


#: How managers end that others have ended: a kill, a host that shuts down, too little memory.
_KILLS = frozenset({"signal SIGKILL", "signal SIGTERM"})


def _told(status: int) -> str:
    return f"signal {errors.signal_name(-status)}" if status < 0 else f"exit code {status}"


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _STDERR_BYTES))
    return output.read().decode(errors="replace")

"""The private endpoint of one executor: its interchange's process, started, watched, ended.

The endpoint lies in `executors/NAME` of the home, which compute nodes must see (or its
`state_dir`). Its interchange watches this process: however this one ends, the interchange cancels
the blocks, removes the directory and ends too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from fxhpc import errors, forks, hosts, ids
from fxhpc.client.started import processes
from fxhpc.client.started.hindrances import Hindrances
from fxhpc.forwarder.attach import module_environment
from fxhpc.protocol.private import SPEC_FILE, Owner, PrivateAnswer, PrivateRequest

log = logging.getLogger(__name__)

#: What `Executor(config=...)` takes: a YAML file, or what such a file would hold.
Config = str | os.PathLike[str] | Mapping[str, Any]

_READY_S = 90.0  # for an interchange to start: homes on a busy network file system are slow
_STOP_S = 60.0  # for the batch system to cancel what there is
_LOOK_S = 5.0  # between two looks at what the interchange reports
_STARTS = 4  # of an interchange in a row that did not last, until its tasks are given up
# The same, of those that somebody's signal ended: nothing is wrong with them, and with ten, whoever
# kills one each ten seconds has the tasks lost within minutes. This takes five minutes at least.
_KILLED_STARTS = 100
_QUICK_S = 10.0  # one that lived for less did not last
_BACKOFF_S, _BACKOFF_LAST_S = 0.2, 3.0
_KILLS = frozenset({-signal.SIGKILL, -signal.SIGTERM})
_STDERR_BYTES = 4096


class PrivateEndpoint:
    """An endpoint of this process alone, which cancels its blocks when it ends.

    Args:
        home: the directory that holds it.
        config: a YAML file, or the same words in a dictionary.
        variables: for a file that is a template.

    Raises:
        ConfigError: the configuration cannot be meant so; it names all that is wrong.
        EndpointStartFailed: its interchange does not start.
        HomeError: the home cannot be used.
    """

    exit_rank = 1

    def __init__(
        self, home: Path, config: Config, variables: Mapping[str, Any] | None = None
    ) -> None:
        self.endpoint = ids.new_id()
        self.name = f"executor-{secrets.token_hex(4)}"
        self.failure: errors.FxhpcError | None = None
        self.on_failure: Callable[[errors.FxhpcError], None] | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._hindrances = Hindrances(self.name)
        request = self._request(config, variables or {})
        self.directory = _make_directory(home, self.name)
        request.directory = str(self.directory)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this lives
        try:
            self._process = self._start(
                [sys.executable, "-m", "fxhpc.endpoint.private"], msgspec.json.encode(request)
            )
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        processes.add_resident(self)
        self._thread = threading.Thread(target=self._watch, name="fxhpc-private", daemon=True)
        self._thread.start()

    # --- its end --------------------------------------------------------------------------------

    def stop(self, timeout: float = _STOP_S) -> None:
        """Cancel the blocks, and return when that is done, or after so many seconds."""
        if self._pid != os.getpid():
            return
        self.stop_soon()
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:
            if processes.is_exiting() or self._thread is threading.current_thread():
                return  # the interchange goes on without anybody who waits
            self._thread.join(0.2)
        if self._thread.is_alive():
            log.warning(
                "the blocks of %s are not all cancelled after %.0f s; its interchange (pid %d) "
                "goes on trying: see %s",
                self.name,
                timeout,
                self._process.pid,
                self.directory,
            )

    def stop_soon(self) -> None:
        """As `stop`, without waiting."""
        with self._lock:
            if self._stopping.is_set():
                return  # for an interchange, another signal means to leave without cancelling
            self._stopping.set()
            _signal(self._process, signal.SIGTERM)

    def leave(self, deadline: float) -> None:
        """The interpreter ends: the interchange cancels the blocks by itself."""
        if self._pid == os.getpid():
            self.stop_soon()

    def abandon(self) -> None:
        """This is a forked child: the endpoint is the parent's."""
        processes.bury(self._process, self._thread, self._output)
        self._lock = threading.Lock()
        self._stopping.set()

    # --- its start ------------------------------------------------------------------------------

    def _request(self, config: Config, variables: Mapping[str, Any]) -> PrivateRequest:
        request = PrivateRequest(
            directory="",
            endpoint=self.endpoint,
            name=self.name,
            owner=_this_process(),
            cwd=_current_directory(),
        )
        if isinstance(config, Mapping):
            request.config = _plain(config)
        else:
            request.path = os.path.abspath(os.path.expanduser(os.fspath(config)))
            request.variables = _plain(variables)
        return request

    def _start(
        self, command: list[str], data: bytes = b"", spec: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the interchange, and return when it can be spoken to."""
        with forks.none:  # a child would keep the pipes open, whose ends are waited for
            process, reader = self._launch(command, data, spec)
        try:
            self._read_answer(reader, with_notes=spec is None)
        except BaseException:  # Ctrl-C too
            _signal(process, signal.SIGTERM)
            threading.Thread(target=process.wait, daemon=True).start()
            raise
        finally:
            os.close(reader)
        return process

    def _launch(
        self, command: list[str], data: bytes, spec: IO[bytes] | None
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start it; and the end of a pipe, to be closed, where it says how it is."""
        reader, writer = os.pipe()
        try:
            process = subprocess.Popen(
                [*command, str(writer)],
                stdin=spec or subprocess.PIPE,
                stdout=self._output,
                stderr=self._output,
                cwd="/",  # nothing in the user's directory may take the place of a module
                env=module_environment(),
                pass_fds=(writer,),
                start_new_session=True,
            )
        except OSError as error:
            os.close(reader)
            raise self._start_failed(f"no process can be started: {error.strerror}") from error
        finally:
            os.close(writer)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(data)
        return process, reader

    def _read_answer(self, reader: int, with_notes: bool) -> None:
        """What a starting process says; returns if all is well."""
        said = _read_all(reader, _READY_S)
        if said is None:
            raise self._start_failed(f"its interchange is not ready after {_READY_S:.0f} s")
        if with_notes:
            line, _, said = said.partition(b"\n")
            try:
                answer = msgspec.json.decode(line, type=PrivateAnswer)
            except msgspec.DecodeError:
                raise self._start_failed("the process that prepares it died") from None
            if answer.problems:
                raise errors.ConfigError(answer.problems)
            if answer.error:
                raise self._start_failed(answer.error)
            for warning in answer.warnings:
                print(f"fxhpc: {warning}", file=sys.stderr)
        if said != b"ready":
            text = said.decode(errors="replace")
            raise self._start_failed(text or "its interchange died as it started")

    def _start_failed(self, text: str) -> errors.EndpointStartFailed:
        words = _tail(self._output).strip()
        if words:
            text = f"{text}: {words}"
        return errors.EndpointStartFailed(
            self.name, f"the private endpoint of this executor cannot start: {text}"
        )

    # --- the thread -----------------------------------------------------------------------------

    def _watch(self) -> None:
        failures = killed = 0
        while True:
            began = time.monotonic()
            status = self._wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - began >= _QUICK_S:
                failures = killed = 0
            elif status in _KILLS:
                killed += 1
            else:
                failures += 1
            log.warning("the interchange of %s ended with %s", self.name, _how(status))
            while not self._start_again(failures, killed):
                failures += 1
                if self._stopping.is_set() or self.failure is not None:
                    return

    def _wait(self) -> int:
        """Return when the interchange has ended; until then, tell what hinders it, and fail the
        tasks if nothing will ever run them.
        """
        try:
            descriptor = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):
            return self._process.wait()
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            while not poll.poll(_LOOK_S * 1000):
                hopeless = self._hindrances.look(self.directory, time.monotonic())
                if hopeless is not None and self.failure is None:
                    self._fail(hopeless)
        finally:
            os.close(descriptor)
        return self._process.wait()

    def _start_again(self, failures: int, killed: int) -> bool:
        """Start an interchange in the place of one that died; it adopts the blocks."""
        if failures >= _STARTS or killed >= _KILLED_STARTS:
            self._give_up("it was started again and again, and never lasted")
            return False
        doubled = failures + killed
        if self._stopping.wait(min(_BACKOFF_LAST_S, _BACKOFF_S * 2**doubled) if doubled else 0.0):
            return False
        try:
            with open(self.directory / SPEC_FILE, "rb") as spec:
                command = [sys.executable, "-m", "fxhpc.interchange", str(self.directory)]
                process = self._start(command, spec=spec)
        except FileNotFoundError:
            self._give_up("somebody ended it: its directory is gone")
            return False
        except (errors.FxhpcError, OSError) as error:
            log.warning("%s", error)
            return False
        with self._lock:
            self._process = process
            if self._stopping.is_set():
                _signal(process, signal.SIGTERM)
        return True

    def _give_up(self, why: str) -> None:
        words = _tail(self._output).strip()
        self._fail(
            errors.EndpointStartFailed(
                self.name,
                f"the interchange of this executor's private endpoint is gone: {why}"
                + (f"; it said last: {words}" if words else ""),
                f"see that no jobs are left whose names begin with fxhpc-{self.name}, and make "
                f"another executor",
            )
        )

    def _fail(self, failure: errors.FxhpcError) -> None:
        """End what was submitted, and what will be, with this."""
        self.failure = failure
        if self.on_failure is not None:
            self.on_failure(self.failure)


def _make_directory(home: Path, name: str) -> Path:
    from fxhpc.forwarder.home import Home

    Home(home).create()
    executors = home / "executors"
    directory = executors / name
    try:
        executors.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise errors.HomeError(
            f"{directory} cannot be made: {error.strerror}; name a home that is writable, and that "
            f"nodes see, in FXHPC_HOME"
        ) from error
    return directory


def _this_process() -> Owner:
    return Owner(platform.node(), hosts.boot_id(), os.getpid(), hosts.start_time(os.getpid()))


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as YAML could hold it.

    Raises:
        ConfigError: it holds something that YAML cannot.
    """

    def plain(value: object) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, Mapping):
            return dict(value)
        raise TypeError(
            f"{value!r} is a {type(value).__name__}: a configuration holds what YAML can, such as "
            f"texts, numbers, lists and dictionaries ({{'type': 'SlurmProvider', ...}})"
        )

    try:
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config, enc_hook=plain))
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise errors.ConfigError([f"config: {error}"]) from None
    return found


def _current_directory() -> str:
    try:
        path = os.getcwd()
        path.encode()
    except (OSError, UnicodeEncodeError):
        return ""  # it was removed, or cannot be told
    return path


def _read_all(reader: int, patience: float) -> bytes | None:
    """What is written to a pipe until it is closed; None if that takes too long."""
    deadline = time.monotonic() + patience
    said = b""
    poll = select.poll()  # descriptors may be many
    poll.register(reader, select.POLLIN)
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        part = os.read(reader, 65536)
        if not part:
            return said
        said += part


def _signal(process: subprocess.Popen[Any], number: int) -> None:
    with contextlib.suppress(OSError):  # it has gone
        process.send_signal(number)


def _how(status: int) -> str:
    return f"signal {errors.signal_name(-status)}" if status < 0 else f"exit code {status}"


def _tail(output: IO[bytes]) -> str:
    # Not by seeking: the process that writes there shares the file's position.
    size = os.fstat(output.fileno()).st_size
    data = os.pread(output.fileno(), _STDERR_BYTES, max(0, size - _STDERR_BYTES))
    return data.decode(errors="replace")

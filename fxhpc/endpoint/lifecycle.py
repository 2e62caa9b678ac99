"""Starts, stops and deletes an endpoint on this host."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from fxhpc import errors, hosts
from fxhpc.endpoint import identity
from fxhpc.endpoint.child import READY, InterchangeChild
from fxhpc.endpoint.places import create, explained
from fxhpc.endpoint.report import BUSY, STOPPED
from fxhpc.endpoint.state import EndpointState, State, look
from fxhpc.forwarder.access import is_shared
from fxhpc.forwarder.attach import module_environment
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory, EndpointRecord, replace_file
from fxhpc.protocol.provision import InterchangeSpec, StopRequest
from fxhpc.units import format_duration

#: Seconds that a start may take, by default.
START_S = 60.0

#: Seconds that a stop may take beyond its draining: the batch system cancels jobs meanwhile.
STOP_MARGIN_S = 90.0

#: Seconds that a process may take to end after SIGKILL, or to leave its blocks to a successor.
_KILLED_S, _HAND_OVER_S = 10.0, 20.0
_SIGNAL_AGAIN_S = 0.5

_POLL_S = 0.02

# --- start --------------------------------------------------------------------------------------


def prepare(home: Home, name: str, spec: InterchangeSpec, take_over: bool) -> EndpointDirectory:
    """Make an endpoint ready to be started: nothing of it may run, nothing old may mislead.

    An interchange whose supervisor was killed is ended; its blocks stay for the next.

    Raises:
        EndpointRunning, EndpointElsewhere: it runs, here or on another host.
        EndpointStartFailed: it cannot be started; the text says why.
    """
    directory = create(home, name)
    state = look(directory)
    refuse_if_running(state, take_over)
    if state.state == State.UNSUPERVISED:
        _end(state.interchange, state.interchange_started, signal.SIGHUP, _HAND_OVER_S)
    directory = EndpointDirectory(directory.path, spec.state_dir)
    with explained(name, directory.state):
        directory.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with explained(name, directory.path):
        # An empty file is no state_dir: then all lies in the directory.
        replace_file(directory.path / "state_dir", os.fsencode(spec.state_dir))
        longest = spec.scaling.walltime_s if spec.scaling is not None else 0.0
        record = directory.create(name)
        told = EndpointRecord(record.endpoint, name, longest, spec.limits)
        if record != told:  # it may have been renamed, too
            replace_file(directory.record, msgspec.json.encode(told))
        if state.elsewhere:  # it is taken over: what its processes wrote is not true any more
            directory.supervisor.unlink(missing_ok=True)
            directory.address.unlink(missing_ok=True)
        directory.failure.unlink(missing_ok=True)
        directory.stop_request.unlink(missing_ok=True)
    return directory


def refuse_if_running(state: EndpointState, take_over: bool) -> None:
    """See that nothing of an endpoint runs that a start would disturb.

    Raises:
        EndpointRunning, EndpointElsewhere: it runs, or may run.
    """
    name = state.name
    if state.state in (State.RUNNING, State.STARTING, State.RESTARTING, State.STOPPING):
        raise errors.EndpointRunning(
            name,
            f"endpoint {name!r} runs already: it is {state.sentence()}",
            f"look at it with: fxhpc endpoint status {name}; or use: fxhpc endpoint restart {name}",
        )
    if state.state == State.ELSEWHERE:
        raise errors.EndpointElsewhere(
            name,
            f"endpoint {name!r} runs already, {state.place()}",
            f"work with it there: ssh {state.host} fxhpc endpoint status {name}",
        )
    if state.state == State.LOST and not take_over:
        raise errors.EndpointElsewhere(
            name,
            f"endpoint {name!r} was started elsewhere and may still run there, {state.place()}",
            f"stop it there: ssh {state.host} fxhpc endpoint stop {name}; or, if that host or its "
            f"processes are gone for good: fxhpc endpoint start {name} --take-over",
        )


def start(directory: EndpointDirectory, name: str, spec: InterchangeSpec, timeout_s: float) -> None:
    """Start a supervisor for an endpoint that `prepare` has prepared; returns when it is up.

    Raises:
        EndpointRunning: somebody else was faster.
        EndpointStartFailed: it did not come up; nothing of it runs.
    """
    home = Home(directory.path.parents[1])
    if is_shared(home):
        spec = msgspec.structs.replace(spec, forwarder_key=str(home.forwarder_key))
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            [*supervisor_command(directory), str(writer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=module_environment(),
            pass_fds=(writer,),
            start_new_session=True,
        )
    except OSError as error:
        os.close(reader)
        raise errors.EndpointStartFailed(
            name, f"no supervisor can be started for endpoint {name!r}: {error.strerror}"
        ) from error
    finally:
        os.close(writer)
    assert process.stdin is not None
    assert process.stderr is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(msgspec.msgpack.encode(spec))
    try:
        said = _read_all(reader, timeout_s)
    except BaseException:  # Ctrl-C: what was not asked for any more is not to come up later
        _end_group(process)
        raise
    finally:
        os.close(reader)
    if said == READY:
        process.stderr.close()
        process.returncode = 0  # it outlives the object, which is not to wait for it
        return
    if said is None:
        _end_group(process)
        process.stderr.close()
        _fail_start(
            name,
            directory,
            f"it was not up after {format_duration(timeout_s)}, and was ended again",
            f"give it longer (--timeout), or see: fxhpc endpoint logs {name} --supervisor",
        )
    code = process.wait(_KILLED_S)
    words = process.stderr.read().decode(errors="replace").strip().splitlines()
    process.stderr.close()
    if said == BUSY:
        state = look(directory)
        raise errors.EndpointRunning(
            name,
            f"endpoint {name!r} is being started by another process: {state.sentence()}",
            f"look at it with: fxhpc endpoint status {name}",
        )
    if said == STOPPED or not directory.path.is_dir():
        _fail_start(
            name,
            directory,
            "another command stopped it before it was up",
            f"start it again: fxhpc endpoint start {name}",
        )
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    _fail_start(
        name,
        directory,
        said or (words[-1] if words else f"its supervisor ended {how}, without a word"),
        f"see: fxhpc endpoint logs {name} --supervisor",
    )


def supervisor_command(directory: EndpointDirectory) -> list[str]:
    """The command line of an endpoint's supervisor; a descriptor to report to comes last."""
    return [sys.executable, "-m", "fxhpc.endpoint.supervisor", str(directory.path)]


def _fail_start(name: str, directory: EndpointDirectory, why: str, hint: str) -> NoReturn:
    raise errors.EndpointStartFailed(name, f"endpoint {name!r} did not start: {why}", hint)


# --- stop ---------------------------------------------------------------------------------------


def stop(
    state: EndpointState,
    directory: EndpointDirectory,
    request: StopRequest,
    timeout_s: float,
    waiting: Callable[[float], None] = lambda seconds: None,
) -> str:
    """End an endpoint's processes; its interchange cancels the blocks, unless they are kept.

    What has not ended in time is killed. Returns what is wrong with its directory, if something
    is: then it stops all the same, but as its configuration says, whatever `request` does.

    Args:
        waiting: is called now and then with the seconds that it has taken so far.

    Raises:
        EndpointElsewhere, EndpointNotRunning: there is nothing here to stop.
        EndpointStopFailed: it had to be killed.
    """
    name = state.name
    if state.elsewhere:
        raise errors.EndpointElsewhere(
            name,
            f"endpoint {name!r} runs elsewhere, {state.place()}",
            f"stop it there: ssh {state.host} fxhpc endpoint stop {name}",
        )
    if not state.alive:
        raise not_running(name)
    trouble = ""
    try:
        replace_file(directory.stop_request, msgspec.json.encode(request))
    except OSError as error:
        # Mostly the disk is full. That must not keep jobs running, which cost.
        trouble = f"{error.filename or directory.stop_request} cannot be written: {error.strerror}"
    pid, started = state.process
    number = signal.SIGHUP if request.keep_blocks else signal.SIGTERM
    if trouble and not request.keep_blocks:
        number = signal.SIGINT  # without that file SIGTERM would be taken for a logout's
    ended = _end(pid, started, number, timeout_s, waiting, kill=False)
    if not ended:
        left = look(directory)
        for pid, started in (
            (left.pid, left.started),
            (left.interchange, left.interchange_started),
        ):
            if pid:
                _end(pid, started, signal.SIGKILL, _KILLED_S)
    sweep(directory, keep_address=request.keep_blocks)
    if not ended:
        raise errors.EndpointStopFailed(
            name,
            f"endpoint {name!r} had not ended after {format_duration(timeout_s)}, and was killed",
            f"see: fxhpc endpoint logs {name}; its jobs may still be there: fxhpc endpoint stop "
            f"{name} cancels them",
        )
    return trouble


def cancel_left_blocks(
    directory: EndpointDirectory, name: str, spec: InterchangeSpec, timeout_s: float
) -> None:
    """Cancel the blocks of an endpoint of which nothing runs any more: an interchange adopts them,
    and is stopped at once.

    Raises:
        EndpointStopFailed: it could not.
    """
    if spec.scaling is not None:
        idle = msgspec.structs.replace(spec.scaling, init_blocks=0, min_blocks=0, scale=False)
        spec = msgspec.structs.replace(spec, scaling=idle)
    if not spec.log_file:
        spec = msgspec.structs.replace(spec, log_file=str(directory.log))
    with explained(name, directory.path):
        replace_file(directory.stop_request, msgspec.json.encode(StopRequest(drain_s=0.0)))
        child = InterchangeChild(directory, spec, module_environment())
    deadline = time.monotonic() + timeout_s
    while not (child.hear() or child.has_ended()) and time.monotonic() < deadline:
        select.select([child.ready_fd] if child.ready_fd >= 0 else [], [], [], _POLL_S)
    child.send(signal.SIGTERM)
    if not child.wait(max(1.0, deadline - time.monotonic())):
        child.kill()
        child.wait(_KILLED_S)
    if not child.is_ready:
        raise errors.EndpointStopFailed(
            name,
            f"the blocks of endpoint {name!r} could not be cancelled: {child.why()}",
            "cancel its jobs by the batch system's own commands (scancel, qdel)",
        )
    sweep(directory)


def sweep(directory: EndpointDirectory, keep_address: bool = False) -> None:
    """Remove what says that an endpoint runs, which nothing of it does any more.

    Unless another command has started it again meanwhile.
    """
    if identity.is_locked(directory.supervisor_lock):
        return
    if (found := directory.read_address()) is not None:
        _remove_sockets(found.forwarder)
    paths = [
        directory.supervisor,
        directory.address,
        directory.stop_request,
        directory.status,
    ]
    if not keep_address:
        paths.append(directory.managers_address)
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _remove_sockets(address: str) -> None:
    """Remove the directory of the sockets of an interchange that was killed."""
    path = Path(address.removeprefix("ipc://")).parent
    with contextlib.suppress(OSError):
        if path.name.startswith(f"fxhpc-{os.getuid()}-") and path.lstat().st_uid == os.getuid():
            shutil.rmtree(path)


def not_running(name: str) -> errors.EndpointNotRunning:
    """The error for an endpoint that should run and does not."""
    return errors.EndpointNotRunning(
        name,
        f"endpoint {name!r} is not running",
        f"start it with: fxhpc endpoint start {name}",
    )


# --- delete -------------------------------------------------------------------------------------


def delete(directory: EndpointDirectory, name: str) -> None:
    """Remove an endpoint of which nothing runs: its directory, and what is ours in `state_dir`.

    Raises:
        EndpointDirectoryInvalid: something of it could not be removed.
    """
    outside = directory.state != directory.path
    if outside:
        for path in (
            directory.managers_address,
            directory.manager_key,
            directory.manager_spec,
        ):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        for folder in (directory.blocks, directory.manager_logs, directory.manager_results):
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            directory.state.rmdir()  # if nothing that tasks have written lies there
    try:
        shutil.rmtree(directory.path)
    except OSError as error:
        raise errors.EndpointDirectoryInvalid(
            name,
            f"{error.filename or directory.path} cannot be removed: {error.strerror}",
            "see who uses it, then delete the endpoint again",
        ) from error


# --- helpers ------------------------------------------------------------------------------------


def _end(
    pid: int,
    started: float,
    number: signal.Signals,
    limit_s: float,
    waiting: Callable[[float], None] = lambda seconds: None,
    kill: bool = True,
) -> bool:
    """Send a process a signal and wait for its end; kill it if it does not come in time.

    Returns whether it ended by itself.
    """
    begun = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        if hosts.is_alive(pid, started):
            os.kill(pid, number)
    while hosts.is_alive(pid, started):
        spent = time.monotonic() - begun
        if spent > limit_s:
            if kill and number != signal.SIGKILL:
                _end(pid, started, signal.SIGKILL, _KILLED_S)
            return False
        waiting(spent)
        time.sleep(_POLL_S)
    return True


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a supervisor that did not come up, and its interchange; blocks are kept."""
    deadline = time.monotonic() + _HAND_OVER_S
    while time.monotonic() < deadline:
        # Again and again: under nohup it is ignored until the supervisor heeds signals.
        process.send_signal(signal.SIGHUP)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SIGNAL_AGAIN_S)
            return
    process.kill()
    process.wait()


def _read_all(reader: int, patience_s: float) -> str | None:
    """What is said until the other end is closed; None if that takes too long."""
    deadline = time.monotonic() + patience_s
    text = b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(reader, 4096)
        if not part:
            return text.decode(errors="replace").strip()
        text += part

"""Prepares the private endpoint of one process, and becomes its interchange.

`python -m fxhpc.endpoint.private FD`, see `fxhpc.protocol.private`. A process of its own, so that
users' processes import neither pydantic nor yaml.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from fxhpc.endpoint.configuration.config import EndpointConfig, load_config, load_config_dict
from fxhpc.endpoint.specs import interchange_spec
from fxhpc.errors import ConfigError, FxhpcError
from fxhpc.hosts import boot_id, is_alive
from fxhpc.interchange.directory import EndpointDirectory, EndpointRecord, replace_file
from fxhpc.protocol.private import (
    OWNER_FILE,
    SPEC_FILE,
    Owner,
    PrivateAnswer,
    PrivateRequest,
)
from fxhpc.protocol.provision import InterchangeSpec


def main(arguments: list[str]) -> int:
    """Prepare what standard input asks for, and become its interchange.

    Args:
        arguments: the descriptor that is told how it went.
    """
    report = int(arguments[0])
    umask = os.umask(0o077)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=PrivateRequest)
    try:
        config = _load(request)
        prepare(request, config, umask)
    except ConfigError as error:
        return _refuse(report, PrivateAnswer(problems=error.problems))
    except (FxhpcError, OSError) as error:
        return _refuse(report, PrivateAnswer(error=str(error)))
    _tell(report, PrivateAnswer(warnings=list(config.warnings)))
    clean_up_after_the_dead(Path(request.directory).parent)
    _become_interchange(request.directory, report)
    return 1  # not reached


def prepare(request: PrivateRequest, config: EndpointConfig, umask: int) -> InterchangeSpec:
    """Write what the directory of a private endpoint holds before its interchange is there.

    Args:
        umask: of its jobs.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(request.directory)
    state = _state_directory(config, request.name)
    directory = EndpointDirectory(path, state)
    for folder in (directory.logs, directory.state):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path / OWNER_FILE, msgspec.json.encode(request.owner))
    spec = interchange_spec(config, request.name, directory, cwd=request.cwd, umask=umask)
    longest = spec.scaling.walltime_s if spec.scaling is not None else 0.0
    record = EndpointRecord(request.endpoint, request.name, longest, spec.limits)
    replace_file(directory.record, msgspec.json.encode(record))
    spec.watch_pid = request.owner.pid
    spec.watch_started = request.owner.started
    spec.remove = True
    spec.drain_s = 0.0  # whoever ends it has waited for its tasks, or does not want them
    replace_file(path / SPEC_FILE, msgspec.msgpack.encode(spec))
    return spec


def clean_up_after_the_dead(executors: Path) -> None:
    """Have the blocks cancelled and the directories removed of processes of this host that were
    killed together with their interchanges.
    """
    left = [path for path in executors.iterdir() if is_abandoned(path)]
    if not left:
        return
    if (child := os.fork()) != 0:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        for path in left:
            _end(path)
    finally:
        os._exit(0)  # what it started is nobody's child then


def _load(request: PrivateRequest) -> EndpointConfig:
    if request.config is not None:
        return load_config_dict(request.config, "config")
    return load_config(request.path, request.variables)


def _state_directory(config: EndpointConfig, name: str) -> str:
    """Where nodes look; each private endpoint has a directory of its own there."""
    return str(Path(config.state_dir) / name) if config.state_dir else ""


def _become_interchange(directory: str, report: int) -> None:
    with open(Path(directory) / SPEC_FILE, "rb") as file:
        os.dup2(file.fileno(), 0)
    os.set_inheritable(report, True)
    os.execv(sys.executable, interchange_command(directory, report))


def interchange_command(directory: str, report: int) -> list[str]:
    """The command that runs an interchange; its spec is on its standard input."""
    return [sys.executable, "-m", "fxhpc.interchange", directory, str(report)]


def is_abandoned(path: Path) -> bool:
    """Whether it is that of a process of this host which was killed, and its interchange too."""
    try:
        owner = msgspec.json.decode((path / OWNER_FILE).read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError):
        return False  # nothing of ours, or about to be written
    if owner.host != platform.node():
        return False
    lives = owner.boot == boot_id() and is_alive(owner.pid, owner.started)
    return not lives and _is_unlocked(path)


def _is_unlocked(path: Path) -> bool:
    """Whether no interchange runs there."""
    try:
        lock = os.open(EndpointDirectory(path).lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _end(path: Path) -> None:
    """Start an interchange that finds its owner dead: it cancels the blocks and removes all."""
    try:
        _want_no_blocks(path / SPEC_FILE)
    except (OSError, msgspec.DecodeError):  # it has never had an interchange
        shutil.rmtree(path, ignore_errors=True)
        return
    null = os.open(os.devnull, os.O_RDWR)
    with contextlib.suppress(OSError), open(path / SPEC_FILE, "rb") as spec:
        subprocess.Popen(
            interchange_command(str(path), null),
            stdin=spec,
            stdout=null,
            stderr=null,
            cwd="/",
            pass_fds=(null,),
            start_new_session=True,
        )
    os.close(null)


def _want_no_blocks(path: Path) -> None:
    """Have an interchange that is started from this file ask for no blocks in its first moment."""
    spec = msgspec.msgpack.decode(path.read_bytes(), type=InterchangeSpec)
    if spec.scaling is not None:
        spec.scaling = msgspec.structs.replace(
            spec.scaling, init_blocks=0, min_blocks=0, scale=False
        )
    replace_file(path, msgspec.msgpack.encode(spec))


def _refuse(report: int, answer: PrivateAnswer) -> int:
    _tell(report, answer)
    return 1


def _tell(report: int, answer: PrivateAnswer) -> None:
    with contextlib.suppress(OSError):  # whoever asked does not wait any more
        os.write(report, msgspec.json.encode(answer) + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

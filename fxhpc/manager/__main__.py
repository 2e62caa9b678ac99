"""Starts a manager: `python -m fxhpc.manager [FILE]`, its `ManagerSpec` in FILE or on stdin."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import sys
import time

import msgspec

from fxhpc.manager import channel, processes
from fxhpc.manager.resources.node import (
    OWN_DESCRIPTORS,
    WORKER_DESCRIPTORS,
    Node,
    examine,
    is_own,
    most_sized,
)
from fxhpc.manager.resources.pinning import Unfit
from fxhpc.manager.seeds import seed
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.units import format_bytes

#: The exit code where another manager would do no better: see `sysexits.h`.
_EX_CONFIG = 78


def main() -> int:
    """Read the spec, fork the seed while this process is still simple, and become the manager."""
    try:
        spec = _read_spec()
    except OSError as error:
        print(f"fxhpc manager: {sys.argv[1]} cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    except msgspec.DecodeError as error:
        where = sys.argv[1] if len(sys.argv) > 1 else "standard input"
        print(f"fxhpc manager: {where} holds no specification: {error}", file=sys.stderr)
        return 2
    if bool(spec.address) == bool(spec.address_file) or spec.workers < 0:
        print(
            "fxhpc manager: it needs either `address` or `address_file`, and a number of workers",
            file=sys.stderr,
        )
        return 2
    spec.manager = spec.manager or os.urandom(8).hex()
    tie = os.environ.pop("FXHPC_TIE", "")  # tasks have nothing to do with it
    # A core file of this process would hold its key. Its tasks may ask for their own.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        node = examine(spec, os.environ, time.time())
    except Unfit as error:
        print(f"fxhpc: fatal: {error}", file=sys.stderr)
        return _EX_CONFIG
    descriptors = OWN_DESCRIPTORS + WORKER_DESCRIPTORS * node.slots
    if problem := _too_few_descriptors(descriptors, node.slots):
        print(f"fxhpc manager: {problem}", file=sys.stderr)
        return 1
    _empty_stdin()
    processes.adopt_orphans()
    ours, theirs = socket.socketpair(socket.AF_UNIX, channel.PAIR_TYPE)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ours.close()
            seed.run(theirs)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    theirs.close()
    _interrupt_no_worker()
    # After the fork: workers keep the limit that the user has set. Those with leases come on top,
    # as far as the system allows.
    _allow_descriptors(descriptors + WORKER_DESCRIPTORS * most_sized(node.slots))
    seed.set_title(f"fxhpc: manager {spec.manager}")
    code = _manage(spec, node, (ours, pid), tie)
    if spec.remove and os.getppid() != spec.watch_pid:
        # Killed, the process that started this one could not do it by itself.
        shutil.rmtree(spec.remove, ignore_errors=True)
    return code


def _interrupt_no_worker() -> None:
    """Have the kernel finish a worker's turn before it gives this process one on the same core.

    It is woken by what a worker sends, on that worker's core, and would go first: the worker's next
    task waited for it. See docs/decisions/0100.
    """
    with contextlib.suppress(AttributeError, OSError):  # no such policy, or it is not allowed
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _read_spec() -> ManagerSpec:
    """What this manager is told.

    Raises:
        OSError: the file cannot be read.
        msgspec.DecodeError: it holds something else.
    """
    if len(sys.argv) > 1:
        with open(sys.argv[1], "rb") as file:
            return msgspec.json.decode(file.read(), type=ManagerSpec)
    return msgspec.msgpack.decode(sys.stdin.buffer.read(), type=ManagerSpec)


def _manage(spec: ManagerSpec, node: Node, seed_: tuple[socket.socket, int], tie: str) -> int:
    from fxhpc.manager import logs
    from fxhpc.manager.shell import Shell

    logs.set_up(spec, logs.file_name(node.host, node.block, spec.manager))
    logs.log.info(
        "manager %s on %s: %d workers, %d cores, %s of memory, block %s, job %s, Python %s",
        spec.manager,
        node.host,
        node.slots,
        node.cores,
        format_bytes(node.memory),
        node.block or "-",
        node.job or "-",
        sys.executable,
    )
    for note in node.notes:
        logs.log.warning("%s", note)
        if not is_own(spec):
            logs.say(note)
    if not is_own(spec) and node.cwd:
        with contextlib.suppress(OSError):  # a worker that cannot go there says so
            os.makedirs(node.cwd, exist_ok=True)
    return Shell(spec, node, seed_, tie).run()


def _too_few_descriptors(needed: int, workers: int) -> str:
    """What is wrong with this process's limit on open files, or nothing."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return ""
    return (
        f"{workers} workers need {needed} open files, and the limit (`ulimit -n`) is {hard}: "
        f"raise it to {needed} or more, or start fewer workers"
    )


def _allow_descriptors(needed: int) -> None:
    """Raise the limit on open files, within what users may set, if it is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        with contextlib.suppress(OSError, ValueError):  # where the system has yet another limit
            most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _empty_stdin() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(fd, 0)
    os.close(fd)


if __name__ == "__main__":
    sys.exit(main())

"""Starts a manager: `python -m fxhpc.manager`, with its `ManagerSpec` on standard input."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import sys

import msgspec

from fxhpc.manager import channel, processes, seed
from fxhpc.protocol.pool import ManagerSpec

#: Descriptors that a manager needs for itself, and for each worker: its socket, page and output,
#: and a file on the way.
_OWN_DESCRIPTORS, _WORKER_DESCRIPTORS = 64, 4


def main() -> int:
    """Read the spec, fork the seed while this process is still simple, and become the manager."""
    try:
        spec = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=ManagerSpec)
    except msgspec.DecodeError as error:
        print(f"fxhpc manager: standard input holds no specification: {error}", file=sys.stderr)
        return 2
    if bool(spec.address) == bool(spec.address_file) or spec.workers < 1:
        print(
            "fxhpc manager: it needs at least one worker, and either `address` or `address_file`",
            file=sys.stderr,
        )
        return 2
    descriptors = _OWN_DESCRIPTORS + _WORKER_DESCRIPTORS * spec.workers
    if problem := _too_few_descriptors(descriptors, spec.workers):
        print(f"fxhpc manager: {problem}", file=sys.stderr)
        return 1
    spec.manager = spec.manager or os.urandom(8).hex()
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
    _allow_descriptors(descriptors)  # after the fork: workers keep the limit that the user has set
    seed.set_title(f"fxhpc: manager {spec.manager}")
    import logging

    logging.basicConfig(
        filename=spec.log_file or None,
        level=logging.INFO if spec.log_file else logging.WARNING,
        format="%(asctime)s %(process)d %(message)s",
    )
    from fxhpc.manager.shell import Shell

    code = Shell(spec, (ours, pid)).run()
    if spec.remove and os.getppid() != spec.watch_pid:
        # Killed, the process that started this one could not do it by itself.
        shutil.rmtree(spec.remove, ignore_errors=True)
    return code


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
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _empty_stdin() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(fd, 0)
    os.close(fd)


if __name__ == "__main__":
    sys.exit(main())

"""Starts a manager: `python -m fxhpc.manager`, with its `ManagerSpec` on standard input."""

from __future__ import annotations

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
    # After the fork: workers keep the limit that users have set for their tasks.
    if problem := _reserve_descriptors(spec.workers):
        print(f"fxhpc manager: {problem}", file=sys.stderr)
        return 1
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


def _reserve_descriptors(workers: int) -> str:
    """Raise this process's limit on open files, if it is too low; what is wrong if that fails."""
    needed = _OWN_DESCRIPTORS + _WORKER_DESCRIPTORS * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return ""
    if hard == resource.RLIM_INFINITY or hard >= needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            return ""
        except (OSError, ValueError):
            hard = soft  # the system has a limit of its own
    return (
        f"{workers} workers need {needed} open files, and the limit (`ulimit -n`) is {hard}: "
        f"raise it to {needed} or more, or start fewer workers"
    )


def _empty_stdin() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(fd, 0)
    os.close(fd)


if __name__ == "__main__":
    sys.exit(main())

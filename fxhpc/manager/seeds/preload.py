"""Imports users' modules in the seed, so that its workers are forked with them: `preload`.

A module is tried in a child of its own first. One that cannot be imported, takes too long, or
leaves threads behind (whose locks a forked worker would inherit, held for ever) is left out and
told on standard error; tasks that need it import it themselves.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fxhpc.manager import processes
from fxhpc.protocol.pool import SeedSpec
from fxhpc.units import format_duration

#: Seconds that one module may take; shared file systems are slow when a whole job begins.
_LIMIT_S = 120.0


def preload(spec: SeedSpec, limit_s: float = _LIMIT_S) -> list[str]:
    """Import what can be imported; one sentence for each module that is left out."""
    left_out = []
    with _users_path(spec):
        for name in spec.preload:
            trouble = _trouble(name, limit_s)
            if trouble:
                left_out.append(f"preload: the module {name!r} is left out: {trouble}")
            else:
                importlib.import_module(name)
    for sentence in left_out:
        print(f"fxhpc: {sentence}", file=sys.stderr, flush=True)
    return left_out


@contextmanager
def _users_path(spec: SeedSpec) -> Iterator[None]:
    """Modules are found as workers find them, and see the environment that workers will have."""
    for name, value in spec.environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = os.fsdecode(value)
    before = list(sys.path)
    if spec.sys_path:
        sys.path[:] = map(os.fsdecode, spec.sys_path)
        importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _trouble(name: str, limit_s: float) -> str:
    """Why a module is better left out; empty: nothing speaks against it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _try(name, writer)
    os.close(writer)
    try:
        found, _, _ = select.select([reader], [], [], limit_s)
        said = os.read(reader, 4096).decode(errors="replace") if found else ""
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)  # it has nothing more to say
        os.waitpid(pid, 0)
        processes.kill_children(set())  # whatever the module has started
    if not found:
        return f"it was not imported within {format_duration(limit_s)}"
    if not said:
        return "the interpreter died of it"
    return said.removeprefix("ok")


def _try(name: str, writer: int) -> None:
    """In the child: import the module, and say how it went."""
    said = "ok"
    try:
        importlib.import_module(name)
        threads = _threads()
        if threads > 1:
            said = (
                f"it leaves {threads - 1} threads behind, and workers are forked; for numerical "
                f"libraries OMP_NUM_THREADS=1 in worker_init may help"
            )
    except BaseException as error:  # whatever the module does
        said = f"{type(error).__name__}: {error}"
    try:
        os.write(writer, said.encode(errors="replace")[:4096])
    finally:
        os._exit(0)


def _threads() -> int:
    """How many threads this process has; some need a moment to begin or to end."""
    deadline = time.monotonic() + 0.2
    while True:
        try:
            count = len(os.listdir("/proc/self/task"))
        except OSError:  # no /proc: macOS
            import threading

            return threading.active_count()
        if count == 1 or time.monotonic() > deadline:
            return count
        time.sleep(0.01)

"""What the system allows a process of this user: open files, processes, memory, stacks."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import psutil

from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding
from fxhpc.units import format_bytes

UNLIMITED = resource.RLIM_INFINITY

#: Files that a client takes; and that a forwarder or interchange with many managers may.
_FEW_FILES, _MANY_FILES = 64, 1024
#: Threads and processes of a client, a forwarder and a few workers.
_FEW_PROCESSES, _MANY_PROCESSES = 32, 256
#: Address space of a process with its libraries; numpy with threads takes some GB of it.
_LITTLE_SPACE, _MUCH_SPACE = 2**30, 8 * 2**30
_LEAST_STACK, _MOST_STACK = 2**20, 2**30


def look() -> Iterator[Finding]:
    """Look at this process's limits."""
    yield open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    yield processes(resource.getrlimit(resource.RLIMIT_NPROC)[0], _own_threads(), os.getuid() == 0)
    yield address_space(resource.getrlimit(resource.RLIMIT_AS)[0])
    yield stack(resource.getrlimit(resource.RLIMIT_STACK)[0])


def open_files(soft: int, hard: int) -> Finding:
    """`ulimit -n`. Forwarder and interchange raise the soft limit to the hard one by themselves."""
    text = f"{_count(soft)} (ulimit -n), {_count(hard)} at most (ulimit -Hn)"
    if soft != UNLIMITED and soft < _FEW_FILES:
        hint = f"a client takes some 32: ulimit -n {_MANY_FILES}, before Python is started"
        return Finding(PROBLEM, "open files", text, hint)
    if hard != UNLIMITED and hard < _MANY_FILES:
        hint = "an endpoint takes one for each node and some more: have the hard limit raised"
        return Finding(WARNING, "open files", text, hint)
    return Finding(OK, "open files", text)


def processes(limit: int, used: int, is_root: bool = False) -> Finding:
    """`ulimit -u`, which counts the threads of all processes of the user; it does not bind root."""
    text = f"{used:,} of {_count(limit)} (ulimit -u), threads counted"
    left = limit - used
    if limit == UNLIMITED or is_root or left >= _MANY_PROCESSES:
        return Finding(OK, "processes", text)
    level = PROBLEM if left < _FEW_PROCESSES else WARNING
    hint = "no worker may start: end what you do not need (ps ux), or have the limit raised"
    return Finding(level, "processes", text, hint)


def address_space(limit: int) -> Finding:
    """`ulimit -v`."""
    if limit == UNLIMITED:
        return Finding(OK, "address space", "unlimited (ulimit -v)")
    text = f"{format_bytes(limit)} for a process (ulimit -v)"
    if limit >= _MUCH_SPACE:
        return Finding(OK, "address space", text)
    level = PROBLEM if limit < _LITTLE_SPACE else WARNING
    hint = "libraries with threads take some GB of it: ulimit -v unlimited, or have it raised"
    return Finding(level, "address space", text, hint)


def stack(limit: int) -> Finding:
    """`ulimit -s`: each thread has so much."""
    if limit == UNLIMITED:
        return Finding(OK, "stack", "unlimited (ulimit -s)")
    text = f"{format_bytes(limit)} (ulimit -s)"
    if limit < _LEAST_STACK:
        return Finding(WARNING, "stack", text, "deep calls end the process: ulimit -s 8192")
    if limit > _MOST_STACK:
        hint = "each thread takes as much address space: ulimit -s 8192"
        return Finding(WARNING, "stack", text, hint)
    return Finding(OK, "stack", text)


def _count(limit: int) -> str:
    return "unlimited" if limit == UNLIMITED else f"{limit:,}"


def _own_threads() -> int:
    own, found = os.getuid(), 0
    for process in psutil.process_iter():
        try:
            if process.uids().real == own:
                found += process.num_threads()
        except psutil.Error:
            continue  # it has ended meanwhile
    return found

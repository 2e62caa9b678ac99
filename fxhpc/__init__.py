"""fxhpc: run Python functions on your own supercomputers, as funcX did, without the cloud.

A function is registered and called in another place; this is the way of a call there and back::

    user's process             one per home, or a thread         each compute node
    +-------------------+      +---------------------------+     +----------------------+
    | FuncXClient       |----->| forwarder --> interchange |---->| manager --> workers  |
    | Executor, futures |<-----| store         queue       |<----|                      |
    +-------------------+      +---------------------------+     +----------------------+

The *forwarder* keeps functions, tasks and results; the *interchange* of an endpoint decides which
of its *managers* gets which tasks; a manager hands them to its *workers*, processes that unpack,
call and pack. `Executor()` and `FuncXClient(embedded=True)` have the first two in a thread of
their own process; `FuncXClient()` shares those of its home (`~/.fxhpc`, or FXHPC_HOME).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fxhpc.version import __version__

if TYPE_CHECKING:
    from fxhpc import errors
    from fxhpc.client.batch import Batch
    from fxhpc.client.client import Client, FuncXClient
    from fxhpc.client.executor import Executor, FuncXExecutor
    from fxhpc.client.exported import ExportedTask, load_export
    from fxhpc.client.futures.futures import TaskFuture
    from fxhpc.client.shown.progress import progress
    from fxhpc.client.shown.search import FunctionSearchResults
    from fxhpc.client.task_group import TaskGroup
    from fxhpc.shell import MPIFunction, ShellFunction, ShellResult
    from fxhpc.warm import forget, keep

__all__ = [
    "Batch",
    "Client",
    "Executor",
    "ExportedTask",
    "FuncXClient",
    "FuncXExecutor",
    "FunctionSearchResults",
    "MPIFunction",
    "ShellFunction",
    "ShellResult",
    "TaskFuture",
    "TaskGroup",
    "__version__",
    "errors",
    "forget",
    "keep",
    "load_export",
    "progress",
]

# Imported when they are asked for: a worker imports this package too, and starts fast.
_HOMES = {
    "Batch": "fxhpc.client.batch",
    "Client": "fxhpc.client.client",
    "Executor": "fxhpc.client.executor",
    "ExportedTask": "fxhpc.client.exported",
    "FuncXClient": "fxhpc.client.client",
    "FuncXExecutor": "fxhpc.client.executor",
    "FunctionSearchResults": "fxhpc.client.shown.search",
    "MPIFunction": "fxhpc.shell",
    "ShellFunction": "fxhpc.shell",
    "ShellResult": "fxhpc.shell",
    "TaskFuture": "fxhpc.client.futures.futures",
    "TaskGroup": "fxhpc.client.task_group",
    "load_export": "fxhpc.client.exported",
    "progress": "fxhpc.client.shown.progress",
    "forget": "fxhpc.warm",
    "keep": "fxhpc.warm",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "errors":
        return import_module("fxhpc.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from fxhpc.interrupts import Held

        with Held():
            value = getattr(import_module(_HOMES[name]), name)
    except AttributeError as error:  # `from fxhpc import` would tell that there is no such name
        from fxhpc.shadowed import to_blame

        why = to_blame(error, "please report it")
        raise ImportError(f"fxhpc.{name} cannot be imported: {why}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

"""Pack anything, or say in words which part of it cannot be packed."""

from __future__ import annotations

import pickle
from functools import cache
from io import BytesIO
from typing import Any

from fxhpc import interrupts
from fxhpc.errors import SerializationError
from fxhpc.serialize import pickler
from fxhpc.serialize.pickler import Reducers

#: What dill would copy, though a copy of it is of no use: it guards or holds something here.
_TIED_TO_THIS_PROCESS = frozenset(
    {
        ("_thread", "lock"),
        ("_thread", "RLock"),
        ("_io", "TextIOWrapper"),
        ("_io", "BufferedReader"),
        ("_io", "BufferedWriter"),
        ("_io", "BufferedRandom"),
        ("_io", "FileIO"),
        ("_socket", "socket"),
        ("socket", "socket"),
        ("builtins", "generator"),
        ("builtins", "coroutine"),
        ("builtins", "async_generator"),
        ("builtins", "frame"),
        ("builtins", "traceback"),
    }
)


def pack(obj: Any, what: str, token: bytes = b"") -> tuple[bytes, set[str]]:
    """An object as bytes, and the names of the user modules that it needs.

    Args:
        what: what it is, for the error: "function f", "arguments", "result".
        token: of the Executor whose functions are to share their globals; see `spaces`.

    Raises:
        SerializationError: it cannot be packed; the text names the part.
    """
    try:
        data, run = pickler.run(obj, token)
        return data, run.modules
    except RecursionError as error:
        raise SerializationError(
            f"packing of {what}: it is nested too deeply. Pass a flatter structure, or raise "
            f"sys.setrecursionlimit()"
        ) from error
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        packed = _by_dill(obj, token)
        if packed is not None:
            return packed
        raise SerializationError(_explain(obj, what, error)) from error
    except Exception as error:
        raise SerializationError(_explain(obj, what, error)) from error


def _by_dill(obj: Any, token: bytes) -> tuple[bytes, set[str]] | None:
    """dill packs some types that pickle refuses: views of dictionaries, memoryviews, ..."""
    file = BytesIO()
    run = _dill_pickler()(file, protocol=5)
    run.prepare(token=token)
    try:
        run.dump(obj)
    except Exception:
        return None  # the error of pickle is the one to tell
    return file.getvalue(), run.modules


@cache
def _dill_pickler() -> Any:
    with interrupts.Held():
        import dill  # 60 ms: only those pay who need it

    class DillPickler(Reducers, dill.Pickler):  # type: ignore[misc]
        """dill for what pickle refuses, ours for what is dynamic."""

        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if (kind.__module__, kind.__qualname__) in _TIED_TO_THIS_PROCESS:
                raise TypeError(f"cannot pickle '{kind.__qualname__}' object")
            return super().reducer_override(obj)

    return DillPickler


def _explain(obj: Any, what: str, error: Exception) -> str:
    # needed once something is wrong
    from fxhpc.serialize.explain import find_culprit
    from fxhpc.serialize.never_sent import hint

    if why := hint(obj):
        return f"packing of {what}: {why}"
    path, culprit = find_culprit(obj)
    if not path:
        return f"packing of {what}: {type(error).__name__}: {error}"
    kind = type(culprit)
    return (
        f"packing of {what}: {' -> '.join(path)} is a {kind.__module__}.{kind.__qualname__}, "
        f"which cannot be sent to another process ({error}). Make it inside the function, or "
        f"leave it out"
    )

"""Functions to bodies: what a registered function is stored, addressed and loaded by."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from fxhpc.errors import RegistrationError
from fxhpc.serialize import sources
from fxhpc.serialize.build import python_version
from fxhpc.serialize.pack import pack

#: Raised when an older worker could not load what is packed now.
FORMAT = 2


@dataclass(frozen=True)
class PackedFunction:
    """A function, ready to be registered."""

    body: bytes
    digest: bytes  #: SHA-256 of the body
    name: str
    source: str  #: "" if there is none: a builtin, a class made in memory, ...


class Body(NamedTuple):
    """What a body is: a pickle of this as a plain tuple."""

    format: int
    python: str
    name: str
    function: bytes
    sources: list[tuple[str, str, bool, int, bytes]]
    shown: tuple[str, int, str]  # file, first line, text: for tracebacks where the file is not


def pack_function(fn: Callable[..., Any]) -> PackedFunction:
    """Pack any callable: by name where a worker can import it, else by value.

    Raises:
        RegistrationError: it is not callable.
        SerializationError: it refers to something that cannot be sent; the text says where.
    """
    if not callable(fn):
        raise RegistrationError(
            f"{type(fn).__name__} {fn!r:.100} is not callable. Pass the function itself, "
            f"without calling it"
        )
    name = _name_of(fn)
    packed, modules = pack(fn, f"function {name}")
    file, line, text = _source_of(fn)
    body = Body(
        FORMAT,
        python_version(),
        name,
        packed,
        [(*source,) for source in sources.collect(modules)],
        (file, line, text),
    )
    data = pickle.dumps(tuple(body), protocol=5)
    return PackedFunction(data, hashlib.sha256(data).digest(), name, text)


def _inner(fn: Any) -> Any:
    while isinstance(fn, partial):
        fn = fn.func
    return fn


def _name_of(fn: Any) -> str:
    fn = _inner(fn)
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__


def _source_of(fn: Any) -> tuple[str, int, str]:
    """The file, the first line and the text of a callable, as far as they can be found."""
    fn = _inner(fn)
    if not hasattr(fn, "__code__") and not isinstance(fn, type) and not hasattr(fn, "__func__"):
        wrapped = getattr(fn, "__wrapped__", None)
        fn = wrapped if wrapped is not None else type(fn)
    try:
        fn = inspect.unwrap(fn)
        lines, first = inspect.getsourcelines(fn)
        return inspect.getsourcefile(fn) or "", max(first, 1), "".join(lines)
    except Exception:  # builtins, code typed at a prompt, a file that is gone: not worth an error
        return "", 0, ""

"""Functions to bodies: what a registered function is stored, addressed and loaded by."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from fxhpc.errors import RegistrationError
from fxhpc.serialize import never_sent, sources
from fxhpc.serialize.build import python_version
from fxhpc.serialize.initializers import Initializer
from fxhpc.serialize.pack import pack
from fxhpc.serialize.pickler import Pickler
from fxhpc.serialize.segments import Writer
from fxhpc.serialize.sharing import KEPT_BYTES
from fxhpc.units import LARGE_PAYLOAD

#: Raised when an older worker could not load what is packed now: 3 has an initializer, which one
#: that knows 2 alone would leave out. All else is packed as 2.
FORMAT = 3
_WITHOUT_INITIALIZER = 2


@dataclass(frozen=True)
class PackedFunction:
    """A function, ready to be registered."""

    body: bytes
    digest: bytes  #: SHA-256 of the body
    name: str
    source: str  #: "" if there is none: a builtin, a class made in memory, ...
    walltime_s: float = 0.0  #: what it says itself that a call takes at most; 0: nothing
    wants_ranks: bool = False  #: whether its tasks must have ranks


class Body(NamedTuple):
    """What a body is: a pickle of this as a plain tuple."""

    format: int
    python: str
    name: str
    function: bytes
    sources: list[tuple[str, str, bool, int, bytes]]
    shown: tuple[str, int, str]  # file, first line, text: for tracebacks where the file is not
    # The token, the name and the call of what is run before; a body that has none ends before it.
    initializer: tuple[bytes, str, bytes] | None = None


def pack_function(fn: Callable[..., Any], initializer: Initializer | None = None) -> PackedFunction:
    """Pack any callable: by name where a worker can import it, else by value.

    Args:
        initializer: what a worker runs once before it calls this, or others of the same Executor.

    Raises:
        RegistrationError: it is not callable, or a coroutine function or a generator.
        SerializationError: it refers to something that cannot be sent; the text says where.
    """
    if not callable(fn):
        raise RegistrationError(
            f"{type(fn).__name__} {fn!r:.100} is not callable. Pass the function itself, "
            f"without calling it"
        )
    name = _name_of(fn)
    never_sent.check(fn, name)
    token = b"" if initializer is None else initializer.token
    packed, modules = pack(fn, f"function {name}", token)
    return _packed(_body(fn, name, modules, initializer), packed, fn)


class FunctionPacker:
    """Packs functions for one client. A large one, which has an array in its closure or in a
    partial's arguments, is compared with what it was the last time: that is a tenth of the work.

    Args:
        initializer: as of `pack_function`.
    """

    def __init__(self, initializer: Initializer | None = None) -> None:
        self._initializer = initializer
        # By name and size: what stands beside the packed function, it in pieces, and the body.
        self._last: OrderedDict[tuple[str, int], tuple[Body, list[Any], PackedFunction]] = (
            OrderedDict()
        )
        self._size = 0

    def pack(self, fn: Callable[..., Any]) -> PackedFunction:
        """As `pack_function`."""
        initializer = self._initializer
        if not callable(fn):
            return pack_function(fn)
        name = _name_of(fn)
        never_sent.check(fn, name)
        writer = Writer()
        pickler = Pickler(writer, 5)
        pickler.prepare(token=b"" if initializer is None else initializer.token)
        try:
            pickler.dump(fn)
        except Exception:  # said in words there, or packed by what packs more
            return pack_function(fn, initializer)
        body = _body(fn, name, pickler.modules, initializer)
        if writer.size <= LARGE_PAYLOAD:
            return _packed(body, b"".join(writer.pieces), fn)
        key = name, writer.size
        last = self._last.get(key)
        if last is not None and last[0] == body and _are_same(last[1], writer.pieces):
            return last[2]
        packed = _packed(body, b"".join(writer.pieces), fn)
        kept = [piece if type(piece) is bytes else bytearray(piece) for piece in writer.pieces]
        if self._last.pop(key, None) is None:
            self._size += writer.size
        self._last[key] = body, kept, packed
        while self._size > KEPT_BYTES and len(self._last) > 1:
            (_, size), _ = self._last.popitem(last=False)
            self._size -= size
        return packed


def _are_same(kept: list[Any], pieces: list[Any]) -> bool:
    # A bytearray, which stands for what may change, compares with any buffer at memory's speed.
    return len(kept) == len(pieces) and all(
        one is other or one == other for one, other in zip(kept, pieces, strict=True)
    )


def _body(fn: Any, name: str, modules: set[str], initializer: Initializer | None) -> Body:
    """The body of a function but for the function itself."""
    shown = _source_of(fn)
    if initializer is None:
        found = [(*source,) for source in sources.collect(modules)]
        return Body(_WITHOUT_INITIALIZER, python_version(), name, b"", found, shown)
    found = [(*source,) for source in sources.collect(modules | initializer.modules)]
    return Body(FORMAT, python_version(), name, b"", found, shown, initializer[:3])


def _packed(body: Body, function: bytes, fn: Any) -> PackedFunction:
    fields = tuple(body._replace(function=function))
    data = pickle.dumps(fields[:-1] if body.initializer is None else fields, protocol=5)
    _, walltime_s, wants_ranks = _about(fn) or ("", 0.0, False)
    digest = hashlib.sha256(data).digest()
    return PackedFunction(data, digest, body.name, body.shown[2], walltime_s, wants_ranks)


def _inner(fn: Any) -> Any:
    while isinstance(fn, partial):
        fn = fn.func
    return fn


def _name_of(fn: Any) -> str:
    fn = _inner(fn)
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__


def _about(fn: Any) -> tuple[str, float, bool] | None:
    """What a callable object of fxhpc's own, a ShellFunction, says of itself: what is to be stored
    as its source, the seconds that a call takes at most, and whether it must have ranks."""
    fn = _inner(fn)
    tell: Callable[[Any], tuple[str, float, bool]] | None = getattr(
        type(fn), "__fxhpc_about__", None
    )
    return tell(fn) if tell is not None else None


def _source_of(fn: Any) -> tuple[str, int, str]:
    """The file, the first line and the text of a callable, as far as they can be found."""
    fn = _inner(fn)
    if (about := _about(fn)) is not None:
        return "", 0, about[0]
    if not hasattr(fn, "__code__") and not isinstance(fn, type) and not hasattr(fn, "__func__"):
        wrapped = getattr(fn, "__wrapped__", None)
        fn = wrapped if wrapped is not None else type(fn)
    try:
        fn = inspect.unwrap(fn)
        lines, first = inspect.getsourcelines(fn)
        return inspect.getsourcefile(fn) or "", max(first, 1), "".join(lines)
    except Exception:  # builtins, code typed at a prompt, a file that is gone: not worth an error
        return "", 0, ""

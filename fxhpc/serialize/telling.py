"""Objects as digests that every process makes alike; what they are made of is never read again.

Packed bytes are no such thing. Classes of a script have a random name in each process, texts in
a set another order, byte code another form in each Python, and what comes again is packed
otherwise than what is new.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import types
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

from fxhpc.serialize import build, by_source, sources
from fxhpc.serialize.pickler import Reducers
from fxhpc.serialize.run import Reduced

_TEXTS = frozenset({str, bytes})
_SORTED = frozenset({int, str, bytes})
_PLAIN = frozenset({int, float, complex, bool, type(None), str, bytes})
_CONTAINERS = frozenset({list, tuple, dict})

#: From so many items on it is asked whether a container is plain, and told in one go then.
_LARGE = 100
_DEEPEST = 8  # containers in containers
_MOST = 50_000_000  # items of a level of them

#: How pickle writes what needs no reduction. dill replaces part of that once it is imported.
_STOCK = {
    kind: getattr(pickle._Pickler, f"save_{name}")
    for kind, name in {
        type(None): "none",
        bool: "bool",
        int: "long",
        float: "float",
        bytes: "bytes",
        bytearray: "bytearray",
        pickle.PickleBuffer: "picklebuffer",
        str: "str",
        tuple: "tuple",
        list: "list",
        dict: "dict",
        types.FunctionType: "global",
        type: "type",
    }.items()
}
#: What is no part of what a class does: where it stands; what its defaults look like when they
#: are printed, which `dataclass` puts into its text; what copying its first instance leaves there.
_ASIDE = frozenset({"__doc__", "__firstlineno__", "__slotnames__", "__static_attributes__"})
#: What says what a code does, and is not where it stands.
_CODE = (
    "co_code",
    "co_consts",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_flags",
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_exceptiontable",  # since Python 3.11
)


class Telling:
    """What is told, and what that has met: user's modules, and classes that are told already.

    Args:
        most: objects that are told at a time, but for plain values: each costs some 10 µs.
    """

    def __init__(self, most: int = sys.maxsize) -> None:
        self.most = most
        self.modules: set[str] = set()
        self.classes: dict[tuple[bytes, int], bytes] = {}  # by token and revision

    def tell(self, obj: Any) -> bytes:
        """32 bytes, the same for the same.

        Functions and classes that go by value are told with all that goes along with them; of
        those that go by their name see `sources`.

        Raises:
            Exception: pickle alone does not pack it, it is nested too deeply, or too much.
        """
        return _Teller(self).tell(obj)

    def sources(self) -> bytes:
        """32 bytes for the sources that go along with what was told."""
        found = hashlib.sha256()
        if self.modules:
            for source in sources.collect(self.modules):
                for piece in (source.name.encode(), source.text):
                    found.update(len(piece).to_bytes(8, "big"))
                    found.update(piece)
        return found.digest()


class _Sink:
    """A file of which the digest alone is kept."""

    def __init__(self) -> None:
        found = hashlib.sha256()
        self.write, self.digest = found.update, found.digest


class _Teller(Reducers, pickle._Pickler):
    """Writes what nobody will read.

    Args:
        above: what tells the set that this tells an item of: what is known there is no news here.
        inline: it tells a class, with all that goes along with it.
    """

    dispatch = _STOCK
    memo: dict[int, tuple[int, Any]]

    def __init__(
        self, telling: Telling, above: _Teller | None = None, inline: bool = False
    ) -> None:
        self._sink = _Sink()
        super().__init__(self._sink, 5)
        self.prepare(inline=inline)
        self.modules = telling.modules
        self._telling, self._above = telling, above
        self._functions: list[types.FunctionType] = []
        self._open: dict[int, int] = {}  # sets whose items are being told, by id

    def tell(self, obj: Any) -> bytes:
        self.dump(obj)
        # Each in its turn, not where it is met: helpers that call helpers nest deeply.
        for fn in self._functions:
            self.dump(self._parts(fn))
        return self._sink.digest()

    def persistent_id(self, obj: Any) -> Any:
        level, above = 1, self._above
        while above is not None:
            known = above.memo.get(id(obj))
            if known is not None:
                return level, known[0]
            if id(obj) in above._open:
                return -level, above._open[id(obj)]
            level, above = level + 1, above._above
        return None

    def memoize(self, obj: Any) -> None:
        if type(obj) not in _TEXTS:  # whether two equal texts are one object is nobody's business
            super().memoize(obj)  # type: ignore[misc]
            if len(self.memo) > self._telling.most:
                raise ValueError("there is too much to tell")

    def reducer_override(self, obj: Any) -> Reduced:
        kind = type(obj)
        if kind is set or kind is frozenset:
            return kind, (self._items(obj),)
        if kind in _CONTAINERS and len(obj) >= _LARGE and _is_plain(obj):
            return kind, (_fast(obj),)
        if kind is types.CodeType:
            return build.code, (*self._code(obj),)
        return super().reducer_override(obj)

    def _items(self, items: Any) -> list[Any]:
        kinds = set(map(type, items))
        if len(kinds) == 1 and kinds <= _SORTED:
            return sorted(items)
        self._open[id(items)] = len(self._open)
        told = sorted(_Teller(self._telling, self, self.inline).tell(item) for item in items)
        del self._open[id(items)]
        return told

    # --- functions ----------------------------------------------------------------------------

    def _function(self, fn: types.FunctionType) -> Reduced:
        if self.by_name(fn):
            return NotImplemented
        self._functions.append(fn)
        return build.function, (fn.__module__, fn.__qualname__)

    def _parts(self, fn: types.FunctionType) -> tuple[Any, ...]:
        values, contents, _, defaults, attributes = super()._function(fn)[2]
        free = fn.__code__.co_freevars
        cells = {free[position]: value for position, value in contents.items()}
        named = {name: values[name] for name in sorted(values)}
        return fn.__code__, named, cells, defaults, attributes["__dict__"]

    def _code(self, code: types.CodeType) -> Iterator[Any]:
        if id(code) in self.written:  # by `dataclass`, whose fields are told
            yield code.co_name
            return
        source = by_source.text_of(code)
        if source is not None:  # which gives this very code: it is that of all Pythons
            text = source.text
            yield zlib.decompress(text).decode() if isinstance(text, bytes) else text
            yield from (source.owner, source.flags, sorted(source.free), source.qualname)
            return
        yield build.python_version()
        for name in _CODE:
            yield getattr(code, name, None)

    # --- classes ------------------------------------------------------------------------------

    def _class(self, cls: type) -> Reduced:
        found = super()._class(cls)
        if not isinstance(found, tuple) or found[0] is not build.load_class:
            return found
        token, revision, _ = found[1]
        known = self._telling.classes.get((token, revision))
        if known is None:
            known = _Teller(self._telling, inline=True).tell(cls)
            self._telling.classes[token, revision] = known
        return build.load_class, (cls.__module__, cls.__qualname__, known)

    def inline_class(self, cls: type) -> Reduced:
        made, (_, *args), (methods, others, registered, *_), *rest = super().inline_class(cls)
        others = {name: value for name, value in others.items() if name not in _ASIDE}
        if not others.get("__annotations__"):  # made where somebody asks for them
            others.pop("__annotations__", None)
        registered = sorted(registered, key=lambda one: (one.__module__, one.__qualname__))
        return made, (*args,), (methods, others, registered), *rest


def _is_plain(obj: Any) -> bool:
    """Whether it is a tree of containers and plain values: pickle writes it alike everywhere."""
    level, seen = [obj], {id(obj)}  # all but tuples: whether two of these are one is no matter
    for _ in range(_DEEPEST):
        if sum(map(len, level)) > _MOST:
            return False
        lists = (one for one in level if type(one) is not dict)
        dicts = [one for one in level if type(one) is dict]
        items = list(
            chain(
                chain.from_iterable(lists),
                chain.from_iterable(dicts),
                chain.from_iterable(one.values() for one in dicts),
            )
        )
        kinds = set(map(type, items))
        if kinds <= _PLAIN:
            return True
        if not kinds <= _PLAIN | _CONTAINERS:
            return False
        level = [item for item in items if type(item) in _CONTAINERS]
        changeable = [id(item) for item in level if type(item) is not tuple]
        before = len(seen)
        seen.update(changeable)
        if len(seen) != before + len(changeable):
            return False  # one of them stands there twice
    return False


def _fast(obj: Any) -> bytes:
    sink = _Sink()
    pickler = pickle.Pickler(sink, 5)
    pickler.fast = True  # as in `memoize`
    pickler.dump(obj)
    return sink.digest()

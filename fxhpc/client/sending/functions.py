"""Packing a function once for many submissions, unless what it refers to has changed since.

A function that goes by value takes along the globals, cells and defaults that it refers to. It
costs from 20 µs to milliseconds to pack, so a packed body is used again, but only while a watch
proves that packing it once more would say the same. What cannot be watched is packed each time.
"""

from __future__ import annotations

import pickle
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from fxhpc.serialize import FunctionPacker, Initializer, PackedFunction, pack_function

_MISSING: Any = object()
_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None), type(...), range})
_CONTAINERS = frozenset({list, dict, set, tuple, frozenset})
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
_LIMIT = 200  # things to watch: beyond, watching costs as much as packing


class FunctionCache:
    """Packed functions by object. Safe to use from several threads.

    Args:
        initializer: what workers run once before they call any of these.
    """

    def __init__(self, initializer: Initializer | None = None) -> None:
        self._initializer = initializer
        self._entries: dict[int, tuple[weakref.ref[Any], PackedFunction, Watch | None]] = {}
        self._packer = FunctionPacker(initializer)

    def pack(self, function: Callable[..., Any]) -> PackedFunction:
        """The function packed, as it is now.

        Raises:
            SerializationError: it cannot be packed.
        """
        key = id(function)
        entry = self._entries.get(key)
        if entry is not None:
            found, packed, watch = entry
            if found() is function and (watch is None or watch.holds()):
                return packed
            self._entries.pop(key, None)
        watch = watch_of(function)
        if watch is not None:
            packed = pack_function(function, self._initializer)
        else:
            packed = self._packer.pack(function)
        if watch is not None and watch.holds():
            entries = self._entries
            forget = weakref.ref(function, lambda ref: _forget(entries, key, ref))
            # What goes by its name alone has nothing that could change.
            entries[key] = forget, packed, watch if watch else None
        return packed


def _forget(entries: dict[int, tuple[Any, Any, Any]], key: int, ref: Any) -> None:
    entry = entries.get(key)
    if entry is not None and entry[0] is ref:
        entries.pop(key, None)


class Watch:
    """What a packed function depends on, as it was when the function was packed."""

    def __init__(self) -> None:
        self.functions: list[tuple[Any, Any, Any, Any]] = []
        self.names: list[tuple[Any, str, Any]] = []  # a namespace, a name in it, its value
        self.cells: list[tuple[Any, Any]] = []
        self.sizes: list[tuple[Any, int]] = []  # a namespace, the number of its names
        self.containers: list[tuple[Any, bytes]] = []
        # The same as `close` puts it together, for `holds`, which each submission asks:
        self._present: list[tuple[Callable[[str, Any], Any], str, Any]] = []
        self._absent: list[tuple[Any, tuple[str, ...]]] = []  # a namespace's names, and others

    def close(self) -> Watch:
        """No more is added."""
        absent: dict[int, tuple[Any, list[str]]] = {}
        for namespace, name, value in self.names:
            if value is not _MISSING:
                self._present.append((namespace.get, name, value))
            else:  # most are attributes: all of them are looked for by one call
                absent.setdefault(id(namespace), (namespace, []))[1].append(name)
        self._absent += ((namespace.keys(), tuple(names)) for namespace, names in absent.values())
        return self

    def holds(self) -> bool:
        """Whether nothing has changed."""
        for function, code, defaults, kwdefaults in self.functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not kwdefaults
            ):
                return False
        for get, name, value in self._present:
            if get(name, _MISSING) is not value:
                return False
        for cell, value in self.cells:
            if _content(cell) is not value:
                return False
        for names, absent in self._absent:
            if not names.isdisjoint(absent):
                return False
        for namespace, size in self.sizes:
            if len(namespace) != size:
                return False
        if not self.containers:
            return True
        try:
            return all(pickle.dumps(value, 5) == data for value, data in self.containers)
        except Exception:  # something that does not pickle was put in
            return False

    def __len__(self) -> int:
        size = len(self.functions) + len(self.names) + len(self.cells) + len(self.sizes)
        return size + 5 * len(self.containers)


def watch_of(function: Callable[..., Any]) -> Watch | None:
    """A watch over all that the function's body depends on; None if there can be none.

    Methods, partials and callable objects are not watched: they have state of their own.
    """
    if not isinstance(function, types.FunctionType | types.BuiltinFunctionType):
        return None
    watch = Watch()
    if not _add(watch, function, set()) or len(watch) > _LIMIT:
        return None
    return watch.close()


def _add(watch: Watch, value: Any, seen: set[int]) -> bool:
    """Watch a value and all that it refers to; False if that cannot be done."""
    kind = type(value)
    if kind in _ATOMS or kind is types.ModuleType or id(value) in seen:
        return True
    if len(seen) > _LIMIT:
        return False
    seen.add(id(value))
    if kind is types.FunctionType or isinstance(value, type | types.BuiltinFunctionType):
        if _goes_by_reference(value):
            return True
        if kind is types.FunctionType:
            return _add_function(watch, value, seen)
        return isinstance(value, type) and _add_class(watch, value, seen)
    if kind in (staticmethod, classmethod):
        return _add(watch, value.__func__, seen)
    if kind is property:
        return all(_add(watch, part, seen) for part in (value.fget, value.fset, value.fdel))
    if kind in _CONTAINERS and _is_plain(value, 3):
        if kind is not frozenset:  # whose order, and so whose bytes, may differ
            watch.containers.append((value, pickle.dumps(value, 5)))
        return True
    return kind in _DESCRIPTORS


def _add_function(watch: Watch, function: types.FunctionType, seen: set[int]) -> bool:
    code, defaults, kwdefaults = function.__code__, function.__defaults__, function.__kwdefaults__
    watch.functions.append((function, code, defaults, kwdefaults))
    parts = list(defaults or ())
    if kwdefaults:
        parts += kwdefaults.values()
        watch.names += ((kwdefaults, name, value) for name, value in kwdefaults.items())
    attributes = function.__dict__
    watch.sizes.append((attributes, len(attributes)))
    for name, value in attributes.items():
        watch.names.append((attributes, name, value))
        parts.append(value)
    for cell in function.__closure__ or ():
        content = _content(cell)
        watch.cells.append((cell, content))
        if content is not _MISSING:
            parts.append(content)
    namespace = function.__globals__
    for name in set(_names(code)):
        value = namespace.get(name, _MISSING)
        watch.names.append((namespace, name, value))
        if value is not _MISSING:
            parts.append(value)
    return all(_add(watch, part, seen) for part in parts)


def _add_class(watch: Watch, cls: type, seen: set[int]) -> bool:
    namespace = cls.__dict__
    watch.sizes.append((namespace, len(namespace)))
    for name, value in namespace.items():
        watch.names.append((namespace, name, value))
        if isinstance(value, cls):
            continue  # a member of an Enum
        is_inner = name.startswith("_") and not callable(value)  # what makes up the class itself
        if not is_inner and not _add(watch, value, seen):
            return False
    return all(_add(watch, base, seen) for base in cls.__bases__)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING  # not bound yet


def _goes_by_reference(value: Any) -> bool:
    """Whether the value is found under its name in a module that can be imported."""
    name = getattr(value, "__module__", None)
    if name is None or name == "__main__":
        return False
    found: Any = sys.modules.get(name)
    # A module without a file was made by hand (a notebook, an exec): nobody can import it.
    if found is None or (name not in sys.builtin_module_names and not _has_origin(found)):
        return False
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _has_origin(module: Any) -> bool:
    return getattr(module, "__spec__", None) is not None


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value consists of containers and atoms only, so that its bytes tell all."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind not in _CONTAINERS or depth == 0 or len(value) > 100:
        return False
    if kind is dict and not all(_is_plain(key, depth - 1) for key in value):
        return False
    return all(_is_plain(item, depth - 1) for item in (value.values() if kind is dict else value))

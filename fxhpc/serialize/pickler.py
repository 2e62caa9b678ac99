"""Objects to bytes: pickle, with what a worker cannot import packed by value.

Everything is left to pickle but *dynamic* things: functions, classes and the like of `__main__`,
of notebooks, made inside functions, replaced by decorators, or from modules that exist in memory
alone. Why this is not left to dill: docs/decisions/0010-dynamic-classes.md.
"""

from __future__ import annotations

import enum
import pickle
import sys
import types
import zlib
from io import BytesIO
from typing import Any

from fxhpc.serialize import build, classes, references, spaces
from fxhpc.serialize.classes import Absent, Entry
from fxhpc.serialize.inline import InlineClasses
from fxhpc.serialize.kinds import REDUCERS, reduce_exception
from fxhpc.serialize.run import SINGLETONS, Call, Content, Reduced, annotations_of

_PROTOCOL = 5

_TYPES = {
    value: name
    for name, value in vars(types).items()
    if isinstance(value, type) and value.__module__ != "types"
}


class Reducers(InlineClasses):
    """How dynamic things are taken apart. Mixed into a pickler; holds what one run has met."""

    def reducer_override(self, obj: Any) -> Reduced:
        """What pickle asks first about everything but plain values and containers."""
        kind = type(obj)
        if kind is types.FunctionType:
            return self._function(obj)
        if issubclass(kind, type):
            return self._class(obj)
        reducer = REDUCERS.get(kind)
        if reducer is not None:
            return reducer(self, obj)
        if id(obj) in SINGLETONS:
            return SINGLETONS[id(obj)][1]
        if self.inline and isinstance(obj, enum.Enum) and self.is_dynamic(kind):
            return self.enum_member(obj)
        if isinstance(obj, BaseException) and type(kind.__init__) is types.FunctionType:
            return reduce_exception(obj, kind)
        return NotImplemented

    # --- functions ----------------------------------------------------------------------------

    def _function(self, fn: types.FunctionType) -> Reduced:
        if self.by_name(fn):
            return NotImplemented
        code = fn.__code__
        names, by_value = self._namespace(fn)
        cells = fn.__closure__
        if cells is not None:
            self.cells.update(map(id, cells))
        values: dict[str, Any] = {}
        submodules: list[str] = []
        self.modules.update(references.imported_names(code))
        for name in references.global_names(code):
            value = fn.__globals__.get(name, Absent)
            if isinstance(value, types.ModuleType):
                submodules += references.submodules_used(value, code)
            if by_value:
                self.depend(fn.__globals__, name, value)
                if value is not Absent:
                    values[name] = value
        contents = {}
        for position, cell in enumerate(cells or ()):
            try:
                contents[position] = cell.cell_contents
            except ValueError:
                continue  # empty: assigned after the function was made
            self.dependencies.append((Content(cell), "", contents[position]))
        if by_value or references.is_user_file(fn.__code__.co_filename):
            # What a library's own closures hold (dataclasses' set of objects that are being
            # shown, say) is not the user's to change.
            self.judge(*contents.values())
            self.judge(*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values())
        defaults = (fn.__defaults__, fn.__kwdefaults__)
        attributes = {
            "__qualname__": fn.__qualname__,
            "__module__": fn.__module__,
            "__doc__": fn.__doc__,
            "__annotations__": annotations_of(fn.__annotations__),
            "__dict__": dict(vars(fn)),
        }
        if getattr(fn, "__type_params__", ()):
            attributes["__type_params__"] = fn.__type_params__  # type: ignore[attr-defined]
        state = (values, contents, submodules, defaults, attributes)
        args = (code, names, fn.__name__, cells)
        return build.function, args, state, None, None, build.set_function

    def _namespace(self, fn: types.FunctionType) -> tuple[Any, bool]:
        """What stands for a function's globals, and whether its values go along.

        Functions that share globals here share them there.
        """
        shared = fn.__globals__
        known = self.namespaces.get(id(shared))
        if known is not None:
            return known
        name = shared.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        found: tuple[Any, bool]
        if (
            module is not None
            and vars(module) is shared
            and references.is_importable_module(module, module.__name__)
        ):
            self.note(module.__name__)
            found = (Call(build.namespace, (module.__name__,)), False)
        else:
            given = {key: shared.get(key) for key in ("__name__", "__package__")}
            names = {key: val for key, val in given.items() if isinstance(val, str)}
            found = (names, True)
            if self.token:
                found = (Call(spaces.space, (self.token, id(shared), names)), True)
        self.namespaces[id(shared)] = found
        self.keep.append(shared)
        return found

    # --- classes ------------------------------------------------------------------------------

    def _class(self, cls: type) -> Reduced:
        if cls in _TYPES:
            return build.type_named, (_TYPES[cls],)
        if cls is enum.EnumMeta:
            return "EnumMeta"  # its name in all versions
        if not cls.__flags__ & build.HEAP_TYPE or self.by_name(cls):
            return NotImplemented
        if type(cls).__module__ == "_ctypes":
            raise pickle.PicklingError(
                "the class statement of a ctypes type lays out its memory. Put it into a module "
                "beside the script, which a worker imports"
            )
        if self.inline:
            return self.inline_class(cls)
        entry = classes.entry_of(cls)
        if not entry.is_current():
            _pack_class(cls, entry)
        self.modules |= entry.modules
        return build.load_class, (entry.token, entry.revision, entry.body)


class Pickler(Reducers, pickle.Pickler):
    """The pickler of everything; C at heart."""


def dumps(obj: Any) -> bytes:
    """An object as bytes."""
    return run(obj)[0]


def run(obj: Any, token: bytes = b"") -> tuple[bytes, Pickler]:
    """An object as bytes, and the pickler with what it has met.

    Args:
        token: see `Run.prepare`.
    """
    file = BytesIO()
    pickler = Pickler(file, _PROTOCOL)
    pickler.prepare(token=token)
    pickler.dump(obj)
    return file.getvalue(), pickler


def _pack_class(cls: type, entry: Entry) -> None:
    """Pack a dynamic class, with all dynamic classes and functions that it reaches."""
    file = BytesIO()
    pickler = Pickler(file, _PROTOCOL)
    pickler.prepare(inline=True)
    pickler.dump(cls)
    classes.new_body(entry, zlib.compress(file.getvalue(), 6))
    entry.modules = frozenset(pickler.modules)
    entry.dependencies = None if pickler.volatile else pickler.dependencies

"""Objects to bytes: pickle, with what a worker cannot import packed by value.

Everything is left to pickle but *dynamic* things: functions, classes and the like of `__main__`,
of notebooks, made inside functions, replaced by decorators, or from modules that exist in memory
alone. Why this is not left to dill: docs/decisions/0010-dynamic-classes.md.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import marshal
import pickle
import sys
import types
import typing
import weakref
import zlib
from io import BytesIO
from typing import Any

from fxhpc.serialize import build, classes, references
from fxhpc.serialize.classes import Absent, Entry

_PROTOCOL = 5

#: Objects that are compared by identity, and that pickle would copy.
_SINGLETONS: dict[int, tuple[Any, str]] = {
    id(getattr(dataclasses, name)): (getattr(dataclasses, name), name)
    for name in (
        "MISSING",
        "KW_ONLY",
        "_HAS_DEFAULT_FACTORY",
        "_FIELD",
        "_FIELD_CLASSVAR",
        "_FIELD_INITVAR",
    )
    if hasattr(dataclasses, name)
}
_TYPES = {
    value: name
    for name, value in vars(types).items()
    if isinstance(value, type) and value.__module__ != "types"
}
#: Values that do not change while they are the same object.
_STABLE = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    type,
    int,
    float,
    complex,
    str,
    bytes,
    bool,
    type(None),
    property,
    classmethod,
    staticmethod,
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    type(Absent),
)

_METHODS = (types.FunctionType, property, classmethod, staticmethod)
_EXCEPTION_REDUCERS = (BaseException.__reduce__, OSError.__reduce__)

Reduced = Any  # what reducer_override may return


class Reducers:
    """How dynamic things are taken apart. Mixed into a pickler; holds what one run has met."""

    def prepare(self, inline: bool = False) -> None:
        """Begin a run. With `inline` dynamic classes are packed in place, else as bodies."""
        self.inline = inline
        self.modules: set[str] = set()  # user modules that are referred to by name
        self.dependencies: classes.Dependencies = []
        self.volatile = False  # refers to something that may change without being replaced
        self._namespaces: dict[int, tuple[Any, Any]] = {}
        self._cells: set[int] = set()
        self._keep: list[Any] = []

    def reducer_override(self, obj: Any) -> Reduced:
        """What pickle asks first about everything but plain values and containers."""
        kind = type(obj)
        if kind is types.FunctionType:
            return self._function(obj)
        if issubclass(kind, type):
            return self._class(obj)
        reducer = _REDUCERS.get(kind)
        if reducer is not None:
            return reducer(self, obj)
        if id(obj) in _SINGLETONS:
            return _SINGLETONS[id(obj)][1]
        if self.inline and isinstance(obj, enum.Enum) and self._is_dynamic(kind):
            return self._enum_member(obj)
        if isinstance(obj, BaseException) and type(kind.__init__) is types.FunctionType:
            return _exception(obj, kind)
        return NotImplemented

    # --- by name ------------------------------------------------------------------------------

    def _by_name(self, obj: Any) -> bool:
        module = references.is_importable_object(obj)
        if module is None:
            return False
        self._note(module)
        return True

    def _note(self, module: str) -> None:
        if references.user_module_of(module):
            self.modules.add(module)

    def _is_dynamic(self, cls: type) -> bool:
        return (
            bool(cls.__flags__ & build.HEAP_TYPE) and references.is_importable_object(cls) is None
        )

    # --- functions ----------------------------------------------------------------------------

    def _function(self, fn: types.FunctionType) -> Reduced:
        if self._by_name(fn):
            return NotImplemented
        code = fn.__code__
        names, by_value = self._namespace(fn)
        cells = fn.__closure__
        if cells is not None:
            self._cells.update(map(id, cells))
        values: dict[str, Any] = {}
        submodules: list[str] = []
        self.modules.update(references.imported_names(code))
        for name in references.global_names(code):
            value = fn.__globals__.get(name, Absent)
            if isinstance(value, types.ModuleType):
                submodules += references.submodules_used(value, code)
            if by_value:
                self._depend(fn.__globals__, name, value)
                if value is not Absent:
                    values[name] = value
        contents = {}
        for position, cell in enumerate(cells or ()):
            try:
                contents[position] = cell.cell_contents
            except ValueError:
                continue  # empty: assigned after the function was made
            self.dependencies.append((_Content(cell), "", contents[position]))
        if by_value or references.is_user_file(fn.__code__.co_filename):
            # What a library's own closures hold (dataclasses' set of objects that are being
            # shown, say) is not the user's to change.
            self._judge(*contents.values())
            self._judge(*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values())
        defaults = (fn.__defaults__, fn.__kwdefaults__)
        attributes = {
            "__qualname__": fn.__qualname__,
            "__module__": fn.__module__,
            "__doc__": fn.__doc__,
            "__annotations__": _annotations(fn.__annotations__),
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
        known = self._namespaces.get(id(shared))
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
            self._note(module.__name__)
            found = (_Call(build.namespace, (module.__name__,)), False)
        else:
            given = {key: shared.get(key) for key in ("__name__", "__package__")}
            found = ({key: val for key, val in given.items() if isinstance(val, str)}, True)
        self._namespaces[id(shared)] = found
        self._keep.append(shared)
        return found

    def _cell(self, cell: types.CellType) -> Reduced:
        if id(cell) in self._cells:  # its function brings the content, once it can be referred to
            return types.CellType, ()
        return types.CellType, (), cell.cell_contents, None, None, build.set_cell

    # --- classes ------------------------------------------------------------------------------

    def _class(self, cls: type) -> Reduced:
        if cls in _TYPES:
            return build.type_named, (_TYPES[cls],)
        if not cls.__flags__ & build.HEAP_TYPE or self._by_name(cls):
            return NotImplemented
        if self.inline:
            return self._inline_class(cls)
        entry = classes.entry_of(cls)
        if not entry.is_current():
            _pack_class(cls, entry)
        self.modules |= entry.modules
        return build.load_class, (entry.token, entry.revision, entry.body)

    def _inline_class(self, cls: type) -> Reduced:
        own = vars(cls)
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        if "__slots__" in own:
            names["__slots__"] = own["__slots__"]
        methods: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for name, value in own.items():
            if not build.is_own_name(cls, name):
                continue
            hidden = name.startswith("_") and name.endswith("_")
            if hidden and not isinstance(value, types.FunctionType):
                self.dependencies.append((own, name, value))
            else:
                self._depend(own, name, value)
            if isinstance(value, _METHODS):
                methods[name] = value
            else:
                others[name] = _annotations(value) if name == "__annotations__" else value
        # Names that a class gets later: only their number is known beforehand.
        self.dependencies.append((_Count(own), "", len(own)))
        registered: list[type] = []
        if "_abc_impl" in own:
            import _abc  # type: ignore[import-not-found]

            registered = [ref() for ref in _abc._get_dump(cls)[0] if ref() is not None]
        args = (
            classes.entry_of(cls).token,
            classes.fields_of(cls),
            type(cls),
            cls.__name__,
            cls.__bases__,
            names,
        )
        state = (_Call(build.set_methods, (cls, methods)), others, registered)
        return build.make_class, args, state, None, None, build.set_class

    def _enum_member(self, member: Any) -> Reduced:
        cls = type(member)
        data_type = cls._member_type_
        arguments = data_type.__getnewargs__(member) if hasattr(data_type, "__getnewargs__") else ()
        # Pickle must not ask the member how it wants to be packed: by its value, in a class
        # that is not there yet.
        name = member._name_ or ""
        return (
            build.enum_member,
            (cls, name, arguments),
            dict(vars(member)),
            None,
            None,
            build.set_enum_member,
        )

    # --- what a packed class depends on -------------------------------------------------------

    def _depend(self, namespace: Any, name: str, value: Any) -> None:
        self.dependencies.append((namespace, name, value))
        self._judge(value)

    def _judge(self, *values: Any) -> None:
        if not all(isinstance(value, _STABLE) or id(value) in _SINGLETONS for value in values):
            self.volatile = True


class _Call:
    """Packs as a call; what stands here is what it returns there."""

    def __init__(self, function: Any, args: tuple[Any, ...]) -> None:
        self._call = (function, args)

    def __reduce__(self) -> Reduced:
        return self._call


class _Count(dict[str, Any]):
    """A namespace whose only value is how many names another has."""

    def __init__(self, counted: Any) -> None:
        super().__init__()
        self.counted = counted

    def get(self, name: str, default: Any = None) -> Any:
        return len(self.counted)


class _Content(dict[str, Any]):
    """A namespace whose only value is what a cell holds."""

    def __init__(self, cell: types.CellType) -> None:
        super().__init__()
        self.cell = cell

    def get(self, name: str, default: Any = None) -> Any:
        return self.cell.cell_contents


class Pickler(Reducers, pickle.Pickler):
    """The pickler of everything; C at heart."""


def dumps(obj: Any) -> bytes:
    """An object as bytes."""
    return run(obj)[0]


def run(obj: Any) -> tuple[bytes, Pickler]:
    """An object as bytes, and the pickler with what it has met."""
    file = BytesIO()
    pickler = Pickler(file, _PROTOCOL)
    pickler.prepare()
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


def _annotations(annotations: Any) -> Any:
    """Annotations without objects that mean nothing to a worker: those go as text."""
    if not isinstance(annotations, dict):
        return annotations
    return {name: _annotation(value) for name, value in annotations.items()}


def _annotation(value: Any) -> Any:
    module = type(value).__module__
    plain = value is None or isinstance(value, (str, type, types.GenericAlias, types.UnionType))
    return value if plain or module in ("typing", "dataclasses") else repr(value)


def _method(run: Reducers, method: types.MethodType) -> Reduced:
    owner, fn = method.__self__, method.__func__
    if run.inline:  # the class may have no methods yet when it is asked
        return types.MethodType, (fn, owner)
    if getattr(owner, getattr(fn, "__name__", ""), None) == method:
        return NotImplemented
    return types.MethodType, (fn, owner)


def _exception(exc: BaseException, kind: type[BaseException]) -> Reduced:
    """Without its constructor: one of the user's mostly takes other arguments than `args` has."""
    if kind.__reduce__ not in _EXCEPTION_REDUCERS or kind.__reduce_ex__ is not object.__reduce_ex__:
        return NotImplemented
    reduced: Any = exc.__reduce__()
    state = reduced[2] if len(reduced) > 2 else None
    return build.exception, (kind, reduced[1], state or {})


def _code(_: Reducers, code: types.CodeType) -> Reduced:
    return build.code, (build.python_version(), marshal.dumps(code))


def _module(run: Reducers, module: types.ModuleType) -> Reduced:
    name = module.__name__
    if name == "__main__" or references.is_importable_module(module, name):
        run._note(name)
        return build.module, (name,)
    state = {key: value for key, value in vars(module).items() if not _is_machinery(key)}
    return build.dynamic_module, (name,), state, None, None, build.set_module


def _is_machinery(name: str) -> bool:
    return name in ("__builtins__", "__loader__", "__spec__", "__cached__")


def _lru_cache(run: Reducers, wrapper: Any) -> Reduced:
    if run._by_name(wrapper):
        return NotImplemented
    parameters = wrapper.cache_parameters()
    args = (wrapper.__wrapped__, parameters["maxsize"], parameters["typed"])
    return build.lru_cache, args


def _typing_variable(run: Reducers, variable: Any) -> Reduced:
    module = sys.modules.get(variable.__module__)
    if (
        module is not None
        and getattr(module, variable.__name__, None) is variable
        and references.is_importable_module(module, module.__name__)
    ):
        run._note(module.__name__)
        return NotImplemented
    kind = type(variable).__name__
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = {}
    if kind == "NewType":
        args = (variable.__supertype__,)
    elif kind == "TypeAliasType":
        args = (variable.__value__,)
        options["type_params"] = variable.__type_params__
    elif kind == "TypeVar":
        args = variable.__constraints__
    if kind in ("TypeVar", "ParamSpec"):
        options["bound"] = variable.__bound__
        options["covariant"] = variable.__covariant__
        options["contravariant"] = variable.__contravariant__
    return build.typing_variable, (kind, variable.__name__, args, options)


_REDUCERS: dict[type, Any] = {
    types.MethodType: _method,
    types.CellType: lambda run, cell: run._cell(cell),
    types.CodeType: _code,
    types.ModuleType: _module,
    types.MappingProxyType: lambda _, proxy: (types.MappingProxyType, (dict(proxy),)),
    type(functools.lru_cache(lambda: None)): _lru_cache,
    property: lambda _, prop: (property, (prop.fget, prop.fset, prop.fdel, prop.__doc__)),
    classmethod: lambda _, method: (classmethod, (method.__func__,)),
    staticmethod: lambda _, method: (staticmethod, (method.__func__,)),
    functools.cached_property: lambda _, prop: (build.cached_property, (prop.func, prop.attrname)),
    weakref.WeakKeyDictionary: lambda _, items: (build.weak_keys, (dict(items),)),
    weakref.WeakValueDictionary: lambda _, items: (build.weak_values, (dict(items),)),
    typing.TypeVar: _typing_variable,
    typing.ParamSpec: _typing_variable,
    typing.NewType: _typing_variable,
}
if hasattr(typing, "TypeAliasType"):  # Python 3.12
    _REDUCERS[typing.TypeAliasType] = _typing_variable

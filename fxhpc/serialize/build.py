"""The functions that packed bytes name: they make functions, classes and the like anew.

Their names and arguments are part of the format: what was packed by one version is in stores.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import marshal
import sys
import types
import weakref
import zlib
from abc import ABCMeta
from collections.abc import Callable
from pickle import loads
from typing import Any

from fxhpc.errors import SerializationError
from fxhpc.serialize import by_source, classes, spaces, twins

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not by C at compile time

# --- functions --------------------------------------------------------------------------------


def code(version: str, packed: bytes, source: tuple[Any, ...] | None = None) -> types.CodeType:
    """A code object; compiled from its source if it is of another Python than this.

    Args:
        version: the Python that made it, as "3.11".
        source: a `by_source.Text`, if the function has one.
    """
    here = python_version()
    why = "it came without its source"
    if version == here:
        try:
            return marshal.loads(packed)  # type: ignore[no-any-return]
        except (ValueError, EOFError, TypeError):
            if source is None:
                raise
    if source is not None:
        text = by_source.Text(*source)
        try:
            return by_source.compiled(text)
        except (SyntaxError, ValueError) as error:
            why = f"its source ({text.file}, line {text.line}) does not compile here: {error}"
    raise SerializationError(
        f"unpacking a function: its code was made by Python {version}, this is Python {here} "
        f"({sys.executable}), and {why}. Use the same minor version on both sides, or put the "
        f"function in a module that is installed on both"
    )


def code_of_dataclass(version: str, packed: bytes, free: tuple[str, ...]) -> types.CodeType:
    """The code of a method that `dataclass` has written; `set_class` has it written anew."""
    if version == python_version():
        return marshal.loads(packed)  # type: ignore[no-any-return]
    return _to_be_written.__code__.replace(co_freevars=free)


def _to_be_written(*_: Any, **__: Any) -> None:
    raise SerializationError("an instance is made before its dataclass is complete")


def python_version() -> str:
    """The version that byte code belongs to."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def namespace(module: str) -> dict[str, Any]:
    """The globals of a module that can be imported."""
    return vars(importlib.import_module(module))


def function(
    code: types.CodeType, names: dict[str, Any], name: str, cells: tuple[types.CellType, ...] | None
) -> types.FunctionType:
    """A function without its state, which may refer to the function itself."""
    names.setdefault("__builtins__", builtins)  # what C code called by it looks up there
    return types.FunctionType(code, names, name, None, cells)


def set_function(made: types.FunctionType, state: tuple[Any, ...]) -> None:
    """The state of a function: whatever can refer back to it."""
    values, contents, submodules, defaults, attributes = state
    for submodule in submodules:
        importlib.import_module(submodule)
    spaces.fill(made.__globals__, values)
    for position, value in contents.items():
        cells = made.__closure__ or ()
        cells[position].cell_contents = value
    made.__defaults__, made.__kwdefaults__ = defaults
    own = attributes.pop("__dict__", None)
    for name, value in attributes.items():
        setattr(made, name, value)
    if own:
        vars(made).update(own)


def set_cell(made: types.CellType, value: Any) -> None:
    """The content of a cell that no function has brought."""
    made.cell_contents = value


def lru_cache(wrapped: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """A function with an empty cache."""
    return functools.lru_cache(maxsize, typed)(wrapped)


def cached_property(function: Callable[..., Any], name: str | None) -> Any:
    """A cached property; some Pythons give it a lock, which is not sent."""
    made: Any = functools.cached_property(function)
    made.attrname = name
    return made


def weak_keys(items: dict[Any, Any]) -> Any:
    """A WeakKeyDictionary."""
    return weakref.WeakKeyDictionary(items)


def weak_values(items: dict[Any, Any]) -> Any:
    """A WeakValueDictionary."""
    return weakref.WeakValueDictionary(items)


def module(name: str) -> types.ModuleType:
    """A module that can be imported."""
    return importlib.import_module(name)


def dynamic_module(name: str) -> types.ModuleType:
    """A module that exists in memory alone; its names are its state."""
    return types.ModuleType(name)


def set_module(made: types.ModuleType, state: dict[str, Any]) -> None:
    """The names of a module that exists in memory alone."""
    vars(made).update(state)


def type_named(name: str) -> Any:
    """A type that only the module `types` has a name for."""
    return getattr(types, name)


def typing_variable(kind: str, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A TypeVar, a ParamSpec or a NewType of a module that cannot be imported."""
    import typing

    return getattr(typing, kind)(name, *args, **options)


# --- classes ----------------------------------------------------------------------------------


def load_class(token: bytes, revision: int, body: bytes) -> type:
    """The class of a token."""
    return classes.load(token, revision, body, _build)


def _build(body: bytes) -> Any:
    return loads(zlib.decompress(body))


def make_class(
    token: bytes,
    fields: tuple[str, ...],
    metaclass: type,
    name: str,
    bases: tuple[type, ...],
    names: dict[str, Any],
) -> type:
    """A class without its state, or the one that this process has for the token."""
    found = classes.find(token, names["__qualname__"], names["__module__"], fields)
    if found is not None:
        return found
    made = _bare_class(metaclass, name, bases, names)
    classes.register(made, token)
    return made


class _Silent:
    """A first base that keeps `__init_subclass__` of the others from running."""

    __slots__ = ()

    def __init_subclass__(cls, **_: Any) -> None:
        pass


class _SilentWithDict:
    """The same, in the layout of ordinary classes: only among equals can bases be exchanged."""

    def __init_subclass__(cls, **_: Any) -> None:
        pass


def _bare_class(metaclass: type, name: str, bases: tuple[type, ...], names: dict[str, Any]) -> type:
    """A class that no hook has seen: all that they did when it was defined comes as its state."""
    new = next(
        vars(parent)["__new__"]
        for parent in metaclass.__mro__
        if "__new__" in vars(parent)
        and not isinstance(vars(parent)["__new__"], (staticmethod, types.FunctionType))
    )
    hooked = any(
        "__init_subclass__" in vars(parent)
        for base in bases
        for parent in base.__mro__
        if parent is not object
    )
    if hooked:
        silent = _SilentWithDict if any(base.__dictoffset__ for base in bases) else _Silent
        made: Any = new(metaclass, name, (silent, *bases), dict(names))
        try:
            type.__setattr__(made, "__bases__", bases)
        except TypeError:  # layouts that cannot be exchanged (Protocol): let the hooks run
            try:
                made = new(metaclass, name, bases, dict(names))
            except Exception:  # a hook wants what the class statement gave it: one base more
                pass
    else:
        made = new(metaclass, name, bases, names)
    if issubclass(metaclass, ABCMeta):
        import _abc  # type: ignore[import-not-found]

        _abc._abc_init(made)
    return made  # type: ignore[no-any-return]


def set_methods(made: type, methods: dict[str, Any]) -> dict[str, Any]:
    """The methods of a class, before the rest of its state: instances among that may need them."""
    if classes.wants_state(made):
        for name, value in methods.items():
            if value is not classes.Absent:
                type.__setattr__(made, name, value)
    return methods


def set_class(made: type, state: tuple[Any, ...]) -> None:
    """The state of a class, unless this process knows better: it made it, or has a newer one."""
    if not classes.wants_state(made):
        return
    classes.has_state(made)
    methods, others, registered, *by_version = state
    attributes = {
        name: value for name, value in {**methods, **others}.items() if value is not classes.Absent
    }
    for name in [name for name in vars(made) if is_own_name(made, name)]:
        if name not in attributes:
            type.__delattr__(made, name)
    for name, value in attributes.items():
        type.__setattr__(made, name, value)
    for virtual in registered:
        made.register(virtual)  # type: ignore[attr-defined]
    if by_version and by_version[0] != python_version():
        if by_version[1]:
            twins.write(made, by_version[1])
        if twins.is_enum(made):
            twins.complete_enum(made)


#: What the interpreter puts into every class, and what `make_class` is given.
_GIVEN = frozenset(
    {"__dict__", "__weakref__", "__module__", "__qualname__", "__slots__", "_abc_impl"}
)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def is_own_name(cls: type, name: str) -> bool:
    """Whether an attribute of a class is part of its state."""
    return name not in _GIVEN and not isinstance(vars(cls)[name], _DESCRIPTORS)


def if_there(module: str, name: str) -> Any:
    """What a module of the standard library has in some versions of Python."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, classes.Absent)
    return found


def slots(cls: type, values: dict[str, Any]) -> Any:
    """An object with those of the values that this Python's class has a slot for."""
    made: Any = object.__new__(cls)
    for name in cls.__slots__:  # type: ignore[attr-defined]
        setattr(made, name, values.get(name, False))
    return made


def enum_member(cls: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    """A member of an Enum that is being built, or that which the class has already."""
    known = vars(cls).get("_member_map_", {}).get(name)
    if known is not None:
        return known
    data_type = next(
        (parent for parent in cls.__mro__ if parent in (int, str, float, bytes, tuple)), object
    )
    return data_type.__new__(cls, *arguments)


def set_enum_member(member: Any, state: dict[str, Any]) -> None:
    """The attributes of a member of an Enum."""
    vars(member).update(state)


# --- exceptions -------------------------------------------------------------------------------


def exception(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """An exception made without its constructor, which may want other arguments than it keeps."""
    builtin: Any = next(parent for parent in cls.__mro__ if not parent.__flags__ & HEAP_TYPE)
    made = builtin.__new__(cls, *args)
    builtin.__init__(made, *args)
    vars(made).update(state)
    return made

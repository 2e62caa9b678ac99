"""What the standard library puts into classes, where another version of Python puts other things.

Methods that `dataclass` writes have no source, but another Python writes its own. A twin stands in
for their source, an empty class with the same fields that `dataclass` is applied to: on the side
that packs, to see that a method is what `dataclass` would write, and on a worker of another
version, to get that version's. An Enum of another version gets from its twin what it lacks.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
from collections.abc import Iterable
from typing import Any

from fxhpc.serialize.by_source import same_code

_WRITTEN = frozenset(
    {"__init__", "__repr__", "__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__"}
    | {"__setattr__", "__delattr__"}
)
#: By name of the method: its code, and that of the function that it wraps, if it does.
_Codes = dict[str, list[types.CodeType]]


def candidates(cls: type) -> _Codes:
    """The methods of a class that `dataclass` may have written, by their codes."""
    own = vars(cls)
    if "__dataclass_params__" not in own:
        return {}
    return {
        name: codes
        for name in sorted(_WRITTEN & own.keys())
        if (codes := _codes_of(own[name])) and codes[-1].co_filename == "<string>"
    }


def written(cls: type, codes: _Codes) -> list[str]:
    """Those of the candidates that `dataclass` has written."""
    try:
        twin = vars(_twin(cls, codes))
    except Exception:  # fields of the user's making: they go as they are
        return []
    found = []
    for name, own in codes.items():
        others = _codes_of(twin.get(name))
        if len(own) == len(others) and all(map(same_code, own, others)):
            found.append(name)
    return found


def write(cls: type, names: Iterable[str]) -> None:
    """Give a class these methods as this Python's `dataclass` writes them.

    Raises:
        Exception: whatever `dataclass` has against the fields.
    """
    twin = _twin(cls, names)
    for name in names:
        method = vars(twin)[name]
        given = inspect.unwrap(vars(cls)[name])
        for part in (method, inspect.unwrap(method)):
            for cell in part.__closure__ or ():
                if cell.cell_contents is twin:
                    cell.cell_contents = cls
            for attribute in ("__qualname__", "__module__", "__doc__", "__annotations__"):
                setattr(part, attribute, getattr(given, attribute))
        type.__setattr__(cls, name, method)


def complete_enum(cls: Any) -> None:
    """Give an Enum what this Python's machinery keeps in classes and members, and it lacks."""
    if not cls._member_map_:
        return
    base = next(parent for parent in cls.__mro__ if parent.__module__ == "enum")
    values = {name: member._value_ for name, member in cls._member_map_.items()}
    mixin = cls._member_type_
    kind = None if mixin is object or issubclass(base, mixin) else mixin
    twin: Any = base(cls.__name__, values, type=kind)
    pairs = [(cls, twin), *((cls._member_map_[name], twin[name]) for name in values)]
    for given, complete in pairs:
        for name, value in vars(complete).items():
            if _is_machinery(name) and name not in vars(given):
                (type if given is cls else object).__setattr__(given, name, value)


def _is_machinery(name: str) -> bool:
    return name[:1] == "_" == name[-1:] and name[:2] != "__"


def is_enum(cls: type) -> bool:
    """Whether a class is an Enum."""
    return isinstance(cls, enum.EnumMeta)


def _codes_of(method: Any) -> list[types.CodeType]:
    codes = []
    while isinstance(method, types.FunctionType):
        codes.append(method.__code__)
        method = vars(method).get("__wrapped__")
    return codes


def _twin(cls: Any, names: Iterable[str]) -> type:
    params = cls.__dataclass_params__
    annotations: dict[str, Any] = {}
    namespace: dict[str, Any] = {"__module__": "builtins", "__annotations__": annotations}
    if hasattr(cls, "__post_init__"):
        namespace["__post_init__"] = None  # `__init__` calls it where there is one
    for field in cls.__dataclass_fields__.values():
        kind = field._field_type.name
        if kind == "_FIELD_CLASSVAR":
            continue
        annotations[field.name] = (
            dataclasses.InitVar[object] if kind == "_FIELD_INITVAR" else object
        )
        namespace[field.name] = dataclasses.field(
            default=field.default,
            default_factory=field.default_factory,
            init=field.init,
            repr=field.repr,
            hash=field.hash,
            compare=field.compare,
            kw_only=field.kw_only,
        )
    return dataclasses.dataclass(
        init=params.init,
        repr=params.repr,
        eq=params.eq,
        order=params.order,
        unsafe_hash=params.unsafe_hash or "__hash__" in names,
        frozen=params.frozen,
    )(type(cls.__name__, (), namespace))

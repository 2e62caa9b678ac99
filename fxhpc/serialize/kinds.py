"""How the rest is taken apart: neither functions nor classes, and pickle has no way for it."""

from __future__ import annotations

import dataclasses
import functools
import marshal
import sys
import types
import typing
import weakref
from typing import Any

from fxhpc.serialize import build, by_source, references
from fxhpc.serialize.run import Reduced, Run

_EXCEPTION_REDUCERS = (BaseException.__reduce__, OSError.__reduce__)


def _method(run: Run, method: types.MethodType) -> Reduced:
    owner, fn = method.__self__, method.__func__
    if run.inline:  # the class may have no methods yet when it is asked
        return types.MethodType, (fn, owner)
    if getattr(owner, getattr(fn, "__name__", ""), None) == method:
        return NotImplemented
    return types.MethodType, (fn, owner)


def reduce_exception(exc: BaseException, kind: type[BaseException]) -> Reduced:
    """Without its constructor: one of the user's mostly takes other arguments than `args` has."""
    if kind.__reduce__ not in _EXCEPTION_REDUCERS or kind.__reduce_ex__ is not object.__reduce_ex__:
        return NotImplemented
    reduced: Any = exc.__reduce__()
    state = reduced[2] if len(reduced) > 2 else None
    return build.exception, (kind, reduced[1], state or {})


def _cell(run: Run, cell: types.CellType) -> Reduced:
    if id(cell) in run.cells:  # its function brings the content, once it can be referred to
        return types.CellType, ()
    return types.CellType, (), cell.cell_contents, None, None, build.set_cell


def _code(run: Run, code: types.CodeType) -> Reduced:
    version, packed = build.python_version(), marshal.dumps(code)
    if id(code) in run.written:
        return build.code_of_dataclass, (version, packed, code.co_freevars)
    source = by_source.text_of(code)
    if source is None:
        return build.code, (version, packed)
    return build.code, (version, packed, (*source,))


def _slots(_: Run, obj: Any) -> Reduced:
    """Of dataclasses: versions of Python differ in the slots that these have."""
    names = type(obj).__slots__
    return build.slots, (type(obj), {name: getattr(obj, name) for name in names})


def _module(run: Run, module: types.ModuleType) -> Reduced:
    name = module.__name__
    if name == "__main__" or references.is_importable_module(module, name):
        run.note(name)
        return build.module, (name,)
    state = {key: value for key, value in vars(module).items() if not _is_machinery(key)}
    return build.dynamic_module, (name,), state, None, None, build.set_module


def _is_machinery(name: str) -> bool:
    return name in ("__builtins__", "__loader__", "__spec__", "__cached__")


def _lru_cache(run: Run, wrapper: Any) -> Reduced:
    if run.by_name(wrapper):
        return NotImplemented
    parameters = wrapper.cache_parameters()
    args = (wrapper.__wrapped__, parameters["maxsize"], parameters["typed"])
    return build.lru_cache, args


def _typing_variable(run: Run, variable: Any) -> Reduced:
    module = sys.modules.get(variable.__module__)
    if (
        module is not None
        and getattr(module, variable.__name__, None) is variable
        and references.is_importable_module(module, module.__name__)
    ):
        run.note(module.__name__)
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


@dataclasses.dataclass
class _Sample:
    """Has what only the module `dataclasses` has names for."""


REDUCERS: dict[type, Any] = {
    types.MethodType: _method,
    types.CellType: _cell,
    types.CodeType: _code,
    type(vars(_Sample)["__dataclass_params__"]): _slots,
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
    REDUCERS[typing.TypeAliasType] = _typing_variable

"""Find the part of an object that cannot be packed, and the way to it in the user's words."""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import partial
from typing import Any

from fxhpc.serialize import pickler, references

#: How far to look, and at how many parts: an error must not take longer than the work.
_DEPTH = 12
_PARTS = 2000


def find_culprit(obj: Any) -> tuple[list[str], Any]:
    """The names on the way to the innermost part that cannot be packed, and that part."""
    path: list[str] = []
    seen = {id(obj)}
    budget = _PARTS
    while len(path) < _DEPTH:
        for name, part in _parts(obj):
            budget -= 1
            if budget < 0:
                return path, obj
            if id(part) in seen or _packs(part):
                continue
            seen.add(id(part))
            path.append(name)
            obj = part
            break
        else:
            return path, obj
    return path, obj


def _packs(obj: Any) -> bool:
    try:
        pickler.dumps(obj)
    except Exception:
        return False
    return True


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """What an object is made of, as packing goes through it."""
    if isinstance(obj, types.FunctionType):
        if references.is_importable_object(obj):
            return
        yield from _parts_of_function(obj)
    elif isinstance(obj, types.MethodType):
        yield "the object that the method belongs to", obj.__self__
        yield f"method {obj.__func__.__name__}", obj.__func__
    elif isinstance(obj, partial):
        yield "the function of the partial", obj.func
        yield from _parts((obj.args, obj.keywords))
    elif isinstance(obj, type):
        if references.is_importable_object(obj):
            return
        if type(obj).__module__ == "_ctypes":
            return  # the type as a whole is what cannot be sent
        for base in obj.__bases__:
            yield f"base class {base.__name__}", base
        for name, value in list(vars(obj).items()):
            if isinstance(value, (classmethod, staticmethod)):
                value = value.__func__
            if not isinstance(value, (types.GetSetDescriptorType, types.MemberDescriptorType)):
                yield f"attribute {name!r} of class {obj.__name__}", value
    elif isinstance(obj, dict):
        for key, value in list(obj.items()):
            yield "a key", key
            yield f"[{key!r:.60}]", value
    elif isinstance(obj, (list, tuple)):
        for position, value in enumerate(obj):
            yield f"[{position}]", value
    elif isinstance(obj, (set, frozenset)):
        for value in obj:
            yield "a member", value
    else:
        yield f"class {type(obj).__name__}", type(obj)
        state = getattr(obj, "__dict__", None)
        if isinstance(state, dict):
            for name, value in list(state.items()):
                yield f"attribute {name!r} of a {type(obj).__name__}", value


def _parts_of_function(fn: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name in references.global_names(fn.__code__):
        if name in fn.__globals__:
            yield f"global {name!r} of {fn.__name__}", fn.__globals__[name]
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            yield f"variable {name!r} around {fn.__name__}", cell.cell_contents
        except ValueError:
            continue  # an empty cell
    for value in fn.__defaults__ or ():
        yield f"a default of {fn.__name__}", value
    for name, value in (fn.__kwdefaults__ or {}).items():
        yield f"the default of {name!r} of {fn.__name__}", value
    for name, value in vars(fn).items():
        yield f"attribute {name!r} of function {fn.__name__}", value

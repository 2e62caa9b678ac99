"""What a function refers to, and what of it a worker can import by name."""

from __future__ import annotations

import dis
import importlib
import os
import sys
import sysconfig
import types
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

_GLOBAL_OPS = frozenset(
    {
        "LOAD_GLOBAL",
        "STORE_GLOBAL",
        "DELETE_GLOBAL",
        "LOAD_NAME",
        "LOAD_FROM_DICT_OR_GLOBALS",
    }
)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


@lru_cache(maxsize=4096)
def global_names(code: types.CodeType) -> tuple[str, ...]:
    """The globals that a function's code names, its nested functions included."""
    names: dict[str, None] = {}
    for part in _nested(code):
        for instruction in dis.get_instructions(part):
            if instruction.opname in _GLOBAL_OPS:
                names[instruction.argval] = None
    return tuple(names)


@lru_cache(maxsize=4096)
def imported_names(code: types.CodeType) -> tuple[str, ...]:
    """The modules that a function's code imports itself."""
    return tuple(
        instruction.argval
        for part in _nested(code)
        for instruction in dis.get_instructions(part)
        if instruction.opname == "IMPORT_NAME" and instruction.argval
    )


@lru_cache(maxsize=4096)
def all_names(code: types.CodeType) -> frozenset[str]:
    """Every name in a function's code, attributes included."""
    return frozenset(name for part in _nested(code) for name in part.co_names)


def submodules_used(package: types.ModuleType, code: types.CodeType) -> list[str]:
    """Submodules of a package that a function reaches as attributes: `xml.etree` of `xml`."""
    if not hasattr(package, "__path__"):
        return []
    prefix = f"{package.__name__}."
    names = all_names(code)
    return [
        name
        for name in list(sys.modules)
        if name.startswith(prefix) and names.issuperset(name[len(prefix) :].split("."))
    ]


def is_importable_object(obj: Any) -> str | None:
    """The module by which a worker can import this function or class; None if it cannot.

    It must be what its module has under its name: not an earlier version, not what a decorator
    has replaced.
    """
    name = getattr(obj, "__module__", None)
    if not isinstance(name, str):
        return None
    found: Any = sys.modules.get(name)
    if found is None or not is_importable_module(found, name):
        return None
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return name if found is obj else None


#: By name: the module, and whether it can be imported.
_importable: dict[str, tuple[types.ModuleType, bool]] = {}


def is_importable_module(module: types.ModuleType, name: str) -> bool:
    """Whether a worker that has the same files and sys.path gets this module by its name."""
    known = _importable.get(name)
    if known is not None and known[0] is module:
        return known[1]
    importable = _judge(module, name)
    _importable[name] = (module, importable)
    return importable


def _judge(module: types.ModuleType, name: str) -> bool:
    if name == "__main__" or sys.modules.get(name) is not module:
        return False
    spec = getattr(module, "__spec__", None)
    if spec is None:
        # The interpreter's own are made without; so are those that a program makes in memory.
        return name in sys.builtin_module_names
    if not is_user_file(getattr(module, "__file__", None)):
        return True
    found = find_file(name)
    return found is not None and os.path.realpath(found[0]) == os.path.realpath(
        str(module.__file__)
    )


def find_file(name: str) -> tuple[str, bool] | None:
    """The source file of a user module, and whether it is a package; nothing is imported.

    None if the normal finders do not find it, or not as a source file.
    """
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        above = sys.modules.get(parent)
        if above is not None:
            path = getattr(above, "__path__", None)
        else:
            found = find_file(parent)
            path = [os.path.dirname(found[0])] if found else None
        if path is None:
            return None
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:
            continue  # somebody's finder that cannot answer: the next may
        if spec is not None:
            if not spec.has_location or not spec.origin or not spec.origin.endswith(".py"):
                return None
            return os.path.abspath(spec.origin), spec.submodule_search_locations is not None
    return None


def _library_directories() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    found.add(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # fxhpc itself
    found |= {os.path.realpath(path) for path in found}
    return tuple(path + os.sep for path in found)


_LIBRARIES = _library_directories()


@lru_cache(maxsize=16384)
def is_user_file(path: str | None) -> bool:
    """Whether a file is the source of a module that its user may edit: outside site-packages."""
    if not isinstance(path, str) or not path.endswith(".py"):
        return False
    path = os.path.abspath(path)
    if path.startswith(_LIBRARIES):
        return False
    parts = path.split(os.sep)
    return "site-packages" not in parts and "dist-packages" not in parts


def user_module_of(name: str) -> str | None:
    """The file of a loaded module, if it is a user module."""
    module = sys.modules.get(name)
    path = getattr(module, "__file__", None)
    return path if name != "__main__" and is_user_file(path) else None


def refresh_finders() -> None:
    """Notice modules that have been written since finders last looked."""
    importlib.invalidate_caches()
    _importable.clear()

"""The globals that all functions of one Executor share in a worker, if it has an initializer.

What an initializer is for is to leave something behind, mostly in a global of the script that has
it and the tasks' functions. Functions that go by value have globals of their own (see
`docs/decisions/0010-dynamic-classes.md`), but not those of one *token*: they share them, as they do
in the script.
"""

from __future__ import annotations

import types
from typing import Any

#: By token, and by name and number of the script's own: globals of functions that go by value.
_spaces: dict[tuple[bytes, str, int], dict[str, Any]] = {}

#: By the identity of one of these: the values that functions have brought along.
_brought: dict[int, dict[str, Any]] = {}

#: What cannot have been changed in place by what ran here.
_FROZEN = (
    *(int, float, complex, bool, str, bytes, type(None), range),
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
)


def space(token: bytes, number: int, given: dict[str, str]) -> dict[str, Any]:
    """The globals that functions of one token share; named in packed bytes.

    Args:
        number: tells several such apart that one Executor's functions have.
        given: what a function finds there in any case: `__name__`.
    """
    key = token, given.get("__name__", ""), number
    found = _spaces.get(key)
    if found is None:
        found = _spaces[key] = dict(given)
        _brought[id(found)] = {}
    return found


def forget(token: bytes | None = None) -> None:
    """Functions of a token, or of all, that are loaded from now on share nothing with those that
    were loaded before."""
    for key in [key for key in _spaces if token in (None, key[0])]:
        del _brought[id(_spaces.pop(key))]


def fill(names: dict[str, Any], values: dict[str, Any]) -> None:
    """Put into globals what a function has brought along.

    In those of a token, what was assigned or changed here stays, as it does in a pool of processes:
    only a function, a class or a plain value that another function has brought is replaced, so that
    what was defined anew in the script is not run in its old version.
    """
    brought = _brought.get(id(names)) if _brought else None
    if brought is None:
        names.update(values)
        return
    for name, value in values.items():
        if name in names:
            here = names[name]
            if here is not brought.get(name, _brought) or not isinstance(here, _FROZEN):
                continue
        names[name] = brought[name] = value

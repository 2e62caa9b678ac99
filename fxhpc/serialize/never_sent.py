"""Functions whose calls give what no other process can have: coroutines and generators."""

from __future__ import annotations

import inspect
import types
from functools import partial
from typing import Any

from fxhpc.errors import RegistrationError

_ASYNC = "runs in a loop of asyncio, of which a worker has none"
_LAZY = "has run nothing yet, and can be continued only in the process that made it"

#: By the flag that their code has: what they are, what a call of them gives and why that is no
#: result, and what to do.
_KINDS = (
    (
        inspect.CO_COROUTINE,
        "a coroutine function (async def)",
        f"a coroutine, which {_ASYNC}",
        "Send a function that runs it: def task(*args): return asyncio.run({name}(*args))",
    ),
    (
        inspect.CO_ASYNC_GENERATOR,
        "an asynchronous generator function (async def with yield)",
        f"an asynchronous generator, which {_ASYNC}",
        "Send a function that runs it by asyncio.run, and returns what it gives as a list",
    ),
    (
        inspect.CO_GENERATOR,
        "a generator function (it has a yield)",
        f"a generator, which {_LAZY}",
        "Return a list, or send a function that does: def task(*args): return list({name}(*args))",
    ),
)

#: What a function may return that is none of these itself.
_HINTS: dict[type, str] = {
    types.CoroutineType: (
        f"a coroutine {_ASYNC}. Return what it gives: asyncio.run(...) in the function"
    ),
    types.AsyncGeneratorType: (
        f"an asynchronous generator {_ASYNC}. Go through it there by asyncio.run(...), and return "
        f"a list"
    ),
    types.GeneratorType: f"a generator {_LAZY}. Return a list: list(...)",
}


def check(fn: Any, name: str, role: str = "") -> None:
    """Refuse a function none of whose calls could ever give a result.

    Args:
        role: what it is wanted for, if that is not to be a task: a word and a space.

    Raises:
        RegistrationError: what a call of it gives cannot be sent.
    """
    while isinstance(fn, partial):
        fn = fn.func
    if not isinstance(fn, types.FunctionType | types.MethodType | types.BuiltinFunctionType):
        fn = type(fn).__call__
    code = getattr(fn, "__code__", None)
    flags = code.co_flags if isinstance(code, types.CodeType) else 0
    for flag, what, given, instead in _KINDS:
        if flags & flag:
            raise RegistrationError(
                f"{role}{name} is {what}: a call of it gives {given}. {instead.format(name=name)}"
            )


def hint(result: Any) -> str:
    """Why this cannot be sent, if it is one of these, and what to do; else nothing."""
    return _HINTS.get(type(result), "")

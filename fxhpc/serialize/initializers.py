"""What an Executor has run once in each worker before its tasks: packed, run, and how it ended.

An initializer is packed once, with its arguments, and goes along in the body of each function of
its Executor, under a random name, the *token*. A worker runs it when it loads the first of these.
Globals that it assigns are those of the functions: see `spaces`.
"""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from fxhpc.errors import InitializerFailed, RemoteTraceback
from fxhpc.serialize import never_sent, spaces
from fxhpc.serialize.pack import pack
from fxhpc.serialize.tracebacks import message, traceback_text, type_name


class Initializer(NamedTuple):
    """An initializer, packed. In the body of a function it is a plain tuple of these."""

    token: bytes  # which Executor's
    name: str
    call: bytes  # the pair (function, arguments)
    modules: frozenset[str]  # of the user's, that it refers to by name; not in a body


def pack_initializer(initializer: Callable[..., object], arguments: tuple[Any, ...]) -> Initializer:
    """An initializer and what it is called with, as they are now.

    Raises:
        SerializationError: a part of them cannot be sent; the text names it.
        RegistrationError: its call would do nothing: it is a coroutine function or a generator.
    """
    token = os.urandom(16)
    inner = getattr(initializer, "func", initializer)  # of a partial
    name = str(getattr(inner, "__name__", type(inner).__name__))
    never_sent.check(initializer, name, "initializer ")
    call, modules = pack((initializer, arguments), f"initializer {name}", token)
    return Initializer(token, name, call, frozenset(modules))


#: Initializers of which a worker keeps what they have left behind.
KEPT = 4


# --- the worker's side ------------------------------------------------------------------------


class Initialized:
    """The initializers that this process has run, each once, and how they ended.

    Nobody says here that an Executor has ended. What the last few have left behind is kept; one
    that comes again after as many others have been used runs anew.

    Args:
        forget: told of a token whose functions are to be forgotten.
    """

    def __init__(self, forget: Callable[[bytes], None]) -> None:
        self._forget = forget
        self._failures: OrderedDict[bytes, _Failure | None] = OrderedDict()

    def used(self, token: bytes) -> None:
        """A function of this token is about to be called."""
        self._failures.move_to_end(token)

    def run(
        self,
        token: bytes,
        name: str,
        call: bytes,
        around: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        """Run an initializer, unless it has run.

        Args:
            around: made and entered while it runs.

        Raises:
            InitializerFailed: it raised something, now or before.
        """
        if token not in self._failures:
            try:
                with around():
                    function, arguments = pickle.loads(call)
                    function(*arguments)
            except BaseException as error:  # SystemExit too: the worker lives on, and tells
                self._failures[token] = _Failure(name, error)
            else:
                self._failures[token] = None
            for one in list(self._failures)[:-KEPT]:
                del self._failures[one]
                spaces.forget(one)
                self._forget(one)
        failure = self._failures[token]
        self.used(token)
        if failure is not None:
            raise failure.error()

    def forget(self) -> None:
        """What they have left behind is gone: they are to be run anew."""
        self._failures.clear()
        spaces.forget()


class _Failure:
    """How one failed, in words: its exception would keep all that its frames refer to."""

    def __init__(self, name: str, error: BaseException) -> None:
        self._name = name
        self._reason = f"{type_name(error)}: {message(error)}"
        self._text = traceback_text(error)

    def error(self) -> InitializerFailed:
        made = InitializerFailed(self._name, self._reason, os.uname().nodename, os.getpid())
        made.__cause__ = RemoteTraceback(self._text)
        return made

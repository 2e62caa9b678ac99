"""The worker's side: bodies to functions, and never an old version of a module."""

from __future__ import annotations

import hashlib
import linecache
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fxhpc import warm
from fxhpc.errors import SerializationError
from fxhpc.serialize import classes
from fxhpc.serialize.bodies import Bodies
from fxhpc.serialize.build import python_version
from fxhpc.serialize.calls import load_arguments
from fxhpc.serialize.data import advice
from fxhpc.serialize.fresh import UserModules
from fxhpc.serialize.functions import FORMAT, Body
from fxhpc.serialize.initializers import Initialized
from fxhpc.serialize.sources import Source

#: Bytes of bodies that are kept; older ones are asked for again.
_KEPT_BYTES = 256 * 1024 * 1024


class Loader:
    """Functions and arguments, for one worker process. Not for several threads.

    Making one changes how this process imports user modules; `close` undoes that.

    Attributes:
        bodies: large arguments that tasks share; who has the loader puts them there.
        initializing: makes what is entered while an initializer runs.
    """

    initializing: Callable[[], AbstractContextManager[Any]] = staticmethod(nullcontext)

    def __init__(self) -> None:
        self.bodies = Bodies()
        self._functions: dict[bytes, Callable[..., Any]] = {}
        self._initialized = Initialized(self._forget)
        self._tokens: dict[bytes, bytes] = {}  # of functions that have an initializer
        self._bodies: OrderedDict[bytes, bytes | memoryview] = OrderedDict()
        self._size = 0
        self._modules = UserModules()
        self._modules.install()
        classes.never_adopt()

    def load_arguments(self, data: bytes | memoryview) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, made anew each time: what a task does to them is its own.

        Raises:
            SerializationError: they cannot be made here, or `bodies` lacks one.
        """
        return load_arguments(data, self.bodies)

    def has(self, digest: bytes) -> bool:
        """Whether `load_function` needs no body for this digest."""
        return digest in self._bodies

    def load_function(
        self, digest: bytes, body: bytes | memoryview | None = None
    ) -> Callable[..., Any]:
        """The function of a digest; its body is needed the first time, and then kept.

        If its Executor has an initializer, that has run.

        Raises:
            InitializerFailed: it has failed, now or before.
            KeyError: no body was given, and none is kept.
            SerializationError: the body is not what the digest says, or cannot be loaded here.
        """
        function = self._functions.get(digest)
        if function is not None:
            if self._tokens and (token := self._tokens.get(digest)) is not None:
                self._initialized.used(token)
            return function
        if body is None:
            body = self._bodies[digest]
        else:
            self._keep(digest, body)
        function, initializer = self._load(body)
        if initializer is not None:
            self._initialized.run(*initializer, self.initializing)
            self._tokens[digest] = initializer[0]
        self._functions[digest] = function
        return function

    def _forget(self, token: bytes) -> None:
        """Forget the functions of a token."""
        for digest in [one for one, of in self._tokens.items() if of == token]:
            del self._tokens[digest]
            self._functions.pop(digest, None)

    def _keep(self, digest: bytes, body: bytes | memoryview) -> None:
        actual = hashlib.sha256(body).digest()
        if actual != digest:
            raise SerializationError(
                f"unpacking of a function: its bytes were changed on the way (SHA-256 "
                f"{actual.hex()[:16]}..., expected {digest.hex()[:16]}...). Register it again"
            )
        if digest not in self._bodies:
            self._size += len(body)
        self._bodies[digest] = body
        while self._size > _KEPT_BYTES and len(self._bodies) > 1:
            oldest, dropped = self._bodies.popitem(last=False)
            self._size -= len(dropped)
            self._functions.pop(oldest, None)
            self._tokens.pop(oldest, None)

    def _load(
        self, data: bytes | memoryview
    ) -> tuple[Callable[..., Any], tuple[bytes, str, bytes] | None]:
        """A function, and what is to be run before it is called."""
        name = "a function"
        try:
            fields = pickle.loads(data)
            if fields[0] > FORMAT:
                raise SerializationError(
                    f"unpacking of a function: format {fields[0]} is newer than this worker's "
                    f"fxhpc knows ({FORMAT}). Use the same version on both sides"
                )
            body = Body(*fields[: len(Body._fields)])
            name = f"function {body.name}"
            if self._modules.add([Source(*source) for source in body.sources]):
                self._drop()
            _show(*body.shown)
            function: Callable[..., Any] = pickle.loads(body.function)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(
                f"unpacking of {name} on the worker (Python {python_version()}): "
                f"{type(error).__name__}: {error}{advice(error)}"
            ) from error
        return function, body.initializer

    def refresh(self) -> bool:
        """Drop all user modules and functions if the file of one has changed.

        To be called before each message of work: one stat per file. True if they were dropped;
        functions are then loaded again from the bodies that are kept.
        """
        if not self._modules.have_changed():
            return False
        self._drop()
        return True

    def _drop(self) -> None:
        self._modules.drop()
        self._functions.clear()
        classes.forget_built()
        # Both may have been made by what was in these modules, or lie in them.
        self._initialized.forget()
        self._tokens.clear()
        warm.forget_all()

    def close(self) -> None:
        """Leave this process's imports as they were."""
        self._modules.uninstall()


def _show(file: str, first: int, text: str) -> None:
    """Let tracebacks show the lines of a function whose file is not here: a notebook's cell."""
    if not text or not file or os.path.exists(file):
        return
    lines = [*["\n"] * (first - 1), *text.splitlines(keepends=True)]
    linecache.cache[file] = (len(text), None, lines, file)

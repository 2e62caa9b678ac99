"""Values that a process makes once and keeps: a model, a table, a connection, across its tasks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class _Making:
    """Somebody makes a value; whoever wants it too waits."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.over = threading.Event()


class _Kept:
    """What this process keeps. A forked child has what its parent kept, and none of its threads."""

    def __init__(self) -> None:
        self.values: dict[Hashable, Any] = {}
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._making: dict[Hashable, _Making] = {}

    def value(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, made if there is none."""
        while True:
            with self._lock:
                if key in self.values:
                    return self.values[key]
                making = self._making.get(key)
                if making is None:
                    mine = self._making[key] = _Making()
                    break
            if making.thread == threading.get_ident():
                raise RuntimeError(
                    f"fxhpc.keep({key!r}): what makes this value asks for it itself. Give it what "
                    f"it needs in another way, or under another key."
                )
            making.over.wait()  # and look again: it may have failed, and is then made here
        try:
            made = make()
            with self._lock:
                if self._making.get(key) is mine:  # else it was to be forgotten meanwhile
                    self.values[key] = made
            return made
        finally:
            with self._lock:
                if self._making.get(key) is mine:
                    del self._making[key]
            mine.over.set()

    def forget(self, key: Hashable) -> bool:
        """Keep this one no longer; whether it was kept."""
        with self._lock:
            self._making.pop(key, None)
            return self.values.pop(key, self) is not self

    def forget_all(self) -> None:
        """Keep none of them any longer."""
        with self._lock:
            self._making.clear()
            self.values.clear()


_kept = _Kept()


def keep(key: Hashable, make: Callable[[], T]) -> T:
    """The value that this process keeps under a key: `make()` at the first call, then the same.

    In a task it is a value of its worker, which later tasks there find, whoever submitted them::

        def predict(x):
            model = fxhpc.keep("model", load_model)
            return model(x)

    It is there until `forget`, until the worker ends, or until a file of a module of yours that the
    worker has imported is edited: what it was made by may be another then. A new version of `make`
    alone does not make it anew: put the version, or all that `make` depends on, into the key, as in
    `("model", path)`. How much memory is kept is up to you. Outside of a worker it is kept by the
    calling process. Two threads that ask at once make it once; if `make` raises, nothing is kept.

    Raises:
        TypeError: the key is not hashable, or `make` not callable.
        RuntimeError: `make` asks for the value that it makes.
        Exception: what `make` raises.
    """
    if not callable(make):
        raise TypeError(
            f"fxhpc.keep({key!r}, ...): the second argument makes the value when it is needed, and "
            f"is a function without arguments, not {type(make).__name__}; for example: "
            f"fxhpc.keep('table', lambda: read_table(path))"
        )
    value: T = _kept.value(key, make)
    return value


def forget(key: Hashable) -> bool:
    """Keep a value no longer: the next `keep` of its key makes another. Whether there was one."""
    return _kept.forget(key)


def forget_all() -> None:
    """Keep no value any longer."""
    _kept.forget_all()

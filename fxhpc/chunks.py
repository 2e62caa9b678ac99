"""Chunks of `Executor.map`: many calls in one task, each of which ends on its own."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

#: Values that any pickle carries and that cannot fail to be made again: these travel together.
_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
_are_plain = _PLAIN.issuperset


class Chunk:
    """How the calls of a chunk ended. Nothing of it is unpacked before it is asked for.

    Args:
        size: how many calls there were.
        whole: the values of all calls, packed as one list; b"" if they are in `each`.
        each: packed values by the place of their call.
        failures: packed exceptions by place; in `whole`, None stands there.
    """

    __slots__ = ("_values", "each", "failures", "size", "whole")

    def __init__(
        self, size: int, whole: bytes, each: dict[int, bytes], failures: dict[int, bytes]
    ) -> None:
        self.size = size
        self.whole = whole
        self.each = each
        self.failures = failures
        self._values: list[Any] | None = None  # `whole` unpacked, if single ones are asked for

    def __reduce__(self) -> tuple[Any, ...]:
        return Chunk, (self.size, self.whole, self.each, self.failures)

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"<Chunk of {self.size} calls, {len(self.failures)} of which failed>"

    def value(self, place: int) -> Any:
        """The value of the call at this place.

        Raises:
            Exception: what the call raised, or why its value cannot be made here.
        """
        from fxhpc.serialize import unpack_exception, unpack_result

        failure = self.failures.get(place)
        if failure is not None:
            unpack_exception(failure).reraise()
        if self.whole:
            if self._values is None:
                self._values = unpack_result(self.whole)
            return self._values[place]
        return unpack_result(self.each[place])

    def values(self) -> list[Any] | None:
        """All values, if they can be had at once; None: ask for each by `value`."""
        from fxhpc.serialize import unpack_result

        if self.failures or not self.whole:
            return None
        values: list[Any] = unpack_result(self.whole)
        return values


def run_chunk(function: Callable[..., Any], limit: int, *rows: tuple[Any, ...]) -> Chunk:
    """Call the function for each row of arguments; what one raises is its own.

    Args:
        limit: bytes that one value, or exception, may take.
    """
    from fxhpc.serialize import pack_exception

    values: list[Any] = []
    failures: dict[int, bytes] = {}
    rest = iter(rows)
    forks = _forks
    while True:
        try:
            for row in rest:
                values.append(function(*row))
                if _forks != forks:
                    os._exit(0)  # a child that this call forked: it must not make the others
            return _packed(values, failures, limit)
        except BaseException as error:  # SystemExit too, as for a task of its own
            if _forks != forks:
                os._exit(0)
            failures[len(values)] = pack_exception(error, limit)
            values.append(None)


_forks = 0


def _note_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_note_fork)


def _packed(values: list[Any], failures: dict[int, bytes], limit: int) -> Chunk:
    from fxhpc.serialize import pack_exception, pack_result

    size = len(values)
    if _are_plain(map(type, values)):
        whole = pickle.dumps(values, 5)
        if len(whole) <= limit:
            return Chunk(size, whole, {}, failures)
    # One that cannot be packed, or cannot be made again by whoever reads it, harms no other.
    each: dict[int, bytes] = {}
    for place, value in enumerate(values):
        if place not in failures:
            try:
                each[place] = pack_result(value, limit)
            except BaseException as error:
                failures[place] = pack_exception(error, limit)
    return Chunk(size, b"", each, failures)

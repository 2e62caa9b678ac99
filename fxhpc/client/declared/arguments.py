"""What users give beside their own arguments: checked where it is given, in words."""

from __future__ import annotations

import concurrent.futures as cf
import math
import operator
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

from fxhpc import errors

#: As many workers as one node can have, also by an endpoint's configuration.
MOST_WORKERS = 4096

#: What messages hold of numbers.
_MOST = 2**63 - 1


def whole(name: str, given: Any, least: int, unit: str, most: int = _MOST) -> int:
    """A number of something, also of NumPy's integers; True and False are none.

    Raises:
        UsageError: it is no whole number, or out of bounds; the text begins with `name=given`.
    """
    try:
        number = None if isinstance(given, bool) else operator.index(given)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        is_told = most <= MOST_WORKERS or (number is not None and number > most)
        bound = f"{least} to {most:,}" if is_told else f"{least} or more"
        raise _refused(name, given, f"it is a whole number of {unit}, {bound}")
    return number


def workers(name: str, given: Any) -> int | None:
    """A number of workers; None is not given.

    Raises:
        UsageError: it is none.
    """
    if given is None:
        return None
    return whole(name, given, 1, "workers (processes)", MOST_WORKERS)


def retries(given: Any, name: str = "retries") -> int:
    """How often a lost task is run again.

    Raises:
        UsageError: it is no such number.
    """
    return whole(name, given, 0, "further attempts at lost tasks", 2**31 - 1)


def payload_limit(given: Any, name: str = "max_payload") -> int:
    """How many bytes a task's arguments, and its result, may take.

    Raises:
        UsageError: it is no such number.
    """
    return whole(name, given, 1, "bytes")


def spills(given: Any, name: str = "on_exceed") -> bool:
    """Whether what is larger than the limit goes to a file, and is no error.

    Raises:
        UsageError: it is neither "error" nor "spill".
    """
    if given not in ("error", "spill"):
        raise _refused(name, given, "it is 'error' or 'spill': what is done with what is too large")
    return bool(given == "spill")


def seconds(name: str, given: Any, least: float = 0.0, unit: str = "seconds") -> float:
    """A number of seconds, or of another unit; infinitely many are "as long as it takes".

    Raises:
        UsageError: it is no number, or less than the least.
    """
    number = math.nan
    if isinstance(given, Real) and not isinstance(given, bool):
        try:
            number = float(given)
        except OverflowError:  # an integer beyond all floats
            number = math.inf if operator.gt(given, 0) else -math.inf
    if not number >= least:  # so neither is what is no number
        bound = "" if least == -math.inf else f", {least:g} or more"
        raise _refused(name, given, f"it is a number of {unit}{bound}")
    return number


def timeout(given: Any, name: str = "timeout") -> float | None:
    """Seconds from now; None waits as long as it takes. What is negative is over already, as for
    `concurrent.futures`: people give what is left until a deadline.

    Raises:
        UsageError: it is neither None nor a number.
    """
    return None if given is None else seconds(name, given, -math.inf)


def text(name: str, given: Any, what: str) -> str:
    """A text that may be left out: "" then.

    Raises:
        UsageError: it is something else.
    """
    if given is None:
        return ""
    if not isinstance(given, str):
        raise _refused(name, given, f"it is a text, {what}")
    return given


def path(name: str, given: Any, what: str) -> str:
    """A path.

    Raises:
        UsageError: it is none, or one of bytes.
    """
    try:
        found = os.fspath(given)
    except TypeError:
        found = None
    if not isinstance(found, str):
        raise _refused(name, given, f"it is a path, {what}")
    return found


def config(given: Any) -> None:
    """Make sure that `config=` is a path, or a dictionary.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(given, str | os.PathLike | Mapping):
        words = "it is the path of an endpoint's YAML file, or a dictionary of the same words"
        raise _refused("config", given, words)


def initializer(given: Any, with_what: Any) -> tuple[Callable[..., object], tuple[Any, ...]]:
    """An initializer, and what it is called with.

    Raises:
        UsageError: it cannot be called so.
    """
    if not callable(given):
        raise _refused("initializer", given, "it is a function")
    if isinstance(with_what, str | bytes) or not isinstance(with_what, Iterable):
        raise _refused(
            "initargs", with_what, "it is a tuple of the initializer's arguments, as (7,)"
        )
    return given, tuple(with_what)


def futures(given: Any, call: str) -> list[cf.Future[Any]]:
    """Futures as a list.

    Raises:
        UsageError: they are none; the text begins with the name of the call.
    """
    if not isinstance(given, Iterable):
        kind = f"is of type {type(given).__name__}"
        raise errors.UsageError(f"{call}() expects futures, and what it was given {kind}.")
    found = list(given)
    for future in found:
        if not isinstance(future, cf.Future):
            raise errors.UsageError(
                f"{call}() expects futures, as submit returns them, and {reprlib.repr(future)} is "
                f"none. For ids there is FuncXClient.{call}."
            )
    return found


def client(given: Any) -> None:
    """Make sure that `client=` is one.

    Raises:
        UsageError: it is not.
    """
    if not hasattr(given, "get_endpoint_status"):
        raise _refused("client", given, "it is a FuncXClient, whose home is used")


def _refused(name: str, given: Any, words: str) -> errors.UsageError:
    return errors.UsageError(f"{name}={reprlib.repr(given)}: {words}.")

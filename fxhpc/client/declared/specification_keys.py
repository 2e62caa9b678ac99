"""The keys of a resource_specification: what each means, how it may be written, what is wrong."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

from fxhpc.durations import EXAMPLES, parse_duration
from fxhpc.errors import InvalidResourceSpecification
from fxhpc.protocol.needs import UNIT
from fxhpc.protocol.payload import MOST_LABEL, MOST_LABELS
from fxhpc.units import format_bytes, parse_size

#: What can be said, and what it means.
KEYS = {
    "cores": "cores of a node, also parts of one (0.5)",
    "memory": "what it takes at most on a node, as '4GB' or in bytes",
    "gpus": "accelerators of a node, also a part of one (0.25), or 0",
    "nodes": "how many nodes it runs on",
    "ranks": "MPI processes in all",
    "ranks_per_node": "MPI processes on each node",
    "cores_per_rank": "cores of each of these",
    "launcher_options": "a text for srun or mpiexec",
    "walltime": "how long it takes at most, in seconds or as '90m' or '01:30:00'",
    "priority": "a number; less goes first",
    "labels": "texts that its node must have",
    "environment": "variables of its process",
}

#: Other names of these, as Parsl and Globus Compute have them.
ALIASES = {"num_nodes": "nodes", "num_ranks": "ranks"}

#: What people write who mean another key.
_MEANT = {
    "cpu": "cores",
    "cpus": "cores",
    "ncpus": "cores",
    "num_cpus": "cores",
    "threads": "cores",
    "mem": "memory",
    "ram": "memory",
    "gpu": "gpus",
    "accelerators": "gpus",
    "np": "ranks",
    "ntasks": "ranks",
    "num_tasks": "ranks",
    "processes": "ranks",
    "ppn": "ranks_per_node",
    "tasks_per_node": "ranks_per_node",
    "ntasks_per_node": "ranks_per_node",
    "cpus_per_task": "cores_per_rank",
    "threads_per_rank": "cores_per_rank",
    "time": "walltime",
    "timeout": "walltime",
    "time_limit": "walltime",
    "duration": "walltime",
    "running_time_min": "walltime",
    "prio": "priority",
    "tags": "labels",
    "constraint": "labels",
    "features": "labels",
    "env": "environment",
    "variables": "environment",
}

_MOST = 10**6  # cores, accelerators, nodes and ranks
_LEAST_MEMORY = 2**20
_MOST_MEMORY = 2**60
_MOST_PRIORITY = 10**9
_MOST_OPTIONS = 1000  # characters
_VARIABLE = re.compile(r"[^\x00=]{1,200}")


def name_of(key: Any) -> str:
    """A key's own name, if it was written by another; empty if nobody knows it."""
    name = ALIASES.get(key, key) if isinstance(key, str) else ""
    return name if name in KEYS else ""


def read(key: str, given: Any) -> Any:
    """The value of a key, as `fxhpc.protocol.needs.Needs` has it; a walltime in seconds.

    Raises:
        InvalidResourceSpecification: it cannot be meant so.
    """
    return _READ[name_of(key)](key, given)


def wrong(key: str, why: str) -> InvalidResourceSpecification:
    """The error for what was written for a key."""
    return InvalidResourceSpecification(f"resource_specification: {key!r}: {why}.", [key])


def unknown(keys: Iterable[Any], known: str) -> InvalidResourceSpecification:
    """The error for keys that nobody knows; with a sentence that has those that there are."""
    told = []
    for key in keys:
        meant = _meant_by(key) if isinstance(key, str) else ""
        told.append(f"{key!r} (did you mean {meant!r}?)" if meant else repr(key))
    return InvalidResourceSpecification(
        f"resource_specification has {', '.join(told)}, which fxhpc does not know. {known}", keys
    )


def known() -> str:
    """The keys that there are, in a sentence."""
    kept = [f"{key!r}: {what}" for key, what in KEYS.items()]
    return f"It may have {'; '.join(kept)}."


def _meant_by(key: str) -> str:
    import difflib  # seldom needed

    plain = key.lower().replace("-", "_").replace(" ", "_")
    if meant := _MEANT.get(plain):
        return meant
    close = difflib.get_close_matches(plain, [*KEYS, *ALIASES], 1, 0.75)
    return close[0] if close else ""


# --- each key -----------------------------------------------------------------------------------


def _cores(key: str, given: Any) -> int:
    return _thousandths(key, given, "number of cores, such as 4 or 0.5", least=1)


def _gpus(key: str, given: Any) -> int:
    return _thousandths(key, given, "number of accelerators, such as 1, 0.25 or 0", least=0)


def _memory(key: str, given: Any) -> int:
    try:
        size = parse_size(_plain(given))
    except ValueError as error:
        raise wrong(key, str(error)) from None
    if size < _LEAST_MEMORY:
        why = "in which no Python runs; a plain number is bytes: write '4GB' or '500MB'"
        raise wrong(key, f"{given!r} is {format_bytes(size)}, {why}")
    if size > _MOST_MEMORY:
        raise wrong(key, f"{given!r} is more than any node has")
    return size


def _whole(key: str, given: Any) -> int:
    number = _number(given)
    if number is None or number != int(number) or not 1 <= number <= _MOST:
        raise wrong(key, f"{given!r} is no whole number from 1 to {_MOST:,}")
    return int(number)


def _options(key: str, given: Any) -> str:
    if not isinstance(given, str) or not given.isprintable() or len(given) > _MOST_OPTIONS:
        raise wrong(key, f"{given!r} is no line of text, of {_MOST_OPTIONS:,} characters at most")
    return given.strip()


def _walltime(key: str, given: Any) -> float:
    try:
        seconds = parse_duration(_plain(given))
    except (TypeError, ValueError) as error:
        raise wrong(key, str(error)) from None
    if seconds <= 0:
        raise wrong(key, f"{given!r} is no time in which anything runs; {EXAMPLES}")
    return seconds


def _priority(key: str, given: Any) -> int:
    number = _number(given)
    if number is None or abs(number) > _MOST_PRIORITY:
        raise wrong(key, f"{given!r} is no number up to {_MOST_PRIORITY:,}; less goes first")
    return round(number * UNIT)


def _labels(key: str, given: Any) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Iterable) or isinstance(texts, Mapping | bytes):
        raise wrong(key, f"{given!r} is no list of texts, such as ['big', 'host:node7']")
    found = set()
    for text in texts:
        if not isinstance(text, str) or not text.strip() or not text.isprintable():
            raise wrong(key, f"{text!r} is no text, such as 'big' or 'host:node7'")
        if len(text.strip()) > MOST_LABEL:
            raise wrong(key, f"{text!r} is longer than {MOST_LABEL} characters")
        found.add(text.strip())
    if len(found) > MOST_LABELS:
        raise wrong(key, f"these are {len(found)} labels; there may be {MOST_LABELS}")
    return tuple(sorted(found))


def _environment(key: str, given: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, Mapping):
        raise wrong(key, f"{given!r} is no dictionary of variables, such as {{'MODE': 'fast'}}")
    variables: list[tuple[str, str]] = []
    for name, value in given.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise wrong(key, f"{name!r} is no name of a variable")
        if name.startswith("FXHPC_"):
            raise wrong(key, f"{name!r} is a variable of fxhpc's own")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise wrong(key, f"{name!r} is {value!r}, and a variable is a text, such as '1'")
        if "\0" in str(value):
            raise wrong(key, f"{name!r} has a zero character in it, which no variable can have")
        variables.append((name, str(value)))
    return tuple(sorted(variables))


_READ: dict[str, Callable[[str, Any], Any]] = {
    "cores": _cores,
    "memory": _memory,
    "gpus": _gpus,
    "nodes": _whole,
    "ranks": _whole,
    "ranks_per_node": _whole,
    "cores_per_rank": _whole,
    "launcher_options": _options,
    "walltime": _walltime,
    "priority": _priority,
    "labels": _labels,
    "environment": _environment,
}


def _thousandths(key: str, given: Any, what: str, least: int) -> int:
    number = _number(given)
    # A hair more, so that what 0.29 is to a computer makes 290.
    amount = -1 if number is None else math.floor(number * UNIT + 1e-6)
    if amount > _MOST * UNIT:
        raise wrong(key, f"{given!r} is more than any node has")
    if amount == 0 and number:
        raise wrong(key, f"{given!r} is less than a thousandth, the least part that is counted")
    if amount < least:
        raise wrong(key, f"{given!r} is no {what}")
    return amount


def _number(given: Any) -> float | None:
    """The number that was given, also as text and as one of NumPy's; None if it is none."""
    if isinstance(given, bool) or not isinstance(given, Real | str):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _plain(given: Any) -> Any:
    """NumPy's integers are no int; as a size, or a duration, they are meant so."""
    is_whole = hasattr(given, "__index__") and not isinstance(given, bool)
    return operator.index(given) if is_whole else given

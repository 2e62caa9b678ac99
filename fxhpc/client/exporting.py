"""Writes what is known of batches into a directory that any program can read: `fxhpc store export`.

`tasks.jsonl` has a line for each task, `functions.jsonl` one for each function. Results that JSON
knows stand in their task's line; others are pickles in `results/`, as their workers packed them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fxhpc import errors
from fxhpc.client import calls, outcomes
from fxhpc.client.exported import FUNCTIONS, README, RESULTS, TASKS
from fxhpc.client.selection import Selection
from fxhpc.client.shown import listing
from fxhpc.client.task_group import streams_of, task_ids_of
from fxhpc.protocol import states
from fxhpc.protocol.outcome import VALUE
from fxhpc.protocol.service import FunctionRecord, Functions, GetFunctions, GroupStream, TaskState
from fxhpc.serialize import pack_result, spilled, unpack_result

if TYPE_CHECKING:
    from fxhpc.client.tasks import Reader

#: Tasks that are read at a time, and bytes of a result that may stand in a line.
_PIECE, _LINE_BYTES = 1000, 64 * 1024
_STREAMS = 1_000_000


class Exported:
    """What was written.

    Attributes:
        tasks, pending: how many tasks, and how many of these had not ended.
        files: results in files of their own.
    """

    def __init__(self) -> None:
        self.tasks = self.pending = self.files = 0


def export(
    ask: Callable[[Any], Any],
    reader: Reader,
    directory: Path,
    group: str = "",
    endpoint: str = "",
) -> Exported:
    """Write the tasks of a group, of an endpoint, or all, into a new directory.

    Args:
        ask: makes a call of a forwarder, and returns its answer.
        endpoint: its UUID.

    Raises:
        UsageError: there is something in the directory already.
        OSError: it cannot be written; what was written until then stays.
    """
    if group:
        next(streams_of(ask, group), None)  # whether it exists
    found = listing.streams(ask, endpoint, None, _STREAMS, b"", group).streams
    kept = dict.fromkeys(summary.group for summary in found if summary.group and summary.keep)
    groups = reversed(kept)  # the oldest first
    wanted = {summary.stream for summary in found}
    done = Exported()
    try:
        _make(directory)
        _write(ask, reader, groups, wanted, directory, done)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}; this is no whole export: remove {directory}, and name a "
            f"directory that can be written and has more room",
            error.filename or os.fspath(directory),
        ) from error
    return done


def _write(
    ask: Callable[[Any], Any],
    reader: Reader,
    groups: Iterable[str],
    wanted: set[bytes],
    directory: Path,
    done: Exported,
) -> None:
    """Write the streams that are wanted of these groups."""
    functions: dict[str, FunctionRecord] = {}
    with _new(directory / f"{TASKS}.part") as file:
        for name in groups:
            for part in streams_of(ask, name):
                if part.summary.stream in wanted:
                    _learn(ask, part.summary.function_id, functions)
                    for line in _lines(reader, part, functions, directory, done):
                        file.write(json.dumps(line) + "\n")
    with _new(directory / FUNCTIONS) as file:
        for record in functions.values():
            shown = ("function_id", "name", "description", "source", "author", "created")
            file.write(json.dumps({key: getattr(record, key) for key in shown}) + "\n")
    with _new(directory / "README.txt") as file:
        file.write(README)
    os.replace(directory / f"{TASKS}.part", directory / TASKS)  # its name says that all is there


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not directory.is_dir():
            raise errors.UsageError(f"{directory} is no directory: name a new one") from None
        if any(directory.iterdir()):
            raise errors.UsageError(
                f"{directory} is there already, and not empty: name a new directory"
            ) from None
    (directory / RESULTS).mkdir(mode=0o700)


def _new(path: Path) -> IO[str]:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    return os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8")


def _learn(ask: Any, function_id: str, known: dict[str, FunctionRecord]) -> None:
    if function_id and function_id not in known:
        answer: Functions = ask(GetFunctions(0, [function_id]))
        known.update({record.function_id: record for record in answer.records})


def _lines(
    reader: Reader,
    part: GroupStream,
    functions: dict[str, FunctionRecord],
    directory: Path,
    done: Exported,
) -> Iterator[dict[str, Any]]:
    """What is told of each task of a stream."""
    names = {key: record.name for key, record in functions.items()}
    shared = listing.shared_by_tasks(part.summary, names)
    shared.pop("calls", None)  # each call has a line of its own
    every = task_ids_of(part)
    for first in range(0, len(every), _PIECE):
        selection = Selection(every[first : first + _PIECE])
        # Older work of a `local` that is gone is told of, and not run here.
        for answer in reader.read(selection, None, adopt=False):
            for positions, state in answer:
                told = [selection.names[position] for position in positions]
                which = [] if selection.call(positions[0]) < 0 else selection.calls(positions)
                done.tasks += len(told)
                for name, ending in zip(told, _endings(state, which, told), strict=True):
                    line = {"task_id": name, "status": state.status, **shared}
                    if ending is None:
                        done.pending += 1
                    else:
                        line["ended"] = state.ended
                        _put(line, ending, directory, done)
                        if which and "error" not in line:
                            line["status"] = states.SUCCESS  # the chunk failed, not this call
                    yield line


#: How a task has ended: its value, packed, and its value if it was unpacked; or its error.
_Ending = tuple[bytes, Any] | BaseException | None


def _endings(state: TaskState, which: list[int], names: list[str]) -> Iterator[_Ending]:
    """How tasks of one state have ended; `which` calls of it, if it is a chunk."""
    if state.outcome is None:
        yield from [None] * len(names)
    elif which:
        for value, is_error in calls.each_value_of(state, which, names):
            try:
                yield value if is_error else (pack_result(value, sys.maxsize), value)
            except errors.SerializationError as error:
                yield error
    elif state.outcome.kind == VALUE:
        yield from [_unpacked(state.outcome.data)] * len(names)
    else:
        yield from [outcomes.error_of(state.outcome, name) for name in names]


def _unpacked(packed: Any) -> _Ending:
    value: Any = _Unknown
    try:
        data = bytes(spilled.read(packed)) if spilled.is_reference(packed) else bytes(packed)
    except errors.SerializationError as error:  # its file is lost
        return error
    if len(data) <= _LINE_BYTES:
        # Its classes may not be there: whoever reads the export may have them.
        with contextlib.suppress(errors.SerializationError):
            value = unpack_result(data)
    return data, value


def _put(line: dict[str, Any], ending: _Ending, directory: Path, done: Exported) -> None:
    """Put how a task has ended into its line."""
    if isinstance(ending, BaseException):
        line["error"] = f"{type(ending).__name__}: {ending}"
        return
    assert ending is not None
    data, value = ending
    if len(data) <= _LINE_BYTES and is_plain(value):
        line["result"] = value
        return
    line["result_file"] = f"{RESULTS}/{line['task_id']}.pickle"
    descriptor = os.open(
        directory / line["result_file"], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    done.files += 1


class _Unknown:
    """Stands for a value that was not unpacked."""


def is_plain(value: Any) -> bool:
    """Whether JSON gives back just this value.

    >>> is_plain({"a": [1, None]}), is_plain((1, 2)), is_plain(float("nan"))
    (True, False, False)
    """
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is list:
        return all(map(is_plain, value))
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(is_plain, value.values()))
    if kind is str:
        return value.isascii() or _is_text(value)
    return value is None or kind in (bool, int)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False
    return True

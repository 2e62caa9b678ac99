"""`fxhpc.progress`: waits for tasks, and shows how far they are."""

from __future__ import annotations

import concurrent.futures as cf
import reprlib
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, TextIO

from fxhpc import errors
from fxhpc.client.declared import arguments
from fxhpc.client.futures.completions import Completions
from fxhpc.client.map_ids import MapIds
from fxhpc.client.mapping import Values
from fxhpc.client.results import Results
from fxhpc.client.selection import Selection
from fxhpc.client.shown import progress_sources
from fxhpc.client.shown.progress_lines import (
    Display,
    Log,
    Notebook,
    Nothing,
    Speed,
    Terminal,
    ended,
    line,
)
from fxhpc.client.shown.progress_sources import Source
from fxhpc.client.started import processes
from fxhpc.client.task_group import TaskGroup

_STOPPED = " (looked at no more; the tasks go on)"


def progress(
    tasks: Any,
    *,
    client: Any = None,
    file: TextIO | None = None,
    label: str = "",
    every_s: float | None = None,
) -> dict[str, int]:
    """Wait until tasks have ended, and show how far they are; return how many ended in which way.

    On a terminal and in a notebook it is a line that changes, elsewhere (the log of a batch job)
    one every 30 seconds. Ctrl-C ends this alone: the tasks go on.

    Args:
        tasks: ids (what `batch_run` and `map_run` returned), futures, what `Executor.map` returned
            (its values can still be read), or a group (`fxc.group()`).
        client: whose home has the ids; without it the one that submitted them here, or else the
            home of FXHPC_HOME.
        file: where it is written; standard error, or the notebook's cell.
        label: what the line begins with.
        every_s: seconds from one line to the next.

    Raises:
        UsageError: it is nothing of these, every_s is no number of seconds, file no file, or
            client no client.
        InvalidUUID: one is no id.
    """
    label = arguments.text("label", label, "which the line begins with")
    if client is not None:
        arguments.client(client)
    display = _display(file)
    if every_s is not None:
        display.every_s = arguments.seconds("every_s", every_s, 0.01)
    with ExitStack() as stack:
        return watch(_source(tasks, client, stack), display, label)


def watch(
    source: Source, display: Display, label: str = "", now: Callable[[], float] = time.monotonic
) -> dict[str, int]:
    """Show how far tasks are until they have ended; how many are in which state then.

    Args:
        now: a clock, in seconds.
    """
    begun, speed, text, share = now(), Speed(), "", 0.0
    shown = _Shown(display)
    wait_s = 0.0
    try:
        while True:
            counts = source.look(wait_s)
            elapsed_s, over, total = now() - begun, ended(counts), sum(counts.values())
            speed.note(elapsed_s, over)
            rate = speed.mean if over >= total else speed.lately
            text, share = line(counts, elapsed_s, rate, label), over / max(1, total)
            shown.show(text, share)
            if over >= total:
                return {state: count for state, count in counts.items() if count}
            wait_s = display.every_s
    except KeyboardInterrupt:
        shown.show(text + _STOPPED, share)
        raise
    finally:
        shown.end()


class _Shown:
    """A display that may fail: nobody loses his wait for that."""

    def __init__(self, display: Display) -> None:
        self._display: Display = display

    def show(self, text: str, share: float) -> None:
        try:
            self._display.show(text, share)
        except (OSError, ValueError):  # nobody reads it any more, or it was closed
            self._display = Nothing()

    def end(self) -> None:
        try:
            self._display.end()
        except (OSError, ValueError):
            pass


def _display(file: TextIO | None) -> Display:
    if file is None:
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if getattr(shell, "kernel", None) is not None:
            from IPython.display import display

            return Notebook(display)
        file = sys.stderr
    if file is None:
        return Nothing()
    if not callable(getattr(file, "write", None)):
        raise errors.UsageError(
            f"file={reprlib.repr(file)}: it is a file that is open for text, as sys.stderr or "
            f"open('progress.log', 'a')."
        )
    try:
        return Terminal(file) if file.isatty() else Log(file)
    except (AttributeError, ValueError):
        return Log(file)


def _source(tasks: Any, client: Any, stack: ExitStack) -> Source:
    if isinstance(tasks, TaskGroup):
        return progress_sources.Group(tasks)
    if isinstance(tasks, str | bytes | uuid.UUID | cf.Future) or hasattr(tasks, "task_id"):
        tasks = [tasks]
    if isinstance(tasks, Values):
        tasks = tasks.futures
    if isinstance(tasks, Completions):
        raise errors.UsageError(
            "progress() was given what is read as it ends, which it would take away: give it the "
            "ids, futures or group that this was asked of."
        )
    if isinstance(tasks, MapIds) and client is None:
        return progress_sources.Ids(tasks._results, Selection(tasks, "progress"))
    if not isinstance(tasks, Iterable):
        raise errors.NotAList(type(tasks).__name__, "progress")
    given = list(tasks)
    futures = [task for task in given if isinstance(task, cf.Future)]
    if len(futures) < len(given):
        if futures:
            raise errors.UsageError(
                "progress() was given futures and ids: give it the one or the other."
            )
        selection = Selection(given, "progress")
        return progress_sources.Ids(_results(selection, client, stack), selection)
    found = progress_sources.Futures(futures)
    stack.callback(found.forget)
    return found


def _results(selection: Selection, client: Any, stack: ExitStack) -> Results:
    """Whoever can ask for these tasks."""
    from fxhpc.client.client import FuncXClient

    if client is None:
        for one in processes.residents(FuncXClient):
            if not one._is_closed and not selection.streams.isdisjoint(one._submissions.known):
                return one._results
        client = stack.enter_context(FuncXClient())
    found: Results = client._results
    return found

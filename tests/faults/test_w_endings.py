"""The ways in which a call can end: exits, interrupts, endless recursion, strange exceptions."""

from __future__ import annotations

import builtins
import os
import sys
import threading
import urllib.error
from collections.abc import Callable
from email.message import Message
from typing import Any

import pytest

from fxhpc import Executor, errors
from fxhpc.protocol.outcome import LossCause
from tests.faults.figures import record_figure
from tests.process.homes import TestHome, finish
from tests.process.workers import tasks
from tests.process.workers.interchange import Interchange
from tests.process.workers.manager import error, values, worker_pids


class OddBase(BaseException):
    """Neither an Exception nor one of Python's own."""


def raise_base() -> None:
    raise OddBase("odd")


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (tasks.leave, (3,), "SystemExit"),
        (tasks.interrupt, (), "KeyboardInterrupt"),
        (raise_base, (), "odd"),
        (tasks.recurse, (), "RecursionError"),
        (tasks.unpicklable, (), "generator"),
        (tasks.raise_two, (), "1 and 2"),
        (tasks.echo, (b"x" * (6 << 20),), "6291"),
    ],
)
def test_w07_what_a_call_raises_is_the_users(
    interchange: Interchange, function: Any, arguments: tuple[Any, ...], expected: str
) -> None:
    """W7, W8, W9, W10: `sys.exit`, an interrupt, any BaseException, endless recursion, a result
    that cannot be packed or is too large: each is the task's error, and the worker lives on.
    """
    before = worker_pids(interchange)
    (outcome,) = interchange.run(function, arguments)
    assert expected in error(outcome)
    assert values(interchange.run(tasks.double, (1,), (2,))) == [2, 4]
    assert worker_pids(interchange) == before
    record_figure("W8", f"bytes of the error of {function.__name__}", len(outcome.data), "B")


def test_w07_exit_at_once_is_the_tasks_own_end(interchange: Interchange) -> None:
    """W7: `os._exit` ends the worker. That is the task's own end, with its code: no other run."""
    stream = interchange.send(tasks.exit_at_once, (4,))
    interchange.until(lambda: interchange.lost)
    (lost,) = interchange.lost
    assert (lost.stream, lost.index, lost.attempt) == (stream, 0, 1)
    assert lost.loss.cause == LossCause.WORKER_EXITED
    assert lost.loss.exit_code == 4
    assert "code 4" in lost.loss.text
    assert values(interchange.run(tasks.double, (1,), (2,))) == [2, 4]


def recurse_in_c(depth: int) -> Any:
    """Lists in lists, whose text is made by C functions that call each other."""
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    return repr(deep)


def return_deep(depth: int) -> Any:
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    return deep


@pytest.mark.parametrize("function", [recurse_in_c, return_deep])
def test_w08_recursion_in_c_is_the_tasks_error(interchange: Interchange, function: Any) -> None:
    """W8: what recurses in C, in a task or while its result is packed, fails it alone."""
    before = worker_pids(interchange)
    (outcome,) = interchange.run(function, (100_000,))
    assert "RecursionError" in error(outcome) or "recursion" in error(outcome)
    assert len(outcome.data) < 64 * 1024
    assert values(interchange.run(tasks.double, (1,), (2,))) == [2, 4]
    assert worker_pids(interchange) == before


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class OnlyKeywords(Exception):
    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ExitsWhenMade(Exception):
    def __reduce__(self) -> Any:
        return os._exit, (7,)


class RaisesWhenPacked(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("not to be packed")


class RaisesWhenShown(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not to be shown")


def raise_this(kind: str) -> None:
    if kind == "unpicklable attribute":
        problem = ValueError("has a lock")
        problem.lock = open(os.devnull)  # type: ignore[attr-defined]  # noqa: SIM115
        raise problem
    if kind == "HTTPError":
        raise urllib.error.HTTPError("http://localhost/", 404, "Not Found", Message(), None)
    if kind == "chain":
        deep: BaseException = ValueError("number 0")
        for number in range(1, 200):
            following = ValueError(f"number {number}")
            following.__cause__ = deep
            deep = following
        raise deep
    if kind == "group" and (group := getattr(builtins, "ExceptionGroup", None)):
        raise group("several", [ValueError("in a group"), KeyError("other")])
    raise {
        "two": TwoArguments(1, 2) if kind == "two" else ValueError("in a group"),
        "keywords": OnlyKeywords(reason="said so"),
        "exits": ExitsWhenMade("exits when it is made"),
        "packed": RaisesWhenPacked("raises when packed"),
        "shown": RaisesWhenShown("raises when shown"),
    }.get(kind, ValueError("in a group"))


STRANGE = {
    "two": "1 and 2",
    "keywords": "said so",
    "unpicklable attribute": "has a lock",
    "HTTPError": "404",
    "packed": "RaisesWhenPacked",
    "shown": "RaisesWhenShown",
    "chain": "number 199",
    "group": "in a group",
}


def test_w09_no_exception_stops_anything() -> None:
    """W8, W9: exceptions with odd constructors, that cannot be packed, that end the process that
    makes them again, that cannot be shown, long chains, groups: each is delivered with its type's
    name and the remote traceback, by the future of its own task, and all others go on.
    """
    with Executor(2) as executor:
        failing = {kind: executor.submit(raise_this, kind) for kind in STRANGE}
        exits = executor.submit(raise_this, "exits")
        others = [executor.submit(tasks.double, x) for x in range(100)]
        for kind, expected in STRANGE.items():
            problem = failing[kind].exception(60)
            assert problem is not None
            told = f"{type(problem).__name__}: {_shown(problem)}\n{problem.__cause__}"
            assert expected in told, (kind, told)
            assert "raise_this" in told, (kind, told)
        # That it can be made again is tried in the worker, which this one ends.
        problem = exits.exception(60)
        assert isinstance(problem, errors.TaskExited)
        assert problem.code == 7
        assert [other.result(60) for other in others] == [2 * x for x in range(100)]


def _shown(problem: BaseException) -> str:
    try:
        return str(problem)
    except RuntimeError:
        return ""  # as its class wants it


class CrashesWhenPacked:
    def __reduce__(self) -> Any:
        os.kill(os.getpid(), 9)
        return None


class ExitsWhenPacked:
    def __reduce__(self) -> Any:
        sys.exit(5)


class FailsWhenPacked:
    def __reduce__(self) -> Any:
        raise ValueError("not to be packed")


class FailsWhenUnpacked:
    def __reduce__(self) -> Any:
        return _fail, ("not to be unpacked",)


def _fail(text: str) -> None:
    raise ValueError(text)


def make(kind: type) -> Any:
    return kind()


def take(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (CrashesWhenPacked, errors.WorkerDied),
        (ExitsWhenPacked, errors.TaskExited),
        (FailsWhenPacked, errors.SerializationError),
        (FailsWhenUnpacked, errors.SerializationError),
    ],
)
def test_w10_a_result_that_does_harm(kind: type, expected: type[Exception]) -> None:
    """W10: a result that kills, exits or raises while it is packed or unpacked fails its own task,
    in the thread that asks for it; all others go on.
    """
    with Executor(2, retries=0) as executor:
        future = executor.submit(make, kind)
        others = [executor.submit(tasks.double, x) for x in range(20)]
        with pytest.raises((expected, ValueError)):
            future.result(60)
        assert [other.result(60) for other in others] == [2 * x for x in range(20)]


@pytest.mark.parametrize("make_argument", [threading.Lock, FailsWhenPacked])
def test_w10_an_argument_that_cannot_be_packed_is_refused(
    make_argument: Callable[[], Any],
) -> None:
    """W10: arguments that cannot be packed are refused by `submit`; nothing has been sent."""
    with Executor(1) as executor:
        with pytest.raises((errors.SerializationError, TypeError, ValueError)):
            executor.submit(take, make_argument()).result(60)
        assert executor.submit(take, 1).result(60) == "int"


HANGS = """
import threading
from fxhpc import Executor

class Slow:
    def __reduce__(self):
        return wait_for_it, ()

def wait_for_it():
    import builtins, threading
    released = getattr(builtins, "released", None)
    if released is not None:
        released.wait(60)
    return 1

def make():
    return Slow()

def double(x):
    return 2 * x

import builtins
builtins.released = threading.Event()
with Executor(2) as executor:
    slow = executor.submit(make)
    asking = threading.Thread(target=slow.result)
    asking.start()
    assert list(executor.map(double, range(100))) == [2 * x for x in range(100)]
    assert asking.is_alive()
    builtins.released.set()
    asking.join()
print("gone on")
"""


def test_w10_a_result_that_hangs_holds_up_its_reader_alone(home: TestHome) -> None:
    """W10: a result that hangs while it is unpacked holds up the thread that asks, no other."""
    assert finish(home.start("hangs.py", HANGS)) == "gone on\n"

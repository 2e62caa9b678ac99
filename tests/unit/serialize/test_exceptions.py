"""Exceptions: the original type and message where that can be, the text always, never a crash."""

from __future__ import annotations

import builtins
import pickle
import sys
import threading
import urllib.error
from typing import Any

import pytest

from fxhpc import errors
from fxhpc.serialize import RemoteExceptionWrapper, pack_exception, unpack_exception
from fxhpc.serialize.tracebacks import TEXT_LIMIT

LIMIT = 5 * 1024 * 1024


class TwoArguments(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class KeywordOnly(Exception):
    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HoldsALock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.kept = 1


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class ExitingStr(Exception):
    def __str__(self) -> str:
        sys.exit(7)


class BadReduce(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(1)


class BadState(Exception):
    def __reduce__(self) -> Any:
        return (_refuse, ())


def _refuse() -> None:
    raise KeyboardInterrupt


class BadMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise ValueError(name)


def caught(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as error:
        return error


def trip(exc: BaseException) -> RemoteExceptionWrapper:
    return unpack_exception(pack_exception(caught(exc), LIMIT))


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("bad", 1),
        KeyError("k"),
        OSError(2, "missing", "file"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
        TwoArguments(3, "x"),
        KeywordOnly(reason="because"),
        HoldsALock("held"),
        urllib.error.HTTPError("http://x", 404, "gone", {}, None),  # type: ignore[arg-type]
        RecursionError("deep"),
        MemoryError(),
        SyntaxError("bad", ("f.py", 1, 2, "x x")),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_the_original_comes_back(exc: Exception) -> None:
    wrapper = trip(exc)
    with pytest.raises(type(exc)) as caught_here:
        wrapper.reraise()
    assert type(caught_here.value) is type(exc) is wrapper.e_type
    assert str(caught_here.value) == str(exc)
    cause = caught_here.value.__cause__
    assert isinstance(cause, errors.RemoteTraceback)
    assert "in caught" in str(cause)
    assert str(wrapper) == wrapper.traceback_text
    assert str(pickle.loads(pickle.dumps(wrapper))) == str(wrapper)


def test_attributes_come_back() -> None:
    error = trip(HoldsALock("held")).error()
    assert error.kept == 1  # type: ignore[attr-defined]
    assert trip(TwoArguments(3, "x")).error().code == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("exc", [BadReduce("r"), BadState("s")], ids=lambda e: type(e).__name__)
def test_what_resists_packing_is_made_without_its_methods(exc: Exception) -> None:
    error = trip(exc).error()
    assert type(error) is type(exc)
    assert str(error) == str(exc)


@pytest.mark.parametrize("exc", [BadStr(), ExitingStr()], ids=lambda e: type(e).__name__)
def test_a_str_that_raises_harms_nobody(exc: Exception) -> None:
    wrapper = trip(exc)
    assert type(exc).__name__ in wrapper.traceback_text
    assert isinstance(wrapper.error(), Exception)


def test_a_metaclass_that_raises_harms_nobody() -> None:
    hostile = BadMeta("Hostile", (Exception,), {})
    data = pack_exception(hostile(), LIMIT)
    assert isinstance(unpack_exception(data).error(), errors.TaskExecutionFailed)


@pytest.mark.parametrize(("given", "code"), [(3, 3), (None, 0), ("words", 1), (-1, 255)])
def test_sys_exit_does_not_end_the_client(given: object, code: int) -> None:
    error = trip(SystemExit(given)).error()
    assert isinstance(error, errors.TaskExited)
    assert error.code == code
    assert isinstance(error.__cause__, errors.RemoteTraceback)


def test_interrupts_are_not_raised_bare() -> None:
    assert type(trip(KeyboardInterrupt()).error()) is errors.TaskInterrupted
    error = trip(GeneratorExit()).error("1.5")
    assert type(error) is errors.TaskExecutionFailed
    assert error.completion_t == "1.5"


def test_deep_recursion_is_trimmed() -> None:
    def dive(n: int) -> int:
        return dive(n + 1)

    with pytest.raises(RecursionError) as info:
        dive(0)
    text = unpack_exception(pack_exception(info.value, LIMIT)).traceback_text
    assert "frames left out" in text
    assert text.count("in dive") <= 40


def test_a_long_chain_of_causes_is_trimmed() -> None:
    exc: BaseException = ValueError("the first")
    for n in range(200):
        following = ValueError(f"number {n}")
        following.__cause__ = caught(exc)
        exc = caught(following)
    text = unpack_exception(pack_exception(exc, LIMIT)).traceback_text
    assert "the first" in text
    assert "number 199" in text
    assert "exceptions left out" in text
    assert len(text) < TEXT_LIMIT


def test_a_circle_of_causes_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert "one" in trip(one).traceback_text


def test_context_and_suppression() -> None:
    def during(suppress: bool) -> BaseException:
        try:
            try:
                raise KeyError("inner")
            except KeyError:
                if suppress:
                    raise ValueError("outer") from None
                raise ValueError("outer")  # noqa: B904
        except ValueError as error:
            return error

    assert "inner" in unpack_exception(pack_exception(during(False), LIMIT)).traceback_text
    assert "inner" not in unpack_exception(pack_exception(during(True), LIMIT)).traceback_text


def test_exception_groups() -> None:
    members = [ValueError(f"member {n}") for n in range(30)]
    group_type: Any = getattr(builtins, "ExceptionGroup", None)  # Python 3.11
    if group_type is not None:
        group: Any = group_type("many", [caught(member) for member in members])
        wrapper = trip(group)
        assert "member 3" in wrapper.traceback_text
        assert "20 more" in wrapper.traceback_text
        error: Any = wrapper.error()
        assert type(error) is group_type
        assert len(error.exceptions) == 30
    else:  # the version has none; a chain takes its place
        assert "member 0" in trip(members[0]).traceback_text


def test_limits_are_kept() -> None:
    exc = caught(ValueError("x" * 1_000_000))
    for limit in (1_000, 10_000, 100_000, 900_000):
        data = pack_exception(exc, limit)
        assert len(data) <= limit
        assert type(unpack_exception(data).error()) is errors.TaskExecutionFailed
    assert type(unpack_exception(pack_exception(exc, LIMIT)).error()) is ValueError


def test_bytes_that_are_no_exception() -> None:
    for data in (b"", b"garbage", pickle.dumps([1, 2])):
        assert type(unpack_exception(data).error()) is errors.TaskExecutionFailed


def test_an_exception_whose_class_is_gone() -> None:
    module = type(sys)("fleeting_module")
    exec("class Gone(Exception): pass", vars(module))
    vars(module)["Gone"].__module__ = "fleeting_module"
    data = pack_exception(caught(vars(module)["Gone"]("away")), LIMIT)
    wrapper = unpack_exception(data.replace(b"fleeting", b"vanished"))
    assert "away" in str(wrapper.error())

"""Arguments, results and functions: round trips, exact limits, errors in words, and their cost."""

from __future__ import annotations

import ctypes
import hashlib
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxhpc import errors
from fxhpc.serialize import (
    ArgumentPacker,
    load_arguments,
    pack_arguments,
    pack_function,
    pack_result,
    unpack_result,
)

LIMIT = 5 * 1024 * 1024


@dataclass
class Point:
    x: int
    y: object = None


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.builds(Point, st.integers(), inner)
    ),
    max_leaves=20,
)


@given(st.lists(values, max_size=4), st.dictionaries(st.text(min_size=1), values, max_size=3))
@settings(max_examples=200, deadline=None)
def test_arguments_come_back(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert load_arguments(pack_arguments(tuple(args), kwargs, LIMIT)) == (tuple(args), kwargs)


@given(values)
@settings(max_examples=200, deadline=None)
def test_results_come_back(value: Any) -> None:
    assert unpack_result(pack_result(value, LIMIT)) == value


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_nothing_become_an_error(data: bytes) -> None:
    try:
        unpack_result(data)
    except errors.SerializationError as error:
        assert "Result Object Deserialization" in str(error)  # noqa: PT017 -- some are something


@pytest.mark.parametrize("argument", [b"x" * 1000, ["x" * 1000], Point(1, "y" * 1000)])
def test_limits_are_exact(argument: object) -> None:
    size = len(pack_arguments((argument,), {}, LIMIT))
    assert len(pack_arguments((argument,), {}, size)) == size
    with pytest.raises(errors.PayloadTooLarge, match=f"{size:,} bytes.*`max_payload`") as info:
        pack_arguments((argument,), {}, size - 1)
    assert (info.value.size, info.value.limit) == (size, size - 1)
    size = len(pack_result(argument, LIMIT))
    assert len(pack_result(argument, size)) == size
    with pytest.raises(errors.MaxResultSizeExceeded) as result:
        pack_result(argument, size - 1)
    assert (result.value.result_size, result.value.result_size_limit) == (size, size - 1)


def test_what_cannot_be_sent_is_named() -> None:
    with pytest.raises(errors.SerializationError, match=r"\['a'\] -> \[0\] is a _thread.lock"):
        pack_arguments((), {"a": [threading.Lock()]}, LIMIT)
    with pytest.raises(errors.SerializationError, match="attribute 'y' of a Point"):
        pack_result(Point(1, threading.Lock()), LIMIT)
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(errors.SerializationError, match="nested too deeply"):
        pack_arguments((nested,), {}, LIMIT)


class Leaves:
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class Refuses:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("refused")


def test_methods_of_the_user_that_fail() -> None:
    with pytest.raises(errors.SerializationError, match="SystemExit"):
        unpack_result(pack_result(Leaves(), LIMIT))
    with pytest.raises(errors.SerializationError, match="refused"):
        pack_result([Refuses()], LIMIT)


class Layout(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int)]


def test_a_ctypes_class_of_the_script_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pack_arguments((Layout,), {}, LIMIT)  # of a module that can be imported
    monkeypatch.setattr(Layout, "__module__", "__main__")
    with pytest.raises(errors.SerializationError, match=r"lays out its memory.*module"):
        pack_arguments((Layout(1),), {}, LIMIT)


def test_a_missing_module_is_said_with_what_to_do() -> None:
    data = pack_result(Point(1), LIMIT)
    name = Point.__module__.encode()
    missing = b"no" + name[2:]
    with pytest.raises(errors.SerializationError, match="PYTHONPATH"):
        unpack_result(data.replace(name, missing))


def module_level(x: int) -> int:
    """Documented."""
    return x + 1


class Instance:
    def __call__(self) -> int:
        return 1

    def method(self) -> int:
        return 2


@pytest.mark.parametrize(
    ("fn", "name", "has_source"),
    [
        (module_level, "module_level", True),
        (lambda: 1, "<lambda>", True),
        (len, "len", False),
        (math.sin, "sin", False),
        (partial(module_level, 1), "module_level", True),
        (partial(pow, 2), "pow", False),
        (Instance(), "Instance", True),
        (Instance().method, "method", True),
        (Instance, "Instance", True),
        (int, "int", False),
        ("abc".upper, "upper", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_all_callables_register(fn: Any, name: str, has_source: bool) -> None:
    packed = pack_function(fn)
    assert packed.name == name
    assert bool(packed.source) == has_source
    assert packed.digest == hashlib.sha256(packed.body).digest()


def test_the_same_function_has_the_same_body() -> None:
    assert pack_function(module_level) == pack_function(module_level)
    with pytest.raises(errors.RegistrationError, match="not callable"):
        pack_function(module_level(1))  # type: ignore[arg-type]


def test_two_threads_may_unpack_at_once() -> None:
    data = pack_result([Point(n) for n in range(100)], LIMIT)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(unpack_result(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8


def _bytecodes(run: Callable[[], object]) -> int:
    """Instructions of Python that it takes, of whatever code: as many on a busy machine."""
    count = 0

    def called(frame: FrameType, what: str, argument: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return instruction

    def instruction(frame: FrameType, what: str, argument: Any) -> Any:
        nonlocal count
        count += what == "opcode"
        return instruction

    run()  # the first time more has to be done
    before = sys.gettrace()
    sys.settrace(called)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


# Bounds are about 1.3 times what was counted on Python 3.11, which needs most; see `tests/cost`.


def test_cost_of_plain_arguments() -> None:
    assert 0 < _bytecodes(lambda: pack_arguments((1,), {}, LIMIT)) < 120
    data = pack_arguments((1,), {}, LIMIT)
    assert 0 < _bytecodes(lambda: load_arguments(data)) < 33


def test_cost_of_instances_of_a_dynamic_class() -> None:
    @dataclass
    class Local:
        x: int

    assert 0 < _bytecodes(lambda: pack_arguments((Local(1),), {}, LIMIT)) < 1300


def test_importing_does_not_import_dill() -> None:
    code = "import sys, fxhpc.serialize; print('dill' in sys.modules, 'zmq' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "False"], done.stderr


@pytest.mark.parametrize("kwargs", [{}, {"plus": 1}, {"name": "x" * 70_000}])
def test_many_calls_are_packed_as_each_alone(kwargs: dict[str, Any]) -> None:
    items = [1, 2**70, None, True, 0.5, "text", b"x" * 100_000, [1, {"two": 2}], math.inf]
    together = ArgumentPacker().pack_each(iter(items), kwargs, 1_000_000)
    alone = ArgumentPacker()
    assert together == [alone.pack((item,), kwargs, 1_000_000) for item in items]
    for item, payload in zip(items, together, strict=True):
        if type(payload) is bytes and len(payload) < 1000:
            assert load_arguments(payload) == ((item,), kwargs)


def test_of_many_calls_one_that_is_too_large_is_refused_or_spilled() -> None:
    items = [1, 2**8000, 3]  # small types, and not small
    with pytest.raises(errors.PayloadTooLarge):
        ArgumentPacker().pack_each(items, {}, 500)
    alone = ArgumentPacker()
    payloads = ArgumentPacker().pack_each(items, {}, 500, spills=True)
    assert payloads == [alone.pack((item,), {}, 500, spills=True) for item in items]

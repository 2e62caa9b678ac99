"""Chunks: the arguments of many calls packed as one payload, and what came of each."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fxhpc import errors
from fxhpc.serialize import (
    ArgumentPacker,
    Calls,
    Chunk,
    Ends,
    pack_arguments,
    pack_calls,
    pack_exception,
    pack_result,
    rows_of,
    unpack_chunk,
)
from fxhpc.serialize.bodies import Bodies
from fxhpc.serialize.sharing import SharedPayload

LIMIT = 10_000
Row = tuple[Any, ...]


class Unloadable:
    """Packs, and cannot be made again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def called(payload: bytes) -> list[tuple[Row, dict[str, Any]]]:
    """The arguments of each call, as a worker has them."""
    bodies = Bodies()
    for body in getattr(payload, "bodies", ()):
        bodies.put(body.digest, body.data)
    calls = Calls(bytes(payload), bodies)
    return [calls.arguments(call) for call in range(len(calls))]


def packed(rows: list[Row], limit: int = LIMIT, **kwargs: Any) -> list[tuple[bytes, int]]:
    return pack_calls(rows, kwargs, ArgumentPacker().pack, limit)


def refused(args: Row, kwargs: dict[str, Any], limit: int) -> bytes:
    raise AssertionError("they are packed at once")


@pytest.mark.parametrize(
    "rows",
    [
        rows_of([1, 2.5, 1j, True, None]),
        rows_of(["text", b"bytes"]),
        [(1, "a"), (2, "b")],
        rows_of([[1, "a"], (2, b"b"), {"c": 3}, [], 4]),
    ],
)
def test_plain_arguments_are_packed_at_once(rows: list[Row]) -> None:
    ((payload, count),) = pack_calls(rows, {"base": 2}, refused, LIMIT)
    assert count == len(rows)
    assert called(payload) == [(row, {"base": 2}) for row in rows]
    assert Calls(payload, Bodies()).rows == tuple(rows)


@pytest.mark.parametrize(
    ("rows", "kwargs"),
    [
        ([(1,), ([[2]],), ("three",)], {}),
        ([([1], [2])], {}),
        ([([], [])], {}),
        ([(["x" * 70_000],)], {}),
        ([([1] * 101,)], {}),
        ([(1,), (2,)], {"options": {"a": [1]}}),
        ([("x" * 70_000,), (2,)], {}),
    ],
)
def test_others_are_packed_each(rows: list[Row], kwargs: dict[str, Any]) -> None:
    ((payload, count),) = packed(rows, 10**6, **kwargs)
    assert count == len(rows)
    calls = Calls(payload, Bodies())
    assert calls.rows is None
    assert called(payload) == [(row, kwargs) for row in rows]
    # What one call does to its arguments, another does not see.
    assert calls.arguments(0)[1] is not calls.arguments(0)[1]


def test_a_list_that_calls_share_is_one_of_its_own_for_each() -> None:
    shared = [1]
    ((payload, _),) = pack_calls(rows_of([shared, shared]), {}, refused, LIMIT)
    calls = Calls(payload, Bodies())
    calls.arguments(0)[0][0].append(2)
    assert calls.arguments(1) == (([1],), {})
    ((payload, _),) = packed([(shared, shared), (shared, [shared])])
    (first, _), (second, _) = called(payload)
    assert first[0] is first[1]  # within a call it is what it was
    assert second[1] == [second[0]]
    assert second[1][0] is second[0]
    assert first[0] is not second[0]


def test_a_body_that_calls_share_goes_with_their_chunk_once() -> None:
    shared = np.arange(100_000.0)
    pack = ArgumentPacker().pack
    pack((shared,), {}, 10**8)  # the first time it may be the only one
    ((payload, count),) = pack_calls([(n, shared) for n in range(50)], {}, pack, 10**8)
    assert count == 50
    assert isinstance(payload, SharedPayload)
    (body,) = payload.bodies
    assert len(body.data) >= shared.nbytes
    assert len(payload) < 50 * 1000
    for n, (args, kwargs) in enumerate(called(payload)):
        assert args[0] == n
        assert np.array_equal(args[1], shared)
        assert kwargs == {}


def test_what_is_too_large_for_a_chunk_is_halved() -> None:
    rows = rows_of(bytes([n]) * 1000 for n in range(16))
    found = packed(rows, 5000)
    assert [count for _, count in found] == [4] * 4
    assert [arguments for payload, _ in found for arguments in called(payload)] == [
        (row, {}) for row in rows
    ]
    odd = packed([([[n] * 400],) for n in range(5)], 2500)
    assert [count for _, count in odd] == [2, 3]


@pytest.mark.parametrize("value", [bytes(6000), [bytes(6000)]])
def test_a_call_that_is_too_large_is_refused(value: Any) -> None:
    with pytest.raises(errors.PayloadTooLarge):
        packed([(1,), (value,), (2,)], 5000)


@pytest.mark.parametrize(("small", "large"), [(b"1", bytes(6000)), ([1], [bytes(6000)])])
def test_a_call_that_is_too_large_goes_apart_if_it_may(small: Any, large: Any) -> None:
    pack = functools.partial(ArgumentPacker().pack, spills=True)
    found = pack_calls([(small,), (large,)], {}, pack, 5000)
    assert isinstance(found[-1][0], SharedPayload)
    assert all(len(payload) < 1000 for payload, _ in found)
    assert [arguments for payload, _ in found for arguments in called(payload)] == [
        ((small,), {}),
        ((large,), {}),
    ]


def test_arguments_that_cannot_be_packed_are_named() -> None:
    with pytest.raises(errors.SerializationError, match="lock"):
        packed([(1,), (threading.Lock(),)])


def test_one_that_cannot_be_unpacked_harms_no_other() -> None:
    ((payload, _),) = pack_calls([([1],), (Unloadable(),)], {}, pack_arguments, LIMIT)
    calls = Calls(payload, Bodies())
    assert calls.arguments(0) == (([1],), {})
    with pytest.raises(errors.SerializationError, match="no number"):
        calls.arguments(1)


def test_what_is_no_chunk_is_refused() -> None:
    with pytest.raises(errors.SerializationError, match="arguments on the worker"):
        Calls(b"nonsense", Bodies())
    with pytest.raises(errors.SerializationError, match="ended by a int"):
        unpack_chunk(pack_result(5, LIMIT))


def come_back(
    values: list[Any],
    failures: dict[int, Exception] | None = None,
    losses: dict[int, bytes] | None = None,
    pack: Callable[[Any, int], bytes] = lambda value, _: pack_result(value, LIMIT),
    **bounds: int,
) -> Chunk:
    """As it comes back to the client."""
    ends = Ends(
        losses or {},
        pack,
        lambda error: pack_exception(error, LIMIT),
        **{"limit": LIMIT, **bounds},
    )
    for call, value in enumerate(values):
        if call in (failures or {}):
            ends.fail((failures or {})[call])
        elif call in (losses or {}):
            ends.skip()
        elif type(value) in ends.PLAIN:
            ends.values.append(value)
        else:
            ends.add(value)
    return unpack_chunk(ends.chunk().pack())


def test_plain_values_travel_together() -> None:
    chunk = come_back([1, 2.5, True, "a", b"b", None])
    assert chunk.values() == [1, 2.5, True, "a", b"b", None]
    assert [chunk.value(call) for call in range(len(chunk))] == chunk.values()
    assert not chunk.each
    assert not chunk.has_failures
    assert unpack_chunk(chunk) is chunk


def test_those_that_have_none_stand_beside_them() -> None:
    chunk = come_back([1, None, None, 4], {1: ValueError("so")}, {2: b"a loss"})
    assert chunk.values() is None
    assert chunk.has_failures
    assert [chunk.has_failed(call) for call in range(4)] == [False, True, True, False]
    assert (chunk.value(0), chunk.value(3), chunk.losses) == (1, 4, {2: b"a loss"})
    assert chunk.failure(0) is None
    with pytest.raises(ValueError, match="so"):
        chunk.failure(1).reraise()
    assert repr(chunk) == "<Chunk of 4 calls, 2 of which failed>"


def test_values_that_cannot_travel_fail_alone() -> None:
    values = [[1], threading.Lock(), Unloadable(), b"x" * (LIMIT + 1), {"a": 1}]
    chunk = come_back(values)
    assert (chunk.value(0), chunk.value(4)) == ([1], {"a": 1})
    with pytest.raises(errors.SerializationError, match="lock"):
        chunk.failure(1).reraise()
    with pytest.raises(errors.SerializationError, match="no number"):
        chunk.value(2)
    with pytest.raises(errors.MaxResultSizeExceeded):
        chunk.failure(3).reraise()


def test_values_that_are_too_large_together_travel_each() -> None:
    chunk = come_back([os.urandom(LIMIT // 2) for _ in range(3)])
    assert [len(chunk.value(call)) for call in range(3)] == [LIMIT // 2] * 3
    assert len(chunk.each) == 3
    assert chunk.values() is None


def test_what_a_chunk_has_no_room_for_fails() -> None:
    chunk = come_back([os.urandom(4000) for _ in range(4)], limit=5000, room=9000)
    assert [chunk.has_failed(call) for call in range(4)] == [False, False, True, True]
    with pytest.raises(errors.MaxResultSizeExceeded, match="9000"):
        chunk.failure(2).reraise()


def test_each_is_packed_as_the_worker_says() -> None:
    asked: list[int] = []

    def pack(value: Any, call: int) -> bytes:
        asked.append(call)
        return pack_result(value, LIMIT)

    chunk = come_back([[0], None, [2], None], {1: b"raised"}, {3: b"lost"}, pack)
    assert asked == [0, 2]
    assert set(chunk.each) == {0, 2}


def test_all_calls_may_have_ended_alike() -> None:
    chunk = unpack_chunk(Chunk(0, of_all=pack_exception(ImportError("nowhere"), LIMIT)).pack())
    assert chunk.has_failures
    assert chunk.values() is None
    assert all(chunk.has_failed(call) for call in range(10))
    with pytest.raises(ImportError, match="nowhere"):
        chunk.failure(9).reraise()

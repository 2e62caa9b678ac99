"""What a worker makes of a chunk: each call ends on its own."""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

import pytest

from fxhpc import errors
from fxhpc.chunks import Chunk, run_chunk
from fxhpc.serialize import load_arguments
from fxhpc.serialize.rows import pack_rows

LIMIT = 10_000


class Unloadable:
    """Packs, and cannot be made again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def run(function: Any, *values: Any) -> Chunk:
    """As it comes back to the client."""
    made: Chunk = pickle.loads(pickle.dumps(run_chunk(function, LIMIT, *((v,) for v in values))))
    return made


def test_plain_values_travel_together() -> None:
    chunk = run(abs, -1, -2.5, True)
    assert chunk.values() == [1, 2.5, 1]
    assert [chunk.value(place) for place in range(len(chunk))] == [1, 2.5, 1]
    assert not chunk.each


@pytest.mark.parametrize("error", [ValueError("so"), SystemExit(3), KeyboardInterrupt()])
def test_a_call_that_raises_fails_alone(error: BaseException) -> None:
    def call(x: int) -> int:
        if x == 1:
            raise error
        return x

    chunk = run(call, 0, 1, 2)
    assert chunk.values() is None
    assert (chunk.value(0), chunk.value(2)) == (0, 2)
    expected = {SystemExit: errors.TaskExited, KeyboardInterrupt: errors.TaskInterrupted}
    with pytest.raises(expected.get(type(error), type(error))):
        chunk.value(1)


def test_values_that_cannot_travel_fail_alone() -> None:
    values = [[1], threading.Lock(), Unloadable(), b"x" * (LIMIT + 1), {"a": 1}]
    chunk = run(values.__getitem__, *range(5))
    assert (chunk.value(0), chunk.value(4)) == ([1], {"a": 1})
    with pytest.raises(errors.SerializationError, match="lock"):
        chunk.value(1)
    with pytest.raises(errors.SerializationError, match="no number"):
        chunk.value(2)
    with pytest.raises(errors.MaxResultSizeExceeded):
        chunk.value(3)


def test_values_that_are_too_large_together_travel_each() -> None:
    chunk = run(bytes, LIMIT // 2, LIMIT // 2, LIMIT // 2)
    assert [len(chunk.value(place)) for place in range(3)] == [LIMIT // 2] * 3


def test_a_child_that_a_call_forks_makes_no_other_call() -> None:
    reader, writer = os.pipe()

    def call(x: int) -> int:
        if x == 0 and os.fork() == 0:
            return x
        os.write(writer, b"%d" % x)
        return x

    run(call, 0, 1, 2)
    os.wait()
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"012"


def test_rows_of_small_arguments_are_packed_at_once() -> None:
    rows = [(1, 2.5), (True, None)]
    data = pack_rows(rows, 1000)
    assert data is not None
    assert load_arguments(data) == (tuple(rows), {})
    assert pack_rows([(1,), ("text",)], 1000) is None
    assert pack_rows([(1,), ([],)], 1000) is None
    assert pack_rows([(10**1000,)] * 3, 500) is not None  # one object, packed once
    assert pack_rows([(10**1000,), (10**1001,)], 500) is None

"""Packed arguments, taken apart after they were packed: the same arguments on the other side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fxhpc.serialize import ArgumentPacker, load_arguments
from fxhpc.serialize.apart import APART_BYTES, put_apart, size_of
from fxhpc.serialize.bodies import Bodies
from fxhpc.serialize.sharing import SharedPayload

LIMIT = 2**30
SIZE = 300_000

CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "small": ((1, "a"), {}),
    "a pickle": ((list(range(9000)),), {"b": "text"}),
    "bytes": ((bytes(SIZE), 7), {"name": b"x" * SIZE}),
    "text": (("aä" * SIZE,), {}),
    "an array": ((np.arange(SIZE), 7), {}),
    "within": (([{"a": bytes(SIZE), "n": np.arange(SIZE)}],), {"few": 1}),
}


def loaded(payload: bytes) -> Any:
    bodies = Bodies()
    for body in getattr(payload, "bodies", ()):
        bodies.put(body.digest, bytes(body.data))
    return load_arguments(payload, bodies)


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags.writeable
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [*map(plain, value)] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", CALLS)
def test_the_same_arguments_come_out(kind: str, times: int) -> None:
    """Packed several times, a part of it lies apart already."""
    args, kwargs = CALLS[kind]
    packer = ArgumentPacker()
    for _ in range(times):
        payload = packer.pack(args, kwargs, LIMIT)
    apart = put_apart(payload)
    assert isinstance(apart, SharedPayload)
    assert len(apart) < 3 * APART_BYTES
    assert size_of(apart) == pytest.approx(size_of(payload), abs=1000)
    assert plain(loaded(apart)) == plain((args, kwargs))
    assert plain(loaded(put_apart(apart))) == plain((args, kwargs))
    assert plain(loaded(payload)) == plain((args, kwargs))  # as it was

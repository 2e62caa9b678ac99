"""Functions with large closures, partials and methods: packed anew only if they have changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from fxhpc.serialize import FunctionPacker, Loader, functions, pack_function

SIZE = 300_000


def first(data: Any, at: int = 0) -> int:
    return int(data[at])


class Model:
    def __init__(self, data: Any) -> None:
        self.data = data

    def first(self) -> int:
        return int(self.data[0])


def closure(data: Any) -> Callable[[], int]:
    def inner() -> int:
        return int(data[0])

    return inner


MAKERS: dict[str, Callable[[Any], Callable[[], int]]] = {
    "partial": lambda data: partial(first, data),
    "method": lambda data: Model(data).first,
    "closure": closure,
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("make", [bytearray, lambda data: np.frombuffer(data, "u1").copy()])
def test_it_is_as_packed_anew_and_a_change_is_seen(
    kind: str, make: Callable[[bytes], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(os.urandom(SIZE))
    packer, fn = FunctionPacker(), MAKERS[kind](data)
    loader = Loader()
    try:
        for number in range(3):
            data[0] = number
            packed = packer.pack(fn)
            assert packed == pack_function(fn)
            assert loader.load_function(packed.digest, packed.body)() == number
            with monkeypatch.context() as patched:
                patched.setattr(functions, "_packed", None)  # it is not packed again
                assert packer.pack(fn) is packed
    finally:
        loader.close()


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "KEPT_BYTES", 3 * SIZE)
    packer = FunctionPacker()
    for number in range(10):
        packer.pack(partial(first, os.urandom(SIZE + 1000 * number)))
    assert len(packer._last) <= 3


def test_small_ones_and_what_cannot_be_packed_are_as_ever() -> None:
    packer = FunctionPacker()
    assert packer.pack(partial(first, [1])) == pack_function(partial(first, [1]))
    with pytest.raises(Exception, match="cannot be sent"):
        packer.pack(partial(first, (number for number in range(3))))

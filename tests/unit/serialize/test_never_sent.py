"""Functions whose calls give coroutines or generators: refused before anything is submitted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from fxhpc import errors
from fxhpc.client.sending.functions import FunctionCache
from fxhpc.serialize import pack_function, pack_initializer, pack_result


async def fetch(x: int) -> int:
    return x


async def fetch_each(x: int) -> AsyncIterator[int]:
    yield x


def count(x: int) -> Iterator[int]:
    yield x


class Fetcher:
    async def __call__(self, x: int) -> int:
        return x

    async def fetch(self, x: int) -> int:
        return x


CASES = [
    (fetch, r"fetch is a coroutine function.*asyncio\.run\(fetch\(\*args\)\)"),
    (fetch_each, "fetch_each is an asynchronous generator"),
    (count, r"count is a generator function.*list\(count\(\*args\)\)"),
    (Fetcher(), "Fetcher is a coroutine function"),
    (Fetcher().fetch, "fetch is a coroutine function"),
    (partial(partial(fetch), 1), "fetch is a coroutine function"),
]


@pytest.mark.parametrize(("function", "told"), CASES)
def test_it_is_refused_as_a_function(function: Callable[..., Any], told: str) -> None:
    with pytest.raises(errors.RegistrationError, match=told):
        pack_function(function)
    with pytest.raises(errors.RegistrationError, match=told):
        FunctionCache().pack(function)


@pytest.mark.parametrize(("function", "told"), CASES)
def test_it_is_refused_as_an_initializer(function: Callable[..., Any], told: str) -> None:
    with pytest.raises(errors.RegistrationError, match=f"initializer {told}"):
        pack_initializer(function, (1,))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (fetch, r"a coroutine runs in a loop.*asyncio\.run"),
        (fetch_each, r"an asynchronous generator.*asyncio\.run"),
        (count, r"a generator has run nothing yet.*list\(\.\.\.\)"),
    ],
)
def test_as_a_result_it_is_told_with_what_to_do(made: Callable[[int], Any], told: str) -> None:
    result = made(1)
    try:
        with pytest.raises(errors.SerializationError, match=f"packing of the result: {told}"):
            pack_result(result, 1000)
    finally:
        if hasattr(result, "close"):
            result.close()


@pytest.mark.parametrize("function", [len, Fetcher, "abc".upper, lambda: [n * n for n in (1, 2)]])
def test_others_are_not(function: Callable[..., Any]) -> None:
    pack_function(function)

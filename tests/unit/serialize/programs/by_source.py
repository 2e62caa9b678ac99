"""Functions of all shapes through a worker that cannot read their byte code."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import sys

from remote import Remote

from fxhpc.errors import SerializationError

SCALE = 3


def doubled(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return 2 * fn(*args, **kwargs)

    wrapper.extra = "kept"
    return wrapper


@doubled
@doubled
def decorated(x: NotThere, *, y: AlsoNot = 5) -> Neither:  # noqa: F821
    return x + y * SCALE


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def counter(start):
    count = start

    def add(n=10, /, *, twice=False):
        """Documented."""
        nonlocal count
        count += n * (2 if twice else 1)
        return count

    return add


def countdown(n):
    yield n
    if n:
        yield from countdown(n - 1)


async def later(n):
    await asyncio.sleep(0)
    return [x async for x in numbers(n)]


async def numbers(n):
    for x in range(n):
        yield x * SCALE


def text():
    return """
no indentation here
"""


def annotated_inside():
    def inner(x: NotThere):  # noqa: F821
        return x

    return inner.__annotations__, inner.__qualname__


class Base:
    __secret = 4

    def __init__(self, value):
        self.__value = value

    def get(self, *, __add=1):
        return self.__value + self.__secret + __add

    @property
    def twice(self):
        return 2 * self.get()

    @classmethod
    def make(cls, value):
        return cls(value)

    @staticmethod
    def plain(value):
        return value + SCALE


class Derived(Base):
    def get(self):
        return super().get() * __class__.FACTOR

    FACTOR = 10


@dataclasses.dataclass(order=True, frozen=True)
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list)
    z: dataclasses.InitVar[int] = 0

    def __post_init__(self, z):
        object.__setattr__(self, "sum", self.x + z)


@dataclasses.dataclass
class Wrapped:
    x: int


Wrapped.__repr__ = doubled(Wrapped.__repr__)  # not what dataclass would write


def change(point):
    try:
        point.x = 2
    except dataclasses.FrozenInstanceError:
        return "frozen"


one, two = (lambda x: x + 1), (lambda x: x - 1)
in_a_call = sorted(
    [3, 1, 2],
    key=functools.partial(
        lambda sign, x: (
            sign * x  # ends in the middle of a statement
        ),
        -1,
    ),
)
table = {"a": lambda: "é", "b": lambda x=lambda: 7: x()}


def main():
    with Remote() as r:
        assert r.call(decorated, 1) == 4 * 16
        assert decorated.extra == r.call(lambda: decorated.extra) == "kept"
        assert r.call(factorial, 5) == 120
        assert r.call(counter(5)) == 15
        assert r.call(counter(6), 1, twice=True) == 8
        assert r.call(lambda: counter(1).__doc__) == "Documented."
        assert r.call(lambda: list(countdown(2))) == [2, 1, 0]
        assert r.call(lambda: asyncio.run(later(3))) == [0, 3, 6]
        assert r.call(text) == text()
        annotations, name = r.call(annotated_inside)
        assert annotations == {"x": "NotThere"}
        assert name == "annotated_inside.<locals>.inner"
        assert r.call(lambda d: (d.get(), d.twice), Derived(1)) == (60, 120)
        assert r.call(lambda: Derived.make(2).get()) == 70
        assert r.call(Derived.plain, 1) == 4
        assert r.call(lambda: Point(1, z=4).sum) == 5
        assert r.call(lambda p: (p < Point(2), p == Point(1), hash(p.x)), Point(1)) == (1, 1, 1)
        assert r.call(repr, Point(1)) == "Point(x=1, y=[])"
        assert r.call(change, Point(1)) == "frozen"
        assert r.call(one, 1) == 2
        assert r.call(two, 1) == 0
        assert r.call(table["a"]) == "é"
        assert r.call(table["b"]) == 7
        assert type(r.call(Derived, 1)) is Derived
        # A function that was made there comes back, and goes there again.
        there = r.call(counter, 1)
        assert r.call(there) == 11
        assert there() == 11
        for without_source in (eval("lambda: 1"), lambda: Wrapped(1)):
            words = ""
            try:
                r.call(without_source)
            except SerializationError as error:
                words = str(error)
            here = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
            assert f"code was made by {here}" in words
            assert "it came without its source" in words
    print("DONE")


if __name__ == "__main__":
    main()

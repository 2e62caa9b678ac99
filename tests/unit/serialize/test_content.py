"""What calls are is told alike by every process, however it packs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fxhpc import ShellFunction
from fxhpc.serialize import content, telling
from fxhpc.serialize.calls import ArgumentPacker
from fxhpc.serialize.content import Contents, content_of

SCRIPT = """
import collections, dataclasses, enum, sys
if "dill" in sys.argv:
    import dill  # which changes what pickle does
from fxhpc.serialize.calls import ArgumentPacker
from fxhpc.serialize.content import Contents, content_of

@dataclasses.dataclass
class Point:
    x: float
    others: set

@dataclasses.dataclass(frozen=True)
class Frozen:
    x: float = 1.0
    others: frozenset = frozenset("abcdefgh")

    def next(self):
        return {Frozen, helper, Colour.RED}

Pair = collections.namedtuple("Pair", "a b")

class Colour(enum.Enum):
    RED = 1

def shift(by):
    def shifted(x):
        return x + by
    return shifted

texts = {str(n) for n in range(50)}
table = {str(n): (n, [n]) for n in range(500)}

def helper(x, *, first=Frozen(2.0), among={"p", "q"}):
    return [function(i) for i in x if i in {"a", "b"}], Pair(1, 2), table, everything

def function(x):
    return helper([x]), (lambda: texts), Colour.RED

class Node:
    def __init__(self, parent=None):
        self.parent, self.children = parent, set()
        if parent is not None:
            parent.children.add(self)

root = Node()
Node(root), Node(root)
everything = {function, helper, Frozen, Colour.RED, Pair(1, 2), root}
pack = ArgumentPacker().pack
contents = Contents()
for args, kwargs in [
    ((1, "a", None), {"b": b"c"}),
    ((texts, frozenset(texts)), {}),
    ((Point(1.5, texts),), {"colour": Colour.RED, "kind": Point}),
    ((shift(2), shift(Point(1, texts))), {}),
    (({"nested": [texts, (Point(2, {1}),)]},), {}),
    (("x" * 100_000, Point(1, texts)), {}),
    (([Point(n, {n}) for n in range(3000)],), {}),
]:
    contents.add(args, kwargs, pack(args, kwargs, 10**9))
    contents.add(args, kwargs)
for value in (root, everything, function, Frozen(), Frozen().next, Pair):
    contents.add((value,), {})
assert content_of(function) and content_of(Frozen)
print(content_of(function).hex())
print(content_of(Frozen).hex())
print(contents.digest().hex())
"""


def test_in_two_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = [
        subprocess.Popen(
            [sys.executable, str(script), *others],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, *others in (("1",), ("2", "dill"))
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in started]
    assert [len(line) for line in said[0].split()] == [64, 64, 64]
    assert said[0] == said[1]


class Thing:
    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self) -> Any:
        return self.value


def told(*calls: tuple[Any, ...]) -> bytes:
    pack, contents = ArgumentPacker().pack, Contents()
    for args in calls:
        contents.add(args, {}, pack(args, {}, 10**9))
    return contents.digest()


def test_what_differs_is_told_apart() -> None:
    def add(n: int) -> Any:
        return lambda x: x + n

    def take(n: int) -> Any:
        return lambda x: x - n

    large = b"x" * 100_000
    given: list[tuple[Any, ...]] = [
        (),
        (1,),
        (1.0,),
        (True,),
        ("1",),
        (b"1",),
        ([1],),
        ((1,),),
        ({1},),
        (frozenset({1}),),
        ({1, 2},),
        (Thing(1),),
        (Thing(2),),
        (Thing,),
        (add(1),),
        (add(2),),
        (take(1),),
        (large,),
        (large + b"y",),
        (large, Thing(1)),
        (large, Thing(2)),
    ]
    assert len({told(call) for call in given}) == len(given)
    assert told((1,), (2,)) != told((2,), (1,))
    assert told((1,)) != told((1,), (1,))


def test_whether_equal_texts_are_one_object_does_not_matter() -> None:
    one, other = "a long text", "".join(["a long", " text"])
    assert one is not other
    assert told((one, one)) == told((one, other))
    assert told(([one, one, {2}],)) == told(([one, other, {2}],))


def made(source: str) -> Any:
    """What a script without a file calls `f`: its source is not found."""
    names: dict[str, Any] = {"__name__": "__main__"}
    names |= {"ShellFunction": ShellFunction, "partial": partial}
    exec(source, names)
    return names["f"]


CHANGED = {
    "code": "def f(x): return x + {n}",
    "attribute that is asked": "def f(x): return x.a{n}",
    "code inside": "def f(x):\n def g(): return x + {n}\n return g()",
    "default": "d = {n}\ndef f(x, y=d): return y",
    "default by keyword": "d = {n}\ndef f(x, *, y=d): return y",
    "closure": "def make(n):\n def g(x): return x + n\n return g\nf = make({n})",
    "closure's function": "def make(n):\n def g(x): return n()\n return g\nf = make(lambda: {n})",
    "global": "N = {n}\ndef f(x): return x + N",
    "list": "N = [[{n}]]\ndef f(x): return x + N",
    "large table": "N = {{i: [i, {n}] for i in range(1000)}}\ndef f(x): return N",
    "set": "N = {{1, ({n}, 'a')}}\ndef f(x): return N",
    "helper": "def h(x): return x + {n}\ndef f(x): return h(x)",
    "helper's helper": "N = {n}\ndef i(x): return N\ndef h(x): return i(x)\ndef f(x): return h(x)",
    "helper in a table": "T = {{'h': lambda x: x + {n}}}\ndef f(x): return T['h'](x)",
    "recursion": "def h(x): return f(x) + {n}\ndef f(x): return h(x)",
    "class": "class A:\n def m(s): return {n}\ndef f(x): return A().m()",
    "base": "class A:\n def m(s): return {n}\nclass B(A): pass\ndef f(x): return B().m()",
    "instance": "class A: pass\na = A()\na.n = {n}\ndef f(x): return a.n",
    "method": "class A:\n def __init__(s): s.n = {n}\n def m(s, x): return s.n\nf = A().m",
    "callable": "class A:\n def __init__(s): s.n = {n}\n def __call__(s): pass\nf = A()",
    "its class": "class A:\n def __call__(s, x): return {n}\nf = A()",
    "partial": "def g(x, y): return x\nf = partial(g, {n})",
    "partial's function": "def g(x, y): return {n}\nf = partial(g, 1)",
    "wrapped": "from functools import lru_cache\n@lru_cache\ndef f(x): return {n}",
    "attribute": "def f(x): return f.n\nf.n = {n}",
    "shell": "f = ShellFunction('echo {n}')",
    "shell's file": "f = ShellFunction('echo', stdout='file {n}')",
    "shell's form": "f = ShellFunction('echo', return_dict={n} > 1)",
    "shell's time": "f = ShellFunction('echo', walltime={n})",
}


@pytest.mark.parametrize("source", CHANGED.values(), ids=CHANGED.keys())
def test_a_function_is_told_by_all_that_goes_along_with_it(source: str) -> None:
    one, same, other = (made(source.format(n=n)) for n in (1, 1, 100))
    assert len(content_of(one)) == 32
    assert content_of(one) == content_of(same) != content_of(other)
    assert told((one,)) == told((same,)) != told((other,))


def pairs() -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    def make(n: int) -> Callable[[int], int]:
        def shifted(x: int) -> int:
            return x + n

        return shifted

    one, other = lambda x: x + 1, lambda x: x + 100
    return {
        "closure": (make(1), make(100)),
        "line": (one, other),
        "method": (Thing(1).get, Thing(100).get),
    }


@pytest.mark.parametrize("name", pairs())
def test_functions_with_a_source_that_is_the_same(name: str) -> None:
    one, other = pairs()[name]
    same, _ = pairs()[name]
    assert content_of(one) == content_of(same) != content_of(other)


def test_of_the_users_modules_the_sources_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module, below = tmp_path / "told_beside.py", tmp_path / "told_below.py"
    below.write_text("N = 1\n")
    module.write_text("import told_below\n\n\nclass Thing: pass\ndef h(x): return x + 1\n")
    import told_beside  # type: ignore[import-not-found]

    caller = made("import told_beside\ndef f(x): return told_beside.h(x)")
    large = [told_beside.Thing(), b"x" * 100_000]

    def all_of() -> list[bytes]:
        return [
            content_of(caller),
            content_of(told_beside.h),
            told((told_beside.h,)),
            told((told_beside.Thing(),)),
            told((large,)),
        ]

    first = all_of()
    module.touch()
    assert all_of() == first
    module.write_text(module.read_text().replace("+ 1", "+ 100"))
    second = all_of()
    below.write_text("N = 2\n")
    third = all_of()
    for several in zip(first, second, third, strict=True):
        assert len(set(several)) == 3
    for name in ("told_beside", "told_below"):
        sys.modules.pop(name, None)


def test_helpers_that_call_helpers(tmp_path: Path) -> None:
    chain = "\n".join(f"def g{n}(x): return g{n + 1}(x)" for n in range(400))
    source = f"{chain}\ndef g400(x): return {{n}}\nf = g0"
    one, other = (content_of(made(source.format(n=n))) for n in (1, 100))
    assert len(one) == 32
    assert one != other


def test_a_function_with_very_many_objects_is_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "class A: pass\nmany = [A() for _ in range({n})]\ndef f(x): return many"
    monkeypatch.setattr(content, "MOST_OBJECTS", 200)
    assert content_of(made(source.format(n=20)))
    assert content_of(made(source.format(n=400))) == b""
    assert content_of(made("many = list(range(1000))\ndef f(x): return many"))


def test_plain_containers() -> None:
    inner = [1]
    assert telling._is_plain([[n, {str(n): (None, b"")}] for n in range(100)])
    assert not telling._is_plain([inner, inner])
    assert not telling._is_plain([1, {2}])
    inner.append(inner)  # type: ignore[arg-type]
    assert not telling._is_plain(inner)
    assert told(([inner] * 2 + [0] * 200,)) != told(([inner, [1]] + [0] * 200,))
    many = list(range(1000))
    assert told((many,)) == told((list(many),)) != told((tuple(many),))


def test_what_cannot_be_told_is_what_was_packed() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    assert told((cyclic,)) == told((cyclic,))

    def again() -> Any:
        return again

    assert told((again, {1})) == told((again, {1}))
    assert told(({1: 2}.keys(),)) != told(({2: 1}.keys(),))  # as dill packs them
    assert content_of(made("v = {1: 2}.keys()\ndef f(x): return v")) == b""

# ruff: noqa: B008, PT017, UP006, UP033, UP045 -- written as users write
"""Everything a user may define in a script, a prompt or a notebook, sent to a worker and back.

Run as `__main__`; prints one JSON line: for each case "" or what went wrong.
"""

import abc
import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools
import json
import linecache
import math
import operator
import threading
import traceback
import typing
import urllib.error
import xml.etree.ElementTree

import helpers_module
from helpers_module import Vector, make_adder, shift, twice
from remote import Remote

CASES = {}


def case(fn):
    CASES[fn.__name__] = fn
    return fn


SCALE = 3
UNUSED_LOCK = threading.Lock()
USED_LOCK = threading.Lock()
TABLE = {"a": 1}


class Point:
    """A plain class with methods that refer to everything."""

    origin_made = 0

    def __init__(self, x, y=0):
        self.x, self.y = x, y

    def __eq__(self, other):
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self):
        return hash((self.x, self.y))

    def moved(self, dx) -> "Point":
        return Point(self.x + dx * SCALE, self.y)

    def box(self):
        return Box(self, self.moved(1))

    @property
    def norm(self):
        return math.hypot(self.x, self.y)

    @classmethod
    def origin(cls):
        return cls(0, 0)

    @staticmethod
    def scale(x):
        return scaled(x)

    class Inner:
        def __init__(self, v):
            self.v = v


class Box:
    __slots__ = ("__weakref__", "a", "b")

    def __init__(self, a, b):
        self.a, self.b = a, b

    def first(self) -> Point:
        return self.a if isinstance(self.a, Point) else Point(-1)


class Point3(Point):
    def __init__(self, x, y, z):
        super().__init__(x, y)
        self.z = z

    def moved(self, dx):
        moved = super().moved(dx)
        return Point3(moved.x, moved.y, self.z)


def scaled(x):
    return x * SCALE


@dataclasses.dataclass(order=True)
class Item:
    name: str
    cost: float = 1.0
    tags: list = dataclasses.field(default_factory=list)
    kind: typing.ClassVar[str] = "item"

    def doubled(self) -> "Item":
        return dataclasses.replace(self, cost=self.cost * 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    at: Point
    n: int = 0


class Color(enum.Enum):
    RED = 1
    GREEN = 2

    @property
    def other(self):
        return Color.GREEN if self is Color.RED else Color.RED


class Planet(enum.Enum):
    EARTH = (5.97, 6.37)
    MARS = (0.64, 3.39)

    def __init__(self, mass, radius):
        self.mass, self.radius = mass, radius

    @property
    def density(self):
        return self.mass / self.radius**3


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()


class Text(str, enum.Enum):
    HI = "hi"


Pair = collections.namedtuple("Pair", "left right")


class Typed(typing.NamedTuple):
    x: int
    y: str = "y"

    def both(self):
        return f"{self.x}{self.y}"


class Failure(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class SimpleFailure(ValueError):
    pass


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class Square(Shape):
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side**2


T = typing.TypeVar("T")


class Stack(typing.Generic[T]):
    def __init__(self, items: typing.List[T]):
        self.items = items

    def top(self) -> T:
        return self.items[-1]


class Plugin:
    registry = []

    def __init_subclass__(cls, key, **kwargs):
        super().__init_subclass__(**kwargs)
        Plugin.registry.append(key)
        cls.key = key


class Meta(type):
    def __new__(mcs, name, bases, namespace, **kwargs):
        made = super().__new__(mcs, name, bases, namespace)
        made.made_by = "meta"
        return made


class WithMeta(Plugin, key="k1"):
    pass


class Metaed(metaclass=Meta):
    @functools.cached_property
    def slow(self):
        return self.made_by


class Callable_:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return x + self.n


def is_even(n):
    return True if n == 0 else is_odd(n - 1)


def is_odd(n):
    return False if n == 0 else is_even(n - 1)


@functools.lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


@functools.singledispatch
def described(x):
    return "thing"


@described.register(int)
def _(x):
    return "int"


@twice
def decorated(x):
    """Documented."""
    return x + SCALE


def logged(fn):
    @functools.wraps(fn)
    def inner(*args):
        return ("logged", fn(*args))

    return inner


@logged
def with_logged(x):
    return x + 1


def annotated(p: Point, q: "Point" = None, *rest: Box, key: typing.Optional[Item] = None) -> Point:
    return p


@contextlib.contextmanager
def managed(n):
    yield n + SCALE


def counting():
    calls = 0

    def bump():
        nonlocal calls
        calls += 1
        return calls

    def read():
        return calls

    return bump, read


@case
def plain(r):
    assert r.call(scaled, 4) == 12


@case
def lambdas(r):
    assert r.call(lambda x: x + SCALE, 1) == 4
    assert r.call(lambda fs: [f(2) for f in fs], [lambda x: x, lambda x: x * SCALE]) == [2, 6]


@case
def seed_imports_inside(r):
    def today():
        from datetime import date

        return date.today().year

    assert r.call(today) > 2000


@case
def recursion(r):
    def fact(n):
        return 1 if n == 0 else n * fact(n - 1)

    assert r.call(fact, 5) == 120
    assert r.call(is_even, 10) is True


@case
def closures(r):
    n = 5
    assert r.call(lambda x: x + n, 1) == 6

    def run(pair):
        bump, read = pair
        bump()
        bump()
        return read()

    assert r.call(run, counting()) == 2


@case
def classes_keep_identity(r):
    result = r.call(lambda p: p.moved(1), Point(1, 2))
    assert type(result) is Point
    assert result == Point(4, 2)
    assert r.call(lambda p: isinstance(p, Point), Point(1)) is True
    assert type(r.call(lambda: Point.origin())) is Point
    assert r.call(lambda p: type(p) is Point and Point.scale(2) == 6, Point(1)) is True
    assert r.call(lambda a, b: type(a) is type(b), Point(1), Point(2)) is True


@case
def classes_refer_to_each_other(r):
    box = r.call(Point.box, Point(1, 1))
    assert type(box) is Box
    assert type(box.b) is Point
    assert type(r.call(lambda b: b.first(), Box(1, 2))) is Point


@case
def subclasses_and_super(r):
    moved = r.call(lambda p: p.moved(2), Point3(1, 2, 3))
    assert type(moved) is Point3
    assert (moved.x, moved.z) == (7, 3)
    assert r.call(lambda p: isinstance(p, Point), Point3(1, 2, 3))


@case
def nested_and_local_classes(r):
    inner = r.call(lambda: Point.Inner(4))
    assert type(inner) is Point.Inner

    class Local:
        def twin(self):
            return Local()

        def __repr__(self):
            return __class__.__name__

    assert type(r.call(lambda x: x.twin(), Local())) is Local
    assert r.call(repr, Local()) == "Local"


@case
def class_made_on_the_worker(r):
    def make():
        class Made:
            n = 7

            def get(self):
                return self.n

        return Made(), Made

    made, cls = r.call(make)
    assert type(made) is cls
    assert made.get() == 7
    assert r.call(lambda x: x.get(), made) == 7


@case
def dataclasses_(r):
    item = r.call(lambda i: i.doubled(), Item("a", 2.0, ["t"]))
    assert item == Item("a", 4.0, ["t"])
    assert type(item) is Item
    assert r.call(lambda: Item("x").tags) == []
    assert r.call(lambda i: [f.name for f in dataclasses.fields(i)], item) == [
        "name",
        "cost",
        "tags",
    ]
    missing = r.call(lambda: dataclasses.fields(Item)[0].default is dataclasses.MISSING)
    assert missing is True
    frozen = r.call(lambda f: Frozen(f.at.moved(1), f.n + 1), Frozen(Point(1)))
    assert frozen == Frozen(Point(4), 1)


@case
def enums(r):
    assert r.call(lambda c: c.other, Color.RED) is Color.GREEN
    assert r.call(lambda c: c is Color.RED and Color(1) is c and Color["RED"] is c, Color.RED)
    assert r.call(lambda p: (p is Planet.MARS, p.mass, p.density > 0), Planet.MARS) == (
        True,
        0.64,
        True,
    )
    assert r.call(lambda x: Level(x), 2) is Level.HIGH
    assert r.call(lambda x: x < Level.HIGH, Level.LOW) is True
    assert r.call(lambda f: f | Flags.B, Flags.A) is Flags.A | Flags.B
    assert r.call(lambda f: (Flags.B in f, Flags(3) is f), Flags.A | Flags.B) == (True, True)
    assert r.call(lambda t: (t is Text.HI, t + "!"), Text.HI) == (True, "hi!")
    assert r.call(lambda: [c.name for c in Color]) == ["RED", "GREEN"]


@case
def namedtuples(r):
    pair = r.call(lambda p: p._replace(left=p.right), Pair(1, 2))
    assert pair == Pair(2, 2)
    assert type(pair) is Pair
    typed = r.call(lambda t: (t, t.both()), Typed(1))
    assert typed == (Typed(1), "1y")
    assert type(typed[0]) is Typed


@case
def exceptions(r):
    def fail(kind):
        if kind == 1:
            raise Failure(3, "bad")
        if kind == 2:
            raise SimpleFailure("simple")
        raise urllib.error.HTTPError("http://x", 404, "gone", {}, None)

    for kind, cls, text in (
        (1, Failure, "3: bad"),
        (2, SimpleFailure, "simple"),
        (3, urllib.error.HTTPError, "HTTP Error 404: gone"),
    ):
        try:
            r.call(fail, kind)
        except Exception as error:
            assert type(error) is cls, error
            assert str(error) == text
            assert "in fail" in str(error.__cause__)
            assert "worker_child" in str(error.__cause__) or kind
        else:
            raise AssertionError("nothing raised")


@case
def abstract_and_generic(r):
    assert r.call(lambda s: s.area(), Square(3)) == 9
    assert r.call(lambda s: isinstance(s, Shape), Square(3)) is True

    def abstract():
        try:
            Shape()
        except TypeError:
            return "abstract"

    assert r.call(abstract) == "abstract"
    assert r.call(lambda s: s.top(), Stack([1, 2])) == 2
    assert type(r.call(lambda: Stack[int]([1]))) is Stack


@case
def metaclasses_and_hooks(r):
    assert r.call(lambda p: (p.key, Plugin.registry), WithMeta()) == ("k1", ["k1"])
    assert r.call(lambda: Metaed().slow) == "meta"

    def derive():
        class More(Plugin, key="k2"):
            pass

        return More.key, Plugin.registry

    assert r.call(derive) == ("k2", ["k1", "k2"])


@case
def decorated_functions(r):
    assert r.call(decorated, 1) == 8
    assert decorated.__doc__ == r.call(lambda: decorated.__doc__)
    assert r.call(with_logged, 1) == ("logged", 2)
    assert r.call(fib, 20) == 6765
    assert r.call(lambda: (fib(10), fib.cache_info().currsize > 3)) == (55, True)
    assert r.call(lambda: (described(1), described("x"))) == ("int", "thing")


@case
def annotations(r):
    assert type(r.call(annotated, Point(1))) is Point


@case
def context_managers_and_generators(r):
    def use():
        with managed(1) as value:
            return value

    assert r.call(use) == 4

    def numbers(n):
        yield from range(n)

    assert r.call(lambda n: list(numbers(n)), 3) == [0, 1, 2]

    async def later(n):
        return n + SCALE

    assert r.call(lambda: asyncio.run(later(1))) == 4


@case
def callables_of_all_kinds(r):
    assert r.call(len, [1, 2]) == 2
    assert r.call(math.hypot, 3, 4) == 5
    assert r.call(str.upper, "a") == "A"
    assert r.call("abc".upper) == "ABC"
    assert r.call(operator.itemgetter(1), [1, 2]) == 2
    assert r.call(functools.partial(scaled), 2) == 6
    assert r.call(functools.partial(pow, 2), 5) == 32
    assert r.call(functools.partial(lambda a, b: a - b, b=1), 3) == 2
    assert r.call(Callable_(3), 1) == 4
    assert r.call(Point(1, 2).moved, 1) == Point(4, 2)
    assert r.call(Point.origin) == Point(0, 0)
    assert r.call(Point.scale, 2) == 6
    assert r.call(Point, 7) == Point(7)
    assert r.call(int, "7") == 7
    assert r.call(dict, a=1) == {"a": 1}


@case
def unused_globals_do_not_matter(r):
    assert r.call(lambda: SCALE) == 3

    def attribute_of_the_same_name(x):
        return x.USED_LOCK if hasattr(x, "USED_LOCK") else 0

    assert r.call(attribute_of_the_same_name, 1) == 0


@case
def unpicklable_globals_are_named(r):
    from fxhpc.errors import SerializationError

    def inner():
        with USED_LOCK:
            return 1

    def outer():
        return inner()

    log = open(__import__("os").devnull)  # noqa: SIM115
    for fn, words in (
        (inner, ["global 'USED_LOCK' of inner", "_thread.lock"]),
        (outer, ["variable 'inner' around outer", "global 'USED_LOCK' of inner"]),
        (lambda: log.read(), ["variable 'log' around <lambda>", "TextIOWrapper"]),
        (lambda x=iter(helpers_module.LOCK for _ in "a"): x, ["a default of <lambda>"]),
    ):
        try:
            r.call(fn)
        except SerializationError as error:
            for word in words:
                assert word in str(error), (word, str(error))
        else:
            raise AssertionError(f"{fn} was packed")
    try:
        r.call(scaled, {"a": [1, USED_LOCK]})
    except SerializationError as error:
        assert "['a'] -> [1] is a _thread.lock" in str(error), error
    log.close()


@case
def unpicklable_results_are_named(r):
    from fxhpc.errors import SerializationError

    def locked():
        import threading

        return {"result": threading.Lock()}

    try:
        r.call(locked)
    except SerializationError as error:
        assert "['result']" in str(error)
    else:
        raise AssertionError("packed")


@case
def what_dill_alone_packs(r):
    assert list(r.call(lambda: {"a": 1}.keys())) == ["a"]
    assert list(r.call(lambda v: sorted(v), {"b": 1, "a": Point(1)}.keys())) == ["a", "b"]
    values = list(r.call(lambda: {"a": Point(2)}.values()))
    assert type(values[0]) is Point


@case
def user_modules(r):
    assert r.call(shift, 1) == 11
    assert r.call(make_adder(5), 1) == 16
    assert r.call(lambda x: helpers_module.shift(x), 1) == 11
    assert r.call(lambda v: Vector(v.x, 0), Vector(1, 2)) == Vector(1, 0)


@case
def modules_as_globals(r):
    assert r.call(lambda: xml.etree.ElementTree.fromstring("<a/>").tag) == "a"
    assert r.call(lambda: math.floor(2.5)) == 2


@case
def global_state_is_shared_within_a_function(r):
    def bump():
        global SCALE
        SCALE += 1
        return scaled(1)

    assert r.call(bump) == 4
    assert SCALE == 3


def define(number, text, namespace):
    """As a notebook's cell: lines that linecache knows."""
    file = f"<defined {number}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), namespace)


@case
def redefined_class_has_its_own_identity(r):
    namespace = {"__name__": "__main__"}
    define(1, "class Cell:\n    v = 1\n    def get(self): return self.v", namespace)
    old = namespace["Cell"]
    first = r.call(lambda x: x, old())
    define(2, "class Cell:\n    v = 2\n    def get(self): return self.v * 10", namespace)
    new = namespace["Cell"]
    second = r.call(lambda x: (x, x.get()), new())
    assert type(first) is old
    assert type(second[0]) is new
    assert second[1] == 20
    assert r.call(lambda x: (type(x).v, x.get()), old()) == (1, 1)


@case
def changed_class_arrives_changed(r):
    class Tuned:
        factor = 1
        seen = []

        def get(self):
            return self.factor, list(self.seen)

    get = lambda t: t.get()  # noqa: E731
    assert r.call(get, Tuned()) == (1, [])
    Tuned.factor = 2
    assert r.call(get, Tuned()) == (2, [])
    Tuned.seen.append("x")
    assert r.call(get, Tuned()) == (2, ["x"])
    Tuned.get = lambda self: "new"
    assert r.call(get, Tuned()) == "new"
    del Tuned.factor
    assert r.call(lambda t: hasattr(t, "factor"), Tuned()) is False


class Priv:
    __slots__ = ("__hidden", "b")

    def __init__(self):
        self.__hidden, self.b = 5, 1

    def get(self):
        return self.__hidden


class Going(typing.Protocol):
    def go(self) -> int: ...


class Goer(Going):
    def go(self):
        return 1


class Reduced:
    def __init__(self, v):
        self.v = v

    def __reduce__(self):
        return (Reduced, (self.v,))


Reduced.DEFAULT = Reduced(3)


class EqualMeta(type):
    def __eq__(cls, other):
        return True

    def __hash__(cls):
        return 1


class Equal1(metaclass=EqualMeta):
    pass


class Equal2(metaclass=EqualMeta):
    pass


class Named:
    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        return self.name


class HasNamed:
    attribute = Named()


class WithLock:
    def __init__(self):
        self.lock = threading.Lock()

    def __getstate__(self):
        return {"a": 1}

    def __setstate__(self, state):
        self.lock = threading.Lock()


class Items(list):
    def total(self):
        return sum(self)


class Tree(dict):
    def __missing__(self, key):
        return self.setdefault(key, Tree())


class Two(tuple):
    def __new__(cls, a, b):
        return super().__new__(cls, (a, b))

    def __getnewargs__(self):
        return tuple(self)


@case
def odd_classes(r):
    assert r.call(lambda p: (p.get(), p), Priv())[1].get() == 5
    assert r.call(lambda g: g.go(), Goer()) == 1
    assert r.call(lambda: Reduced.DEFAULT.v) == 3
    names = r.call(lambda a, b: [type(a).__name__, type(b).__name__], Equal1(), Equal2())
    assert names == ["Equal1", "Equal2"]
    assert r.call(lambda h: h.attribute, HasNamed()) == "attribute"
    assert r.call(lambda w: w.lock.locked(), WithLock()) is False
    items = r.call(lambda i: Items([i.total()]), Items([1, 2]))
    assert (type(items), items) == (Items, [3])
    assert type(r.call(lambda t: t[1][2], Tree())) is Tree
    assert r.call(lambda t: t, Two(1, 2)) == Two(1, 2)
    error = r.call(lambda e: e, Failure(3, "sent as an argument"))
    assert (type(error), error.code) == (Failure, 3)
    assert r.call(lambda c: c["x"], collections.defaultdict(lambda: Items([1]))) == [1]
    assert r.call(functools.partialmethod(scaled).func, 1) == 3


@case
def exits(r):
    from fxhpc.errors import TaskExecutionFailed, TaskExited, TaskInterrupted

    def leave(code):
        import sys

        sys.exit(code)

    def interrupt():
        raise KeyboardInterrupt

    def other():
        raise GeneratorExit("out")

    for fn, args, cls in (
        (leave, (3,), TaskExited),
        (interrupt, (), TaskInterrupted),
        (other, (), TaskExecutionFailed),
    ):
        try:
            r.call(fn, *args)
        except Exception as error:
            assert type(error) is cls
            if cls is TaskExited:
                assert error.code == 3
        else:
            raise AssertionError("nothing raised")


def main():
    outcome = {}
    with Remote() as r:
        for name, run in CASES.items():
            try:
                run(r)
                outcome[name] = ""
            except BaseException:
                outcome[name] = traceback.format_exc()
    print("OUTCOME" + json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()

"""Initializers: run once in a worker, for all functions of their Executor, which share globals."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fxhpc import errors, warm
from fxhpc.client.sending.functions import FunctionCache
from fxhpc.serialize import Loader, pack_function, pack_initializer, spaces

SCRIPT = """
import os
model = None
table = {}
bound = 1
calls = []

def load(*given):
    global model
    model = given
    table["model"] = given
    calls.append(1)

def fail():
    raise LookupError("no such file")

def leave():
    raise SystemExit(3)

def helper():
    return model

def use():
    return helper()

def use_table():
    return dict(table), len(calls), bound

def write(value):
    global bound
    bound = value
"""


@pytest.fixture
def loader() -> Iterator[Loader]:
    found = Loader()
    yield found
    found.close()
    spaces.forget()
    warm.forget_all()


@pytest.fixture
def script() -> dict[str, Any]:
    """A script's names: functions of no module that anybody could import."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SCRIPT, "script.py", "exec"), names)
    return names


def _there(loader: Loader, packed: Any) -> Callable[..., Any]:
    return loader.load_function(packed.digest, packed.body)


def test_functions_see_what_it_has_assigned(loader: Loader, script: dict[str, Any]) -> None:
    initializer = pack_initializer(script["load"], (1, "two"))
    assert initializer.name == "load"
    cache = FunctionCache(initializer)
    assert _there(loader, cache.pack(script["use"]))() == (1, "two")
    assert _there(loader, cache.pack(script["use_table"]))() == ({"model": (1, "two")}, 1, 1)
    assert script["model"] is None


def test_other_functions_see_nothing_of_it(loader: Loader, script: dict[str, Any]) -> None:
    first, second = (pack_initializer(script["load"], (n,)) for n in (1, 2))
    assert _there(loader, pack_function(script["use"], first))() == (1,)
    assert _there(loader, pack_function(script["use"], second))() == (2,)
    assert _there(loader, pack_function(script["use"]))() is None


def test_what_was_defined_anew_is_run_and_what_was_assigned_there_stays(
    loader: Loader, script: dict[str, Any]
) -> None:
    cache = FunctionCache(pack_initializer(script["load"], (1,)))
    assert _there(loader, cache.pack(script["use"]))() == (1,)
    exec("def helper():\n    return 'new', model", script)
    script["bound"] = 2
    assert _there(loader, cache.pack(script["use"]))() == ("new", (1,))
    assert _there(loader, cache.pack(script["use_table"]))()[2] == 2
    _there(loader, cache.pack(script["write"]))(7)
    script["bound"] = 3
    assert _there(loader, cache.pack(script["use_table"]))()[2] == 7


def test_a_failure_is_told_each_time_and_it_is_not_run_again(
    loader: Loader, script: dict[str, Any]
) -> None:
    cache = FunctionCache(pack_initializer(script["fail"], ()))
    for name in ("use", "use", "use_table"):
        with pytest.raises(errors.InitializerFailed, match=r"fail.*LookupError: no such") as raised:
            _there(loader, cache.pack(script[name]))
        assert "script.py" in str(raised.value.__cause__)
    with pytest.raises(errors.InitializerFailed, match="SystemExit: 3"):
        _there(loader, pack_function(script["use"], pack_initializer(script["leave"], ())))


def test_what_stands_around_it(loader: Loader, script: dict[str, Any]) -> None:
    story: list[str] = []

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        story.append("begins")
        yield
        story.append("ended well")

    loader.initializing = around
    for name in ("load", "fail"):
        cache = FunctionCache(pack_initializer(script[name], ()))
        with contextlib.suppress(errors.InitializerFailed):
            _there(loader, cache.pack(script["use"]))
            _there(loader, cache.pack(script["use_table"]))
    assert story == ["begins", "ended well", "begins"]


def test_it_runs_anew_when_modules_were_dropped(loader: Loader, script: dict[str, Any]) -> None:
    packed = pack_function(script["use"], pack_initializer(script["load"], (1,)))
    first = _there(loader, packed)
    warm.keep("kept", object)
    loader._drop()
    assert not warm.forget("kept")
    again = loader.load_function(packed.digest)
    assert again is not first
    assert again() == (1,)


def test_a_body_without_one_is_as_older_workers_know_it(script: dict[str, Any]) -> None:
    import pickle

    assert pickle.loads(pack_function(script["use"]).body)[0] == 2
    assert len(pickle.loads(pack_function(script["use"]).body)) == 6
    with_one = pack_function(script["use"], pack_initializer(script["load"], ()))
    assert pickle.loads(with_one.body)[0] == 3  # which they refuse, and do not run without it


def test_what_cannot_be_sent_is_named(script: dict[str, Any]) -> None:
    import threading

    with pytest.raises(errors.SerializationError, match=r"packing of initializer load: .*lock"):
        pack_initializer(script["load"], (threading.Lock(),))


def test_two_scripts_of_one_name_do_not_mix(loader: Loader, script: dict[str, Any]) -> None:
    other: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SCRIPT, "script.py", "exec"), other)
    initializer = pack_initializer(script["load"], (1,))
    assert _there(loader, pack_function(script["use"], initializer))() == (1,)
    assert _there(loader, pack_function(other["use"], initializer))() is None
    assert isinstance(other["use"], types.FunctionType)


def test_what_the_last_few_have_left_behind_is_kept(loader: Loader, script: dict[str, Any]) -> None:
    packed = [
        pack_function(script["use_table"], pack_initializer(script["load"], (n,))) for n in range(6)
    ]

    def calls(number: int) -> int:
        """How often its initializer has run, as far as what is left behind tells."""
        table, count, _ = _there(loader, packed[number])()
        assert table == {"model": (number,)}
        return int(count)

    first = [_there(loader, one) for one in packed[:4]]
    assert calls(0) == 1  # the one that was used last
    calls(4)
    calls(5)
    assert _there(loader, packed[0]) is first[0]
    assert _there(loader, packed[3]) is first[3]
    again = _there(loader, packed[1])
    assert again is not first[1]
    assert again()[:2] == ({"model": (1,)}, 1)  # it has run anew, with globals of its own
    assert len(spaces._spaces) == len(spaces._brought) == 4
    assert len(loader._tokens) == 4

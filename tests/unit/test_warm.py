"""Values that are kept: made once, by one thread; not by a failure, and not for ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

import fxhpc
from fxhpc import warm


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    warm.forget_all()
    yield
    warm.forget_all()


def test_a_value_is_made_once() -> None:
    made: list[int] = []
    first = fxhpc.keep("list", lambda: made)
    assert first is made
    assert fxhpc.keep("list", list) is made
    assert fxhpc.keep(("list", 2), list) is not made


def test_none_is_a_value() -> None:
    calls: list[None] = []
    for _ in range(2):
        assert fxhpc.keep("none", lambda: calls.append(None)) is None
    assert len(calls) == 1


def test_what_is_forgotten_is_made_anew() -> None:
    first = fxhpc.keep("a", object)
    assert fxhpc.forget("a")
    assert not fxhpc.forget("a")
    assert fxhpc.keep("a", object) is not first


def test_a_failure_keeps_nothing() -> None:
    with pytest.raises(ZeroDivisionError):
        fxhpc.keep("a", lambda: 1 // 0)
    assert fxhpc.keep("a", lambda: 3) == 3


def test_threads_make_it_once() -> None:
    began, go_on = threading.Event(), threading.Event()
    makers: list[int] = []

    def make() -> object:
        makers.append(threading.get_ident())
        began.set()
        assert go_on.wait(10)
        return object()

    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(fxhpc.keep("a", make)))]
    threads[0].start()
    assert began.wait(10)
    threads += [
        threading.Thread(target=lambda: found.append(fxhpc.keep("a", make))) for _ in range(3)
    ]
    for thread in threads[1:]:
        thread.start()
    assert fxhpc.keep("b", lambda: 1) == 1  # whoever wants another does not wait
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(makers) == 1
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_who_waits_for_a_failure_makes_it() -> None:
    began, go_on = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def fail() -> object:
        began.set()
        assert go_on.wait(10)
        raise OSError("not now")

    def ask() -> None:
        try:
            fxhpc.keep("a", fail)
        except OSError as error:
            raised.append(error)

    found: list[int] = []
    first = threading.Thread(target=ask)
    first.start()
    assert began.wait(10)
    second = threading.Thread(target=lambda: found.append(fxhpc.keep("a", lambda: 7)))
    second.start()
    go_on.set()
    first.join(10)
    second.join(10)
    assert (len(raised), found) == (1, [7])


def test_a_value_that_needs_itself() -> None:
    with pytest.raises(RuntimeError, match=r"keep\('a'\).*asks for it itself"):
        fxhpc.keep("a", lambda: fxhpc.keep("a", object))
    assert fxhpc.keep("a", lambda: fxhpc.keep("b", lambda: 2) + 1) == 3


def test_mistakes() -> None:
    with pytest.raises(TypeError, match=r"function without arguments, not int"):
        fxhpc.keep("a", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unhashable"):
        fxhpc.keep([], object)  # type: ignore[arg-type]


def test_a_child_has_what_its_parent_kept_and_makes_what_a_thread_was_making() -> None:
    began, go_on = threading.Event(), threading.Event()

    def make() -> int:
        began.set()
        assert go_on.wait(10)
        return 1

    fxhpc.keep("kept", lambda: 5)
    thread = threading.Thread(target=lambda: fxhpc.keep("a", make))
    thread.start()
    assert began.wait(10)
    pid = os.fork()
    if pid == 0:
        well = fxhpc.keep("kept", lambda: 0) == 5 and fxhpc.keep("a", lambda: 2) == 2
        os._exit(0 if well else 1)
    status = os.waitpid(pid, 0)[1]
    go_on.set()
    thread.join(10)
    assert status == 0
    assert fxhpc.keep("a", lambda: 3) == 1

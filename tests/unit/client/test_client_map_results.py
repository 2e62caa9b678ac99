"""`map_run(...).results()`: values in windows that grow and shrink, and what ends them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import FuncXClient, errors, ids
from fxhpc.client.map_ids import MapIds
from fxhpc.client.results import Results
from fxhpc.client.selection import Selection
from fxhpc.client.values import Missing
from fxhpc.protocol import service

MB = 2**20


class Told:
    """In the place of `Results`: every value is its call's number, and of so many bytes."""

    def __init__(self, sizes: Iterable[int], at_most: int = 10**9) -> None:
        self.sizes = [*sizes]
        self.windows: list[int] = []
        self.ended: list[str] = []
        self.fails_at = -1
        self._at_most = at_most

    def values(self, asked: Selection, timeout: float | None, room: float) -> tuple[Any, int]:
        self.windows.append(len(asked))
        found: list[Any] = []
        came = 0
        for name in asked.names:
            number = int(name[28:], 16)
            if number == self.fails_at:
                raise KeyboardInterrupt
            came += self.sizes[number]
            found.append(number)
            if came > room:
                break
        return found, came

    def interrupt(self, asked: Selection) -> None:
        self.ended += asked.names


def _map(told: Any, count: int, calls: int = 0) -> MapIds:
    return MapIds(ids.task_ids(ids.new_stream(calls), range(count)), told)


def test_windows_grow_while_values_are_small() -> None:
    told = Told([100] * 100_000)
    assert list(_map(told, 100_000).results()) == [*range(100_000)]
    assert told.windows[:5] == [1, 2, 4, 8, 16]
    assert max(told.windows) <= 20_000
    assert len(told.windows) < 40


def test_windows_have_whole_chunks() -> None:
    told = Told([100] * 20_000)
    assert list(_map(told, 20_000, 3125).results()) == [*range(20_000)]
    assert told.windows == [3125, 6250, 20_000 - 9375]


def test_windows_of_large_values_are_small() -> None:
    told = Told([100] * 5000 + [MB] * 500)  # none knows before that they become large
    values = _map(told, 5500).results()
    assert [next(values) for _ in range(5000)] == [*range(5000)]
    told.windows.clear()
    assert list(values) == [*range(5000, 5500)]
    assert max(told.windows[1:]) <= 17


def test_a_value_that_is_larger_than_a_window_comes_alone() -> None:
    told = Told([40 * MB] * 20)
    assert list(_map(told, 20).results()) == [*range(20)]
    assert set(told.windows) == {1}


def test_ids_that_were_put_in_another_order() -> None:
    told = Told([1] * 50)
    found = _map(told, 50, 7)
    found.reverse()
    assert list(found.results()) == [*reversed(range(50))]


def test_ctrl_c_ends_all_that_was_not_read() -> None:
    told = Told([1] * 1000)
    told.fails_at = 40
    found = _map(told, 1000)
    values = found.results()
    with pytest.raises(KeyboardInterrupt):
        list(values)
    assert told.ended == found[31:]  # the windows before were 1, 2, 4, 8 and 16


def test_ctrl_c_cancels_at_the_forwarder(
    client: FuncXClient, forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarder.service.teach(abs)
    forwarder.do(lambda: setattr(forwarder.service, "hold", True))
    function = client.register_function(abs)
    found = client.map_run(range(100), endpoint_id="local", function_id=function, chunksize=10)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Results, "values", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(found.results())
    done = threading.Event()
    forwarder.do(done.set)
    assert done.wait(10)
    (cancel,) = [one for one in forwarder.service.seen if isinstance(one, service.CancelTasks)]
    assert cancel.interrupt
    assert [part.ranges for part in cancel.tasks] == [[0, 10]]


@pytest.mark.parametrize("size", [1, 3])
def test_values_and_errors_come_in_order(
    client: FuncXClient, forwarder: FakeForwarder, size: int
) -> None:
    forwarder.service.teach(len)
    function = client.register_function(len)
    given = ["a" * number for number in range(20)]
    found = client.map_run(
        [*given, 5, "b"], endpoint_id="local", function_id=function, chunksize=size
    )
    values = found.results(10)
    assert [next(values) for _ in given] == [*range(20)]
    with pytest.raises(TypeError):
        next(values)


@pytest.mark.parametrize("size", [1, 4])
def test_reading_stops_where_there_is_no_more_room(
    client: FuncXClient, forwarder: FakeForwarder, size: int
) -> None:
    forwarder.service.teach(bytes)
    function = client.register_function(bytes)
    found = client.map_run([1000] * 4100, endpoint_id="local", function_id=function, chunksize=size)
    values, came = client._results.values(Selection(found), 10, 500_000)
    assert 0 < len(values) < 4100
    assert set(values) == {bytes(1000)}
    assert came > 500_000
    assert len(client._results.values(Selection(found), 10)[0]) == 4100


def test_a_wrong_timeout_is_told_at_once() -> None:
    with pytest.raises(errors.UsageError, match="timeout"):
        _map(Told([]), 3).results("x")  # type: ignore[arg-type]


def test_what_has_not_ended_by_then(client: FuncXClient, forwarder: FakeForwarder) -> None:
    forwarder.service.teach(abs)
    forwarder.do(lambda: setattr(forwarder.service, "hold", True))
    function = client.register_function(abs)
    found = client.map_run(range(10), endpoint_id="local", function_id=function)
    forwarder.do(lambda: forwarder.service.run_held(3))
    values = found.results(0.05)
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(errors.TaskPending) as pending:
        next(values)
    assert pending.value.task_id == found[3]
    assert isinstance(client._results.values(Selection(found), 0)[0][9], Missing)


@pytest.mark.parametrize("size", [1, 4])
def test_an_element_that_cannot_be_sent_is_named(client: FuncXClient, size: int) -> None:
    function = client.register_function(abs)
    bad = [*range(9), threading.Lock()]
    with pytest.raises(errors.SerializationError, match=re.escape("element 9 (counted")) as told:
        client.map_run(bad, endpoint_id="local", function_id=function, chunksize=size)
    assert type(told.value) is errors.SerializationError
    client.max_payload = 5000
    large = [*range(10), "x" * 10_000, 1]
    with pytest.raises(errors.PayloadTooLarge, match=re.escape("element 10 (counted")):
        client.map_run(large, endpoint_id="local", function_id=function, chunksize=size)

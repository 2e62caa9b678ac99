"""The garbage collector waits while very much is read, and is as it was afterwards."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fxhpc import ids
from fxhpc.client import results, tasks
from fxhpc.client.collector import MANY, without_collecting
from fxhpc.client.selection import Selection
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import VALUE, Outcome
from fxhpc.serialize import pack_result


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


@pytest.mark.parametrize("is_on", [True, False])
def test_it_is_afterwards_as_the_user_had_it(is_on: bool) -> None:
    (gc.enable if is_on else gc.disable)()
    assert without_collecting(gc.isenabled) is False
    assert gc.isenabled() is is_on


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_also_after_an_error(error: type[BaseException]) -> None:
    def fail(text: str) -> None:
        raise error(text)

    with pytest.raises(error, match="late"):
        without_collecting(fail, "late")
    assert gc.isenabled()


def test_two_threads_at_a_time_leave_it_on() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def call() -> bool:
        begun.set()
        return may_end.wait(10)

    other = threading.Thread(target=without_collecting, args=(call,))
    other.start()
    assert begun.wait(10)
    assert without_collecting(lambda: without_collecting(gc.isenabled)) is False
    may_end.set()
    other.join(10)
    assert gc.isenabled()


class Forwarder:
    """Answers each question when it is waited for, and notes whether anything is collected then."""

    def __init__(self) -> None:
        self.collects: set[bool] = set()

    def call(self, message: service.Fetch) -> Any:
        return SimpleNamespace(wait=lambda _: self._answer(message))

    def _answer(self, message: service.Fetch) -> service.States:
        self.collects.add(gc.isenabled())
        (part,) = message.tasks
        packed = pack_result([1], 100)
        found = [
            service.TaskState(index, states.SUCCESS, "", Outcome(index, VALUE, packed, 0.1))
            for index in ids.from_ranges(part.ranges)
        ]
        return service.States(message.call, [service.StreamStates(part.stream, found)])


@pytest.mark.parametrize("count", [10, MANY + 1])
def test_very_many_are_told_of_without_collecting_and_waited_for_with_it(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarder: Any = Forwarder()
    known: Any = SimpleNamespace(known={})
    attached: Any = SimpleNamespace(connection=forwarder)
    found = results.Results(lambda: attached, known)
    monkeypatch.setattr(
        results.Results,
        "reader",
        property(lambda self: tasks.Reader(forwarder)),
    )
    selection = Selection(ids.task_ids(ids.new_stream(), range(count)))
    told = {"collects": set[bool]()}

    def tell(state: service.TaskState, name: str) -> dict[str, Any]:
        told["collects"].add(gc.isenabled())
        return {"index": state.index}

    assert [one["index"] for one in found.read(selection, 5.0, tell).values()] == [*range(count)]
    assert told["collects"] == {count <= MANY}
    assert forwarder.collects == {True}  # who waits may wait for long
    assert found.values(selection, 5.0)[0] == [[1]] * count
    assert gc.isenabled()

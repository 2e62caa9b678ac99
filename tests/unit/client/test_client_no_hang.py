"""No future hangs: whatever fails on the client's side ends in an error, or is made good."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, errors
from fxhpc.client.connection.embedded import EmbeddedConnection
from fxhpc.client.futures import following
from fxhpc.client.started import local
from fxhpc.client.started.local import LocalEndpoint
from fxhpc.ids import new_id
from fxhpc.protocol import service
from tests.waiting import eventually

_want = LocalEndpoint.want  # as it was before the fixture for all tests of this directory
_start = threading.Thread.start


def _no_more_threads(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def start(self: threading.Thread) -> None:
        if self.name == name:
            raise RuntimeError("can't start new thread")
        _start(self)

    monkeypatch.setattr(threading.Thread, "start", start)


def test_without_a_thread_for_local_submit_says_so(
    forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalEndpoint, "want", _want)
    _no_more_threads(monkeypatch, "fxhpc-local")
    with Executor(1) as executor:
        for _ in range(2):
            with pytest.raises(errors.WorkerStartFailed, match="can't start new thread"):
                executor.submit(len, "x")


def test_without_a_descriptor_or_room_for_its_manager_futures_end(
    forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalEndpoint, "want", _want)
    monkeypatch.setattr(local, "_BACKOFF_S", 0.001)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local, "anonymous_file", full)
    forwarder.service.hold = True
    with Executor(1) as executor, pytest.raises(errors.WorkerStartFailed, match="No space left"):
        executor.submit(len, "x").result(10)


def test_without_a_thread_for_callbacks_they_are_called_all_the_same(
    executor: Executor, forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarder.service.teach(len)
    _no_more_threads(monkeypatch, "fxhpc-callbacks")
    called = threading.Event()
    future = executor.submit(len, "abc")
    future.add_done_callback(lambda _: called.set())
    assert future.result(10) == 3
    assert called.wait(10)


def test_a_message_that_cannot_be_sent_ends_its_futures_and_not_the_next_ones(
    executor: Executor, forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarder.service.teach(len)
    assert executor.submit(len, "a").result(10) == 1
    call = EmbeddedConnection.call

    def fail(self: Any, message: Any, *then: Any) -> Any:
        if isinstance(message, service.Submit):
            raise MemoryError("no room for a message")
        return call(self, message, *then)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedConnection, "call", fail)
        for _ in range(5):
            with pytest.raises(MemoryError, match="no room"):
                executor.submit(len, "ab").result(10)
    assert executor.submit(len, "abc").result(10) == 3


@pytest.mark.parametrize("passing", [True, False])
def test_results_that_cannot_be_read_are_asked_for_again_and_told_in_the_end(
    forwarder: FakeForwarder, monkeypatch: pytest.MonkeyPatch, passing: bool
) -> None:
    monkeypatch.setattr(following, "_REFUSED_S", 0.2 if passing else 0.001)
    forwarder.service.teach(len)
    refusal = service.Failed(0, "ForwarderError", ["the store cannot be read"])
    with Executor(1) as executor:
        executor.task_group_id = new_id()
        forwarder.service.refuse[service.Fetch] = refusal
        future = executor.submit(len, "abc")
        eventually(lambda: any(isinstance(m, service.Fetch) for m in forwarder.service.seen))
        if passing:
            del forwarder.service.refuse[service.Fetch]
            assert future.result(10) == 3
        else:
            with pytest.raises(errors.ForwarderError, match="cannot be read"):
                future.result(10)
            del forwarder.service.refuse[service.Fetch]
            assert executor.submit(len, "abcd").result(10) == 4

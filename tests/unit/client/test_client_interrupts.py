"""Ctrl-C anywhere in a submission: what is submitted later gets its own values, and ends."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from fake_forwarder import FakeForwarder
from interrupts import Interrupts, until_done

from fxhpc import Executor, FuncXClient
from fxhpc.client import mapping, submissions
from fxhpc.client.connection import attachments
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.connection.embedded import EmbeddedConnection
from fxhpc.client.sending import groups, outbox, shared, streams, submitter

_MODULES = (groups, mapping, outbox, shared, streams, submissions, submitter)
_until_done = functools.partial(until_done, _MODULES)


def _own(value: Any) -> Any:
    return value


@pytest.fixture
def taught(forwarder: FakeForwarder) -> FakeForwarder:
    forwarder.service.teach(_own)
    return forwarder


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("is_new", [False, True])
def test_submit(executor: Executor, taught: FakeForwarder, times: int, is_new: bool) -> None:
    assert executor.submit(_own, 0).result(10) == 0

    def job() -> None:
        if is_new:
            executor._submitter.set_option(retries=3)  # another stream from here on
        executor.submit(_own, -1)

    for place, _ in enumerate(_until_done(times, job)):
        later = [executor.submit(_own, (place, number)) for number in range(3)]
        assert [future.result(10) for future in later] == [(place, n) for n in range(3)]
    executor.shutdown()  # which would wait for what is counted and was never sent


def test_submit_while_much_is_under_way(executor: Executor, taught: FakeForwarder) -> None:
    for place, _ in enumerate(_until_done(1, lambda: executor.submit(_own, -1))):
        taught.do(lambda: setattr(taught.service, "hold", True))
        later = [executor.submit(_own, (place, number)) for number in range(5)]
        assert later[0].cancel()
        taught.do(lambda: setattr(taught.service, "hold", False))
        taught.do(taught.service.run_held)
        assert [future.result(10) for future in later[1:]] == [(place, n) for n in range(1, 5)]
    executor.shutdown()


# One that comes when a map is dropped is lost, and Python tells of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("size", [1, 2])
def test_map(executor: Executor, taught: FakeForwarder, times: int, size: int) -> None:
    def job() -> None:
        executor.map(_own, range(5), chunksize=size)

    for place, _ in enumerate(_until_done(times, job)):
        expected = [(place, number) for number in range(5)]
        assert list(executor.map(_own, expected, chunksize=size, timeout=10)) == expected
    executor.shutdown()


def test_a_shutdown_sends_what_an_interrupt_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(path: str, workers: int) -> Attachment:
        fake = FakeForwarder()
        fake.service.teach(_own)
        return Attachment(EmbeddedConnection(fake), workers)

    monkeypatch.setattr(attachments, "embed", embed)
    place, interrupted = 0, True
    while interrupted:
        executor = Executor(2)
        assert executor.submit(_own, 0).result(10) == 0
        job = functools.partial(executor.submit, _own, -1)
        interrupted = Interrupts(_MODULES, place).run(job)
        executor.shutdown()
        place += 1
    assert place > 20


@pytest.mark.parametrize("times", [1, 2])
def test_run(client: FuncXClient, taught: FakeForwarder, times: int) -> None:
    function = client.register_function(_own)

    def submit(value: Any) -> str:
        return str(client.run(value, endpoint_id="local", function_id=function))

    submit(0)
    for place, _ in enumerate(_until_done(times, lambda: submit(-1))):
        later = [submit((place, number)) for number in range(3)]
        assert [client.get_result(task, timeout=10) for task in later] == [
            (place, number) for number in range(3)
        ]

"""The connection to a home outlives forwarders, losses and silence."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fake_forwarder import FakeHome

from fxhpc import errors, ids
from fxhpc.client.connection import home as home_module
from fxhpc.client.connection import patience
from fxhpc.client.connection.home import HomeConnection
from fxhpc.client.shown.sparing import SparingLog
from fxhpc.protocol import service
from fxhpc.protocol.messages import ResultRun, StreamInfo
from fxhpc.serialize import pack_arguments, pack_function
from tests.waiting import eventually


def square(x: int) -> int:
    return x * x


class _Sink:
    def __init__(self) -> None:
        self.runs: list[ResultRun] = []
        self.losses: list[BaseException] = []

    def take_results(self, run: ResultRun) -> None:
        self.runs.append(run)

    def take_started(self, indices: list[int]) -> None:
        pass

    def take_loss(self, error: BaseException, stored_only: bool = False) -> None:
        self.losses.append(error)


def _info(keep: bool = False) -> StreamInfo:
    return StreamInfo(
        ids.new_stream(),
        "4b116d3c-1703-4f8f-9f6f-39921e5864df",
        pack_function(square).digest,
        keep=keep,
    )


def _submit(info: StreamInfo, first: int, *values: int) -> service.Submit:
    payloads = [pack_arguments((value,), {}, 1000) for value in values]
    return service.Submit(0, [service.Submission(info, first, payloads)])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "_HEARTBEAT_S", 0.1)
    monkeypatch.setattr(home_module, "_SILENCE_S", 0.5)


@pytest.fixture
def connection(home: FakeHome) -> Iterator[HomeConnection]:
    home.service.teach(square)
    made = HomeConnection(home.locate, patience=2.0)
    yield made
    made.close()


def test_calls(connection: HomeConnection) -> None:
    assert isinstance(connection.ask(service.GetStatus(0, "x"), 10), service.EndpointStatus)
    assert connection.attached is not None
    assert connection.attached.managers == "ipc:///nowhere"


def test_refusals_are_errors(connection: HomeConnection, home: FakeHome) -> None:
    home.service.refuse[service.GetStatus] = service.Failed(0, "EndpointNotFound", ["abc"])
    with pytest.raises(errors.EndpointNotFound, match="abc"):
        connection.ask(service.GetStatus(0, "abc"), 10)


def test_pushes_are_delivered_and_acknowledged(connection: HomeConnection, home: FakeHome) -> None:
    info, sink = _info(), _Sink()
    connection.add_sink(info.stream, sink)
    connection.ask(_submit(info, 0, 1, 2, 3), 10)
    eventually(lambda: sink.runs)
    assert [outcome.index for outcome in sink.runs[0].outcomes] == [0, 1, 2]
    eventually(lambda: any(isinstance(m, service.Delivered) for m in home.service.seen))


def test_a_new_forwarder_is_told_what_nobody_answered(
    connection: HomeConnection, home: FakeHome
) -> None:
    info = _info(keep=True)
    connection.ask(_submit(info, 0, 1), 10)
    home.silent = True
    replies = [connection.call(_submit(info, first, first)) for first in (1, 2, 3)]
    time_out = connection.call(service.GetStatus(0, "x"))
    eventually(lambda: not connection._outbox)
    home.kill()
    home.silent = False
    for reply in [*replies, time_out]:
        reply.wait(10)
    assert sorted(home.service.tasks[info.stream]) == [0, 1, 2, 3]
    assert home.starts == 2


def test_the_end_of_the_forwarders_process_is_seen_at_once(home: FakeHome) -> None:
    home.service.teach(square)
    with subprocess.Popen(["sleep", "60"]) as process:
        home.pid = process.pid
        connection = HomeConnection(home.locate)
        try:
            home.kill()
            home.pid = 0
            process.kill()
            began = time.monotonic()
            connection.ask(service.GetStatus(0, "x"), 10)
            assert home.starts == 2
            assert time.monotonic() - began < 0.4
        finally:
            connection.close()


def test_a_lost_message_is_noticed(connection: HomeConnection, home: FakeHome) -> None:
    info = _info(keep=True)
    home.drop.add(service.Submit)
    first = connection.call(_submit(info, 0, 1))
    second = connection.call(_submit(info, 1, 2))
    first.wait(10)
    second.wait(10)
    assert sorted(home.service.tasks[info.stream]) == [0, 1]
    assert home.greetings == 2


def test_calls_fail_when_there_is_no_forwarder(
    connection: HomeConnection, home: FakeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, sink = _info(), _Sink()
    connection.add_sink(info.stream, sink)
    home.kill()

    def unable() -> Any:
        raise errors.HomeError("the home is gone")

    monkeypatch.setattr(connection, "_locate", unable)
    with pytest.raises(errors.HomeError, match="gone"):
        connection.ask(service.GetStatus(0, "x"), 10)
    assert sink.losses
    connection.remove_sink(info.stream)
    monkeypatch.setattr(connection, "_locate", home.locate)
    connection.ask(service.GetStatus(0, "x"), 10)  # and the next call tries again


def test_no_forwarder_at_all() -> None:
    def unable() -> Any:
        raise errors.HomeError("no home")

    with pytest.raises(errors.HomeError, match="no home"):
        HomeConnection(unable)


def test_no_descriptor_is_told_at_once_to_whoever_attaches_and_waited_for_later(
    home: FakeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(errors.ForwarderUnreachable, match=r"home/x .*this process .*ulimit -n"):
        HomeConnection(full, home="/home/x")
    connection = HomeConnection(home.locate)
    try:
        monkeypatch.setattr(connection, "_locate", full)
        home.kill()
        reply = connection.call(service.GetStatus(0, "x"))
        eventually(lambda: connection._patience.failures > 1)
        monkeypatch.setattr(connection, "_locate", home.locate)
        assert isinstance(reply.wait(10), service.EndpointStatus)
    finally:
        connection.close()


def test_a_refused_greeting(home: FakeHome) -> None:
    from fxhpc.protocol.messages import Refuse

    handle = home.service.handle

    def refuse(peer: Any, message: Any) -> None:
        if isinstance(message, service.Attach):
            peer(Refuse("you are 1.0, I am 2.0"))
        else:
            handle(peer, message)

    home.service.handle = refuse  # type: ignore[method-assign]
    with pytest.raises(errors.VersionMismatch, match=r"2\.0"):
        HomeConnection(home.locate)


def test_closing_sends_what_waits(home: FakeHome) -> None:
    connection = HomeConnection(home.locate)
    for _ in range(50):
        connection.post(service.CancelTasks(0, []))
    connection.close()
    seen = home.service.seen
    eventually(lambda: sum(isinstance(m, service.CancelTasks) for m in seen) == 50)
    with pytest.raises(errors.ForwarderError, match="closed"):
        connection.ask(service.GetStatus(0, "x"), 10)


def test_a_blocked_thread_is_told_of_the_close(home: FakeHome) -> None:
    connection = HomeConnection(home.locate)
    home.silent = True
    reply = connection.call(service.GetStatus(0, "x"))
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            reply.wait(10)
        except errors.ForwarderError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    connection.close()
    thread.join(10)
    assert caught


def test_what_cannot_be_sent_harms_nobody_else(connection: HomeConnection) -> None:
    for message in (
        service.GetStatus(0, "\ud800"),
        service.Search(0, "x", 2**70),
        service.Search(0, "x", "y"),  # type: ignore[arg-type]
    ):
        with pytest.raises(errors.UsageError, match="Nothing was sent"):
            connection.call(message)
    assert isinstance(connection.ask(service.GetStatus(0, "x"), 10), service.EndpointStatus)


class _Stillborn:
    """Where a forwarder was that has died already."""

    def __init__(self, clients: str) -> None:
        self.clients = clients
        with subprocess.Popen(["true"]) as process:
            self.pid = process.pid
        self.starts = 0

    def locate(self) -> _Stillborn:
        self.starts += 1
        return self


def test_forwarders_that_die_at_once_are_told_to_whoever_waits_for_the_first(
    home: FakeHome,
) -> None:
    forwarder = _Stillborn(home.locate().clients)
    with pytest.raises(errors.ForwarderUnreachable, match=r"of /home/x .*; no space left"):
        HomeConnection(forwarder.locate, last_words=lambda: "no space left", home="/home/x")
    assert forwarder.starts == 5


def test_forwarders_that_die_at_once_are_not_started_without_end(
    home: FakeHome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "_NEXT_S", 0.05)
    forwarder = _Stillborn(home.locate().clients)
    connection = HomeConnection(home.locate, patience=1.0)
    try:
        monkeypatch.setattr(connection, "_locate", forwarder.locate)
        home.kill()
        with pytest.raises(errors.ForwarderUnreachable, match="in a row died"):
            connection.ask(service.GetStatus(0, "x"), 10)
        assert 5 <= forwarder.starts <= 12
        monkeypatch.setattr(connection, "_locate", home.locate)
        connection.ask(service.GetStatus(0, "x"), 10)  # and the next call tries again
    finally:
        connection.close()
    assert sum("is gone" in record.message for record in caplog.records) <= 1


def test_a_mistake_before_the_greeting_is_told(
    home: FakeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(self: HomeConnection) -> None:
        raise AttributeError("oops")

    monkeypatch.setattr(HomeConnection, "_greet", mistake)
    with pytest.raises(errors.ForwarderError, match=r"a mistake in fxhpc.*oops"):
        HomeConnection(home.locate)


def test_a_forwarder_that_is_stopped_is_named_with_what_lets_it_go_on(
    home: FakeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home_module, "_GREETING_S", 0.05)
    home.silent, home.pid = True, os.getpid()
    with pytest.raises(errors.ForwarderUnreachable, match=f"`kill -CONT {os.getpid()}`"):
        HomeConnection(home.locate, patience=0.1)


def test_a_warning_that_recurs_is_shown_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    sparing = SparingLog(logging.getLogger("fxhpc.test"))
    for _ in range(3):
        sparing.warning(60.0, "the %s is gone", "forwarder")
    sparing.warning(0.0, "again")
    shown = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert shown == ["the forwarder is gone", "again"]


def test_a_forwarder_of_a_lower_epoch_is_not_listened_to(
    home: FakeHome, connection: HomeConnection
) -> None:
    """One that was taken over, and does not know yet: the one that answered last owns the home."""
    home.service.epoch = 2
    home.kill()
    assert connection.ask(service.Search(0, ""), timeout=5)
    home.service.epoch = 1
    home.kill()
    before = home.starts
    reply = connection.call(service.Search(0, ""))
    eventually(lambda: home.starts > before)
    greeted = home.greetings
    eventually(lambda: home.greetings > greeted + 1)
    with pytest.raises(TimeoutError):
        reply.wait(0)
    home.service.epoch = 3
    assert reply.wait(10)

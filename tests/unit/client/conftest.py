"""Executors and clients whose forwarder is a fake in a thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_forwarder import FakeForwarder, FakeHome

from fxhpc import Executor, FuncXClient
from fxhpc.client.connection import attachments
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.connection.embedded import EmbeddedConnection
from fxhpc.client.started.local import LocalEndpoint


@pytest.fixture(autouse=True)
def _no_managers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalEndpoint, "want", lambda self: True)


@pytest.fixture
def forwarder(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeForwarder]:
    fake = FakeForwarder()
    monkeypatch.setattr(
        attachments, "embed", lambda path, workers: Attachment(EmbeddedConnection(fake), workers)
    )
    yield fake
    fake.close()


@pytest.fixture
def executor(forwarder: FakeForwarder) -> Iterator[Executor]:
    made = Executor(2)
    yield made
    made.shutdown(wait=False, cancel_futures=True)


@pytest.fixture
def client(forwarder: FakeForwarder) -> Iterator[FuncXClient]:
    made = FuncXClient(embedded=True, wait=0.3)
    yield made
    made.close()


@pytest.fixture
def home() -> Iterator[FakeHome]:
    fake = FakeHome()
    yield fake
    fake.close()

"""Clients and executors belong to a process: who would send one to another is told what to do."""

from __future__ import annotations

import pickle

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient


def test_clients_and_executors_are_not_packed(
    client: FuncXClient, executor: Executor, forwarder: FakeForwarder
) -> None:
    for one in (client, executor):
        with pytest.raises(TypeError, match=r"belongs to the process that made it.*make one there"):
            pickle.dumps(one)
        with pytest.raises(Exception, match=r"belongs to the process that made it"):
            executor.submit(id, one)

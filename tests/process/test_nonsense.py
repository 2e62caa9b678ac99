"""Nonsense from a client: an answer for whoever said it, and no harm to anybody else."""

from __future__ import annotations

import pytest
from homes import TestHome

from fxhpc import FuncXClient, errors
from fxhpc.client.connection.connection import Connection
from fxhpc.ids import parse_task_id
from fxhpc.protocol import service


def test_what_is_no_endpoint_is_not_found(client: FuncXClient, home: TestHome) -> None:
    function = client.register_function(abs)
    before = home.forwarder()
    for name in ("my-cluster", "4b116d3c", "6a2e9d0c-1111-4222-8333-944455566677"):
        with pytest.raises(errors.EndpointNotFound):
            client.run(1, endpoint_id=name, function_id=function)
        with pytest.raises(errors.EndpointNotFound):
            client.get_endpoint_status(name)
    assert client.get_result(client.run(-1, endpoint_id="local", function_id=function)) == 1
    assert home.forwarder() == before


@pytest.mark.parametrize("ranges", [[0], [-3, 2], [0, 2**40], [0, 2**32, 0, 2**32]])
def test_ranges_that_are_none_are_refused(
    client: FuncXClient, home: TestHome, ranges: list[int]
) -> None:
    function = client.register_function(abs)
    task = client.run(-1, endpoint_id="local", function_id=function)
    stream, _ = parse_task_id(task)
    before = home.forwarder()
    connection: Connection = client._attached().connection
    named = [service.StreamRanges(stream, ranges)]
    for call in (service.Fetch(0, named), service.CancelTasks(0, named)):
        with pytest.raises(errors.ForwarderError, match="refused"):
            connection.ask(call)
    assert client.get_result(task) == 1
    assert home.forwarder() == before

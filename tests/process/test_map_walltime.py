"""A walltime declared for calls in a chunk is that of each: one that hangs is ended alone."""

from __future__ import annotations

import threading

import pytest

from fxhpc import FuncXClient, errors


def call(x: int) -> int:
    print(f"at {x}", flush=True)
    if x == 3:
        threading.Event().wait()
    return 2 * x


def test_a_call_that_hangs_is_ended_alone(client: FuncXClient) -> None:
    function = client.register_function(call)
    client.resource_specification = {"walltime": 0.5}
    client.capture_output = True
    found = client.map_run(
        range(6),
        endpoint_id="local",
        function_id=function,
        chunksize=6,
    )
    told = client.get_batch_result(found, timeout=60)
    assert [told[name].get("result") for name in found] == [0, 2, 4, None, 8, 10]
    with pytest.raises(errors.TaskWalltimeExceeded) as late:
        client.get_result(found[3])
    assert late.value.limit == 0.5
    assert 0.5 <= late.value.ran < 1.5
    assert "its declared walltime of 500 ms was over" in str(late.value)
    details = client.get_task(found[3])["details"]
    assert details["stdout"].split("\n") == ["at 0", "at 1", "at 2", "at 3", ""]
    assert details["ran_s"] == late.value.ran
    assert "at 3" not in client.get_task(found[4])["details"]["stdout"]

"""A `local` endpoint whose manager cannot start: nobody waits for it for ever."""

from __future__ import annotations

import pytest
from homes import TestHome

from fxhpc import FuncXClient, errors


@pytest.mark.parametrize("way", ["get_result", "wait", "as_completed"])
def test_its_tasks_are_not_waited_for(
    home: TestHome, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    with FuncXClient() as client:
        client._attached().local._command = ["/bin/false"]
        function = client.register_function(abs)
        ids = client.map_run([-1, -2], endpoint_id="local", function_id=function)
        waits = {
            "get_result": lambda: client.get_result(ids[0], timeout=float("inf")),
            "wait": lambda: client.wait(ids),
            "as_completed": lambda: list(client.as_completed(ids)),
        }
        with pytest.raises(errors.WorkerStartFailed, match="exit code 1"):
            waits[way]()

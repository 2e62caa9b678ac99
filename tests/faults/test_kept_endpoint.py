"""The endpoint of `fxhpc.testing` that can be left to chaos: what is killed of it comes again."""

from __future__ import annotations

import pytest

from fxhpc import FuncXClient
from fxhpc.testing.endpoint import RunningEndpoint
from fxhpc.testing.keeper import Keeper
from tests.process.homes import TestHome
from tests.waiting import eventually


def test_a_kept_endpoint_starts_again_what_was_killed(home: TestHome, client: FuncXClient) -> None:
    """Its manager and its interchange are killed: others come, and a task that waits has run."""
    with RunningEndpoint(home.path, "kept", keep=True) as endpoint:
        assert endpoint.interchange is not None
        before = {endpoint.interchange.pid, endpoint.managers[0].pid}
        endpoint.managers[0].kill()
        endpoint.interchange.kill()
        function = client.register_function(pow)
        task = client.run(2, 3, endpoint_id=endpoint.endpoint_id, function_id=function)
        assert client.get_result(task, timeout=60) == 8
        assert not before & {endpoint.interchange.pid, endpoint.managers[0].pid}

        endpoint.keep = False  # what ends now stays dead
        endpoint.managers[0].kill()
        last = endpoint.managers[0]
        last.wait(30)
    assert endpoint.managers == [last]


def test_a_keeper_goes_on_after_a_start_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """A start that fails is told where pytest shows it, and tried again."""
    tries: list[int] = []

    def again() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("the interchange did not start: killed")

    keeper = Keeper("mine", again)
    keeper.start()
    eventually(lambda: len(tries) > 1)
    keeper.stop()
    assert "endpoint mine, started again: the interchange did not start" in capsys.readouterr().err

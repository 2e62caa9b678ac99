"""An endpoint that an older fxhpc has left, and that was killed: what lies there is taken up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.protocol.messages import OLDEST_PROTOCOL, PROTOCOL
from fxhpc.testing.endpoint import RunningEndpoint
from tests.compatibility.endpoints import NAME, SPOOLED, path, unpack
from tests.process.homes import TestHome

PROTOCOLS = range(OLDEST_PROTOCOL, PROTOCOL + 1)

_SCRIPT = """
    import json, os
    from fxhpc import FuncXClient

    with open(os.path.join(os.environ["FXHPC_HOME"], "recorded.json")) as file:
        recorded = json.load(file)
    with FuncXClient() as client:
        client.wait(recorded["spooled"], timeout=30)
        told = client.get_batch_result(recorded["spooled"])
        print(json.dumps({
            "spooled": [told[task].get("result") for task in recorded["spooled"]],
            "gate": client.get_task(recorded["gate"])["status"],
            "running": client.get_task(recorded["running"]),
        }))
"""


@pytest.fixture
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestHome]:
    """The home that an endpoint of a protocol has left."""
    unpack(request.param, tmp_path / "home")
    home = TestHome(tmp_path / "home", tmp_path / "scripts")
    yield home
    home.close()


def test_an_endpoint_of_every_protocol_is_recorded() -> None:
    missing = [protocol for protocol in PROTOCOLS if not path(protocol).exists()]
    assert not missing, f"none of protocol {missing}: tests/compatibility/README.md"


@pytest.mark.parametrize("left", PROTOCOLS, indirect=True)
def test_results_of_its_spool_are_stored_and_what_ran_is_waited_for(left: TestHome) -> None:
    # Nothing can run here: there is no manager. What has a result has it from the spool.
    with RunningEndpoint(left.path, NAME, managers=0) as endpoint:
        told = json.loads(left.run("reads.py", _SCRIPT))
        assert not endpoint.directory.log.read_text().count("ERROR")
        assert endpoint.interchange is not None
        endpoint.interchange.kill()  # told to stop it would wait for the manager, for a while
    assert told["spooled"] == [str(number) for number in range(SPOOLED)]
    assert told["gate"] == "success"
    assert told["running"]["pending"], told["running"]

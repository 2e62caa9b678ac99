"""PBSProProvider, by stand-ins that answer as PBS Pro's commands do and run jobs on this host.

See `pbs/standin.py`: there is no package of PBS, and Slurm's wrappers know no `qstat -F json`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from login_node import LoginNode, configuration, soon
from tasks_on_nodes import all_tell, note, results, runs, submit

from fxhpc import FuncXClient

_STANDINS = Path(__file__).resolve().parent / "pbs"


class StandIn:
    """What the stand-in of PBS has been told and has done."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def jobs(self, state: str = "") -> list[str]:
        """The numbers of the jobs that have not ended, or that are in this state (Q, R)."""
        found = [json.loads(path.read_text()) for path in (self.directory / "jobs").glob("*.json")]
        return sorted(
            str(job["number"])
            for job in found
            if (job["state"] == state if state else job["state"] != "F")
        )

    def calls(self, command: str) -> int:
        """How often a command was run."""
        log = self.directory / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return sum(line.split()[0] == command for line in lines)


@pytest.fixture
def pbs(login: LoginNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """PBS Pro on the login node."""
    directory = tmp_path / "pbs"
    directory.mkdir()
    login.environment["PBS_STANDIN"] = str(directory)
    login.environment["PATH"] = f"{_STANDINS}:{login.environment['PATH']}"
    return StandIn(directory)


def _pbs(**provider: object) -> str:
    config = configuration(type="PBSProProvider", **provider)
    return config.replace("partition: normal", "queue: workq")


def test_pbs_gives_nodes_and_a_new_start_adopts_them(
    login: LoginNode, pbs: StandIn, client: FuncXClient, tmp_path: Path
) -> None:
    (pbs.directory / "slots").write_text("1")
    endpoint = login.endpoint("polaris", _pbs(init_blocks=2, max_blocks=2, cpus_per_node=2))
    endpoint.start()
    soon(lambda: pbs.jobs("R") and pbs.jobs("Q"))
    ids = submit(client, endpoint, note, *((str(tmp_path), index, 4.0) for index in range(4)))
    soon(lambda: len(runs(tmp_path)) == 2)
    before = pbs.jobs()
    login.kill("fxhpc: supervisor", "fxhpc: interchange", "fxhpc: provisioner", "fxhpc: forwarder")
    endpoint.start()
    assert [one["index"] for one in results(client, ids)] == list(range(4))
    assert len(runs(tmp_path)) == 4, "a task ran twice"
    assert pbs.jobs() == before
    assert pbs.calls("qsub") == 2
    endpoint.stop()
    soon(lambda: not pbs.jobs(), within=15)


def test_pbs_says_why_and_everybody_tells(
    login: LoginNode, pbs: StandIn, client: FuncXClient
) -> None:
    wrong = login.endpoint("wrong", _pbs(account="nosuch"))
    failing = login.endpoint("failing", _pbs(worker_init="echo no such module >&2; exit 1"))
    wrong.start()
    failing.start()
    (first,) = submit(client, wrong, abs, (-1,))
    (second,) = submit(client, failing, abs, (-1,))
    all_tell(client, wrong, first, "qsub: Invalid account: nosuch is no project of yours")
    all_tell(client, failing, second, "ended before its manager registered", "no such module")

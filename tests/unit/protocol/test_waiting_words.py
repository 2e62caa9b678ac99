"""What waits at an endpoint, by size: what people are told."""

from __future__ import annotations

import json

import msgspec

from fxhpc.protocol.messages import EndpointReport, WaitingReport
from fxhpc.protocol.needs import UNIT, Needs, pack
from fxhpc.protocol.waiting_words import waiting, waiting_in

FOUR = WaitingReport(pack(Needs(cores=4 * UNIT)), 2, "others that wait have their turn")


def words(**needs: object) -> str:
    (told,) = waiting([WaitingReport(pack(Needs(**needs)), 1)])  # type: ignore[arg-type]
    found: str = told["needs"]
    return found


def test_what_there_is_most_of_comes_first() -> None:
    half = WaitingReport(pack(Needs(cores=500, gpus=0)), 30, "")
    assert waiting([FOUR, half]) == [
        {"needs": "0.5 core, no accelerator", "tasks": 30, "reason": ""},
        {"needs": "4 cores", "tasks": 2, "reason": FOUR.reason},
    ]


def test_all_that_makes_it_another_size_is_told() -> None:
    assert words(priority=5 * UNIT) == "a worker, priority 5"
    assert words(environ=(("MODE", "fast"), ("TOKEN", "x"))) == "a worker, its own MODE, TOKEN"
    assert words(nodes=2, cores=4 * UNIT, ranks=8, launcher_options="--mpi=pmix") == (
        "2 whole nodes with 4 cores each, 8 ranks, launched with --mpi=pmix"
    )


def test_a_report_may_be_of_another_version() -> None:
    report = json.loads(msgspec.json.encode(EndpointReport(waiting=[FOUR])))
    assert waiting_in(report) == waiting([FOUR])
    assert waiting_in({}) == []
    assert waiting_in({"waiting": [{"needs": 3}]}) == []
    (told,) = waiting([WaitingReport(b"\xc1", 1, "because")])
    assert told["needs"] == "something that this version does not know"

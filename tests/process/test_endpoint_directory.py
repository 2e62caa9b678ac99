"""What several processes do with one endpoint's directory at the same time."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from fxhpc.interchange.directory import EndpointDirectory, replace_file

ROUNDS = 50


def _create(parent: Path, start: Barrier, answers: Queue[set[str]]) -> None:
    found = set()
    for number in range(ROUNDS):
        start.wait(30)
        found.add(EndpointDirectory(parent / str(number)).create("midway").endpoint)
        replace_file(parent / str(number) / "stop.json", b"{}")
    answers.put(found)


def test_two_that_create_an_endpoint_make_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    answers: Queue[set[str]] = context.Queue()
    processes = [context.Process(target=_create, args=(tmp_path, start, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    one, other = (answers.get(timeout=30) for _ in processes)
    for process in processes:
        process.join(30)
    assert one == other
    assert len(one) == ROUNDS
    assert not list(tmp_path.glob("*/*.new"))

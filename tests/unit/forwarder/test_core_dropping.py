"""What goes from the store: in steps, later if the store refuses, and nothing that came after."""

from __future__ import annotations

import pytest

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.dropping import RETRY_S
from fxhpc.protocol import service
from tests.unit.forwarder.acting import OTHER, STREAM, Stage, info

CLIENT = b"client"


def stage_with(tasks: int = 10) -> Stage:
    stage = Stage()
    stage.attach(CLIENT)
    stage.up()
    stage.tell(ev.Tick(1e9))
    stage.submit(CLIENT, tasks)
    stage.finish(list(range(tasks)))
    return stage


def left(stage: Stage) -> tuple[int, int, int]:
    """Rows of arguments and of results, and streams marked as forgotten."""
    found = stage.store.recover()
    return len(found.submissions), len(found.results), len(found.dropped)


def test_a_purge_that_the_store_refuses_is_told_and_done_later() -> None:
    """On a full disk: the answer has the store's words, and nothing has to be asked for twice."""
    stage = stage_with()
    stage.submit(CLIENT, 5, info(OTHER), call=2)
    stage.finish(list(range(5)), stream=OTHER, number=2)
    stage.store.refuse_next = 2  # the mark, and the first step
    stage.client(CLIENT, service.PurgeTasks(3))
    (failed,) = stage.said(CLIENT, service.Failed)
    assert (failed.call, failed.error) == (3, "StoreFull")
    assert failed.arguments == ["the disk is full"]
    assert left(stage) == (2, 2, 0)
    stage.tick(RETRY_S)
    assert left(stage) == (0, 0, 0)
    assert stage.store.streams() == set()


def test_another_purge_tries_at_once_what_was_refused() -> None:
    stage = stage_with()
    stage.store.refuse_next = 2
    stage.client(CLIENT, service.PurgeTasks(3))
    stage.client(CLIENT, service.PurgeTasks(4))
    (purged,) = stage.said(CLIENT, service.Purged)
    assert (purged.call, purged.batches) == (4, 0)
    assert left(stage) == (0, 0, 0)
    assert stage.store.streams() == set()


@pytest.mark.parametrize("steps", range(10))
def test_what_a_client_submits_to_a_stream_that_is_being_purged_stays(steps: int) -> None:
    """Its rows are of the same stream, and came while others were dropped: they are not."""
    stage = stage_with(1500)
    stage.submit(CLIENT, 1000, info(OTHER), call=2)
    stage.finish(list(range(1000)), stream=OTHER, number=2)
    for client in stage.core._state.clients.values():
        client.instance = stage.core._state.streams[STREAM].owner
    stage.slow = True
    stage.client(CLIENT, service.PurgeTasks(3))
    stage.work(steps)
    stage.submit(CLIENT, 5, first=1500, call=4)
    stage.slow = False
    stage.work()
    assert [answer.call for answer in stage.said(CLIENT, service.Purged)] == [3]
    stage.finish([1500, 1501], number=3)
    assert stage.store.streams() == {STREAM}
    # Before the first step nothing was forgotten yet, and all of it is pending then.
    assert stage.store.stored_tasks(STREAM) == (5 if steps else 1505)
    assert sorted(stage.store.stored_outcomes(STREAM))[-2:] == [1500, 1501]
    # And it goes with the next purge, once it has ended.
    stage.finish([1502, 1503, 1504], number=4)
    stage.client(CLIENT, service.PurgeTasks(5))
    assert left(stage) == (0, 0, 0)

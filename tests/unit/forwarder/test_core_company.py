"""Tasks that a client submits one after the other go on in company, unless somebody waits."""

from __future__ import annotations

import pytest
from acting import KEY, OTHER, Stage, info

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.sending import COMPANY
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states

C, D = b"client-c", b"client-d"
COMPANY_S = 0.003


@pytest.fixture
def stage() -> Stage:
    stage = Stage(company_s=COMPANY_S)
    for peer in (C, D):
        stage.attach(peer)
    stage.up()
    stage.submit(C, 1)
    assert stage.sent() == [0]  # nobody knows that more will come
    stage.clear()
    return stage


def one_after_the_other(stage: Stage, first: int, end: int, every: float = 0.0002) -> None:
    for index in range(first, end):
        stage.clock.advance(every)
        stage.submit(C, 1, first=index, call=index + 1)


def test_a_loop_of_submissions_goes_on_in_company(stage: Stage) -> None:
    one_after_the_other(stage, 1, 6)
    assert stage.sent() == []
    assert [done.call for done in stage.said(C, service.Done)] == [2, 3, 4, 5, 6]
    assert stage.core.due == pytest.approx(stage.clock() + COMPANY_S - 4 * 0.0002)
    stage.clock.advance(COMPANY_S)
    stage.tell()
    assert stage.sent() == [1, 2, 3, 4, 5]
    assert stage.core.due == float("inf")


def test_what_has_gathered_is_one_run(stage: Stage) -> None:
    one_after_the_other(stage, 1, 6)
    stage.cancel(C, 3)
    stage.clock.advance(COMPANY_S)
    stage.tell()
    assert [(run.first, run.payloads) for run in stage.runs()] == [
        (1, [b"x"] * 2),
        (4, [b"x"] * 2),
    ]
    stage.finish([1, 2, 4, 5])
    stage.fetch(C, [1, 2, 3, 4, 5], call=30)
    assert set(stage.statuses(C).values()) == {states.SUCCESS, states.CANCELLED}


def test_a_long_loop_costs_few_messages(stage: Stage) -> None:
    """However fast results come: what is sent ends before the next task is submitted."""
    ended = 1
    for index in range(1, 601):
        one_after_the_other(stage, index, index + 1)
        sent = stage.sent()[ended - 1 :]
        stage.finish(sent)
        ended += len(sent)
    assert ended > 500
    # After the first few they wait four times as long.
    first = 64 * 0.0002 / COMPANY_S
    assert len(stage.down(msg.Tasks)) <= first + (600 - 64) * 0.0002 / (4 * COMPANY_S) + 1
    assert len(stage.down(msg.Tasks)) == len(stage.runs())


def test_a_long_loop_that_stops_or_goes_on_slowly_has_its_tasks_sent_as_soon(stage: Stage) -> None:
    one_after_the_other(stage, 1, 100)
    waiting = 99 - len(stage.sent())
    assert waiting > 0
    assert stage.core.due <= stage.clock() + COMPANY_S
    stage.clock.advance(COMPANY_S)
    stage.tell()
    assert stage.sent() == list(range(1, 100))
    assert stage.core.due == float("inf")
    one_after_the_other(stage, 100, 101)
    assert stage.sent()[-1] == 100  # nobody knows whether it is a loop again
    one_after_the_other(stage, 101, 110)
    assert stage.core.due <= stage.clock() + COMPANY_S - 8 * 0.0002 + 1e-9


def test_what_is_large_or_has_large_arguments_is_a_run_of_its_own(stage: Stage) -> None:
    stage.submit(C, 1, first=1, call=2)
    stage.submit(C, 1, first=2, call=3, size=100_000)
    stage.submit(C, 1, first=3, call=4)
    stage.client(C, service.Submit(5, [service.Submission(info(), 4, [b"y"], [b"d" * 32])]))
    stage.submit(C, 1, first=5, call=6)
    stage.clock.advance(COMPANY_S)
    stage.tell()
    assert [run.first for run in stage.runs()] == [1, 2, 4, 5]
    assert [bool(run.shared) for run in stage.runs()] == [False, False, True, False]


def test_much_does_not_wait(stage: Stage) -> None:
    one_after_the_other(stage, 1, COMPANY + 1, every=0.0)
    assert stage.sent() == list(range(1, COMPANY + 1))


def test_who_submits_now_and_then_does_not_wait(stage: Stage) -> None:
    one_after_the_other(stage, 1, 4, every=COMPANY_S)
    assert stage.sent() == [1, 2, 3]


@pytest.mark.parametrize("peer", [C, D])
def test_who_asks_for_a_result_ends_the_wait(stage: Stage, peer: bytes) -> None:
    one_after_the_other(stage, 1, 3)
    stage.fetch(peer, [2], wait_s=5.0)
    assert stage.sent() == [1, 2]
    if peer == C:  # and does not wait for the next one that it submits
        stage.submit(C, 1, first=3, call=9)
        assert stage.sent() == [1, 2, 3]


def test_results_that_come_leave_what_waits_in_company(stage: Stage) -> None:
    """They come all the time while a loop runs: there would never be any company."""
    one_after_the_other(stage, 1, 3)
    stage.finish([0])
    stage.tell(ev.InterchangeSaid(KEY, msg.Window(500, 10_000)))
    assert stage.sent() == []
    stage.clock.advance(COMPANY_S)
    stage.tell()
    assert stage.sent() == [1, 2]


def test_results_that_come_make_room_for_what_waits_for_room(stage: Stage) -> None:
    stage.tell(ev.InterchangeSaid(KEY, msg.Window(1, 10_000)))
    one_after_the_other(stage, 1, 4)
    stage.clock.advance(COMPANY_S)
    stage.tell()
    assert stage.sent() == []  # there is none
    stage.finish([0])
    assert stage.sent() == [1]


def test_what_an_executor_submits_does_not_wait(stage: Stage) -> None:
    """Its results are pushed: somebody may wait for each of them."""
    pushed = info(OTHER, keep=False)
    for index in range(3):
        stage.submit(C, 1, pushed, first=index, call=20 + index)
    assert stage.sent(stream=OTHER) == [0, 1, 2]


def test_what_waits_is_cancelled_like_what_is_queued(stage: Stage) -> None:
    one_after_the_other(stage, 1, 4)
    stage.cancel(D, 2)
    assert stage.cancelled(D) == [2]
    stage.clock.advance(COMPANY_S)
    stage.tell()
    assert stage.sent() == [1, 3]


def test_an_interchange_that_goes_meanwhile_gets_it_when_it_is_back(stage: Stage) -> None:
    one_after_the_other(stage, 1, 4)
    stage.tell(ev.InterchangeGone(KEY))
    stage.clock.advance(COMPANY_S)
    stage.tell()
    assert stage.sent() == []
    stage.up(held=[0])
    assert stage.sent() == [1, 2, 3]

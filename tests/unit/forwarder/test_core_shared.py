"""Shared arguments: stored once, sent once, gone when no task and no client needs them."""

from __future__ import annotations

import pytest

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.dropping import SETTLED_S
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from tests.unit.forwarder.acting import Stage, info

CLIENT = b"client"
BODY = b"s" * 32


def stage_with_tasks(*, durable: bool = True, keep: bool = True) -> Stage:
    stage = Stage(durable=durable)
    stage.attach(CLIENT)
    stage.attach(b"another")
    stage.up()
    stage.client(CLIENT, service.PutBody(1, BODY, b"shared", shared=True))
    for first in (0, 2):
        shared = service.Submission(info(keep=keep), first, [b"x", b"y"], [BODY])
        stage.client(CLIENT, service.Submit(2 + first, [shared]))
    return stage


def settle(stage: Stage) -> None:
    for _ in range(3):
        stage.tick(SETTLED_S)


def bodies(stage: Stage) -> set[bytes]:
    return stage.store.bodies() & {BODY}


@pytest.mark.parametrize("durable", [True, False])
def test_it_is_sent_once_before_the_tasks_that_refer_to_it(durable: bool) -> None:
    stage = stage_with_tasks(durable=durable, keep=durable)
    assert [body.data for body in stage.down(msg.Body) if body.digest == BODY] == [b"shared"]
    assert [run.shared for run in stage.runs()] == [[BODY], [BODY]]


@pytest.mark.parametrize("durable", [True, False])
def test_it_stays_while_a_task_may_need_it_and_goes_although_others_are_there(
    durable: bool,
) -> None:
    stage = stage_with_tasks(durable=durable, keep=durable)
    stage.client(CLIENT, service.ForgetBodies([BODY]))
    settle(stage)
    assert bodies(stage)
    stage.finish([0, 1, 2, 3])
    settle(stage)
    if durable:
        assert bodies(stage)  # the batch is kept
        stage.client(CLIENT, service.PurgeTasks(9))
        settle(stage)
    assert not bodies(stage)
    assert BODY not in stage.core._state.bodies


def test_it_stays_while_its_client_counts_on_it() -> None:
    stage = stage_with_tasks()
    stage.finish([0, 1, 2, 3])
    stage.client(CLIENT, service.PurgeTasks(9))
    settle(stage)
    assert bodies(stage)
    stage.tell(ev.ClientGone(CLIENT))
    settle(stage)
    assert not bodies(stage)


def test_a_client_that_comes_back_a_moment_later_finds_it() -> None:
    stage = stage_with_tasks()
    stage.finish([0, 1, 2, 3])
    stage.client(CLIENT, service.PurgeTasks(9))
    stage.tell(ev.ClientGone(CLIENT))
    stage.tick(SETTLED_S)
    stage.attach(b"again", name=CLIENT)
    late = service.Submission(info(b"t" * 12), 0, [b"x"], [BODY])
    stage.client(b"again", service.Submit(1, [late]))
    settle(stage)
    assert bodies(stage)


def test_it_stays_if_it_is_sent_again_while_it_is_looked_for() -> None:
    stage = stage_with_tasks()
    stage.finish([0, 1, 2, 3])
    stage.client(CLIENT, service.PurgeTasks(9))
    stage.client(CLIENT, service.ForgetBodies([BODY]))
    stage.tick(SETTLED_S)
    stage.slow = True
    stage.tick(SETTLED_S)
    stage.client(CLIENT, service.PutBody(10, BODY, b"shared", shared=True))
    stage.work()
    assert bodies(stage)


def test_that_one_is_gone_is_said() -> None:
    stage = stage_with_tasks()
    stage.interchange(msg.NeedBody([b"n" * 32]))
    assert [one.digests for one in stage.down(msg.NoBody)] == [[b"n" * 32]]

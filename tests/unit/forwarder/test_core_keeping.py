"""The store's limits: what is refused, what goes by itself, what is purged, and what stays."""

from __future__ import annotations

import msgspec

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.dropping import SETTLED_S
from fxhpc.protocol import service
from tests.unit.forwarder.acting import ENDPOINT, KEY, OTHER, STREAM, Stage, info

DAY = 86400.0
MB = 2**20
CLIENT = b"client"


def wall_tick(stage: Stage, wall: float, seconds: float = 0.5) -> None:
    stage.clock.advance(seconds)
    stage.tell(ev.Tick(wall))


def ended_batch(stage: Stage, stream: bytes = STREAM, tasks: int = 10) -> None:
    stage.submit(CLIENT, tasks, info(stream))
    stage.finish(list(range(tasks)), stream=stream)


def stage_at(wall: float) -> Stage:
    stage = Stage()
    stage.attach(CLIENT)
    stage.up()
    wall_tick(stage, wall)
    return stage


def test_f07_a_submission_beyond_the_limit_is_refused_in_words() -> None:
    """F7: what does not fit is refused as a whole; results still come in, and room helps."""
    stage = stage_at(1e9)
    stage.tell(ev.StoreLimits(MB, DAY))
    stage.submit(CLIENT, 10, size=100_000)
    stage.clear()
    stage.submit(CLIENT, 10, info(OTHER), call=2, size=100_000)
    (refused,) = stage.said(CLIENT, service.Failed)
    assert (refused.call, refused.error) == (2, "StoreFull")
    assert "fxhpc store purge" in refused.arguments[0]
    assert stage.store.stored_tasks(OTHER) == 0
    stage.finish(list(range(10)))
    stage.client(CLIENT, service.PurgeTasks(3))
    wall_tick(stage, 1e9)
    stage.submit(CLIENT, 10, info(OTHER), call=4, size=100_000)
    assert stage.store.stored_tasks(OTHER) == 10


def test_f07_a_function_and_a_large_argument_count_too() -> None:
    stage = stage_at(1e9)
    stage.tell(ev.StoreLimits(MB, DAY))
    stage.client(CLIENT, service.PutBody(1, b"d" * 32, bytes(2 * MB)))
    record = service.FunctionRecord("id", b"e" * 32, "f")
    stage.client(CLIENT, service.RegisterFunction(2, record, bytes(2 * MB)))
    assert [failed.call for failed in stage.said(CLIENT, service.Failed)] == [1, 2]
    assert stage.store.bodies() == set()


def test_f07_results_in_files_beside_the_store_count_too() -> None:
    stage = stage_at(1e9)
    stage.tell(ev.StoreLimits(MB, DAY))
    ended_batch(stage)
    stage.store.beside = 2 * MB
    wall_tick(stage, 1e9)
    stage.submit(CLIENT, 1, info(OTHER), call=2)
    assert [failed.call for failed in stage.said(CLIENT, service.Failed)] == [2]
    stage.store.beside = 0  # they go by themselves: nothing else happens then
    wall_tick(stage, 1e9)
    stage.submit(CLIENT, 1, info(OTHER), call=3)
    assert stage.store.stored_tasks(OTHER) == 1


def test_f07_a_batch_goes_when_its_retention_is_over() -> None:
    """F7: nobody asks for its results any more: they go, and its memory with them."""
    stage = stage_at(1e9)
    stage.tell(ev.StoreLimits(MB, 10 * DAY))
    ended_batch(stage)
    stage.submit(CLIENT, 1, info(OTHER))
    wall_tick(stage, 1e9, seconds=9 * DAY)
    assert stage.store.streams() == {STREAM, OTHER}
    wall_tick(stage, 1e9, seconds=2 * DAY)
    assert stage.store.streams() == {OTHER}  # it is pending, however old
    assert stage.store.stored_tasks(STREAM) == 0
    assert stage.store.recover().dropped == []
    stage.fetch(CLIENT, [0])
    assert stage.statuses(CLIENT) == {0: "unknown"}


def test_f07_who_asks_for_results_keeps_them() -> None:
    stage = stage_at(1e9)
    stage.tell(ev.StoreLimits(MB, 10 * DAY))
    ended_batch(stage)
    wall_tick(stage, 1e9, seconds=9 * DAY)
    stage.fetch(CLIENT, [0])
    wall_tick(stage, 1e9, seconds=9 * DAY)
    assert stage.store.streams() == {STREAM}


def test_a_clock_that_steps_ends_no_retention() -> None:
    stage = stage_at(1e9)
    stage.tell(ev.StoreLimits(MB, 10 * DAY))
    ended_batch(stage)
    wall_tick(stage, 1e9 + 400 * DAY, seconds=100)
    assert stage.store.streams() == {STREAM}


def test_a_purge_spares_what_is_pending_unless_it_is_told_not_to() -> None:
    stage = stage_at(1e9)
    ended_batch(stage)
    stage.submit(CLIENT, 5, info(OTHER))
    stage.client(CLIENT, service.PurgeTasks(1, dry_run=True))
    stage.client(CLIENT, service.PurgeTasks(2))
    stage.client(CLIENT, service.PurgeTasks(3, pending=True))
    told = {answer.call: answer for answer in stage.said(CLIENT, service.Purged)}
    assert [(told[n].batches, told[n].tasks, told[n].cancelled) for n in (1, 2, 3)] == [
        (1, 10, 0),
        (1, 10, 0),
        (1, 5, 5),
    ]
    assert stage.store.streams() == set()
    assert stage.core._state.streams == {}
    assert any(action for action in stage.actions if isinstance(action, ev.ToInterchange))


def test_a_purge_of_a_group_or_an_endpoint_leaves_the_others() -> None:
    stage = stage_at(1e9)
    ended_batch(stage)
    stage.client(CLIENT, service.PurgeTasks(1, group="another"))
    stage.client(CLIENT, service.PurgeTasks(2, endpoint="another"))
    stage.client(CLIENT, service.PurgeTasks(3, older_s=DAY))
    assert stage.store.streams() == {STREAM}
    stage.client(CLIENT, service.PurgeTasks(4, endpoint=ENDPOINT))
    assert stage.store.streams() == set()


def test_the_first_call_of_a_forwarder_finds_what_is_old() -> None:
    """A command starts the forwarder that it asks: no tick has come by then."""
    before = stage_at(1e9)
    ended_batch(before)
    for wall, found in ((1e9 + DAY / 2, 0), (1e9 + 2 * DAY, 1)):
        later = Stage(before.store)
        later.tell(ev.Begun(wall))
        later.attach(CLIENT)
        later.client(CLIENT, service.PurgeTasks(1, older_s=DAY, dry_run=True))
        assert [answer.batches for answer in later.said(CLIENT, service.Purged)] == [found]
        wall_tick(later, wall + 3 * DAY)  # a step of the clock ends nothing
        assert later.store.streams() == {STREAM}


def test_a_client_goes_on_with_a_stream_that_was_purged() -> None:
    stage = stage_at(1e9)
    ended_batch(stage)
    stage.core._state.clients[CLIENT].instance = stage.core._state.streams[STREAM].owner
    stage.client(CLIENT, service.PurgeTasks(1))
    stage.clear()
    stage.submit(CLIENT, 5, first=10, call=2)
    assert stage.said(CLIENT, service.Done) == [service.Done(2)]
    assert stage.sent() == [10, 11, 12, 13, 14]
    stage.fetch(CLIENT, [9, 10])
    assert stage.statuses(CLIENT)[9] == "unknown"


def test_rows_go_in_steps_and_the_next_forwarder_goes_on() -> None:
    """A purge that a crash interrupts runs nothing again, and leaves nothing."""
    stage = stage_at(1e9)
    for number in range(3):
        stage.submit(CLIENT, 500, first=500 * number, size=10_000, call=number)
    stage.finish(list(range(1000)))
    stage.finish(list(range(1000, 1500)), number=2)
    stage.slow = True
    stage.client(CLIENT, service.PurgeTasks(9))
    stage.work(3)  # the disk was measured, the name is forgotten, its rows are listed
    stage.store.crash(committed=1)  # and some of them are dropped
    later = Stage(stage.store)
    later.attach(CLIENT)
    later.up()
    wall_tick(later, 1e9)
    assert later.sent() == []
    found = later.store.recover()
    assert (found.submissions, found.results, found.dropped) == ([], [], [])


def test_what_an_executor_has_received_goes_at_once() -> None:
    """Arguments and results of delivered tasks go; the last row stays, for the next number."""
    stage = stage_at(1e9)
    mine = info(keep=False)
    for number in range(4):
        stage.submit(CLIENT, 10, mine, first=10 * number, call=number)
    stage.finish([*range(15), *range(20, 40)])
    (push,) = stage.said(CLIENT, service.Push)
    stage.client(CLIENT, service.Delivered([push.number]))
    wall_tick(stage, 1e9)
    found = stage.store.recover()
    assert [row.first for row in found.submissions] == [10, 30]
    assert len(found.results) == 1  # some of its tasks have arguments here still
    # After a crash, what had not ended runs, nothing else, and numbers go on.
    later = Stage(stage.store)
    later.attach(b"again", name=CLIENT, streams=[STREAM])
    later.up()
    assert later.sent() == [15, 16, 17, 18, 19]
    later.finish([15, 16, 17, 18, 19], number=3)
    for push in later.said(b"again", service.Push):
        later.client(b"again", service.Delivered([push.number]))
    later.submit(b"again", 10, mine, first=40)
    assert later.sent()[-10:] == list(range(40, 50))
    wall_tick(later, 1e9)
    assert [row.first for row in later.store.recover().submissions] == [40]
    assert later.store.recover().results == []


def stage_with_litter() -> Stage:
    """Two bodies that nothing refers to, since their batch was purged."""
    stage = stage_at(1e9)
    stage.client(CLIENT, service.PutBody(1, b"f" * 32, b"function"))
    stage.client(CLIENT, service.PutBody(2, b"s" * 32, b"shared"))
    shared = service.Submission(info(), 0, [b"x"], [b"s" * 32])
    stage.client(CLIENT, service.Submit(3, [shared]))
    stage.finish([0])
    stage.attach(b"another")
    stage.client(CLIENT, service.PurgeTasks(4))
    return stage


def test_bodies_that_nothing_refers_to_go_with_the_last_client() -> None:
    stage = stage_with_litter()
    stage.tick(SETTLED_S)
    assert len(stage.store.bodies()) == 2  # another client may just be about to use them
    stage.tell(ev.ClientGone(b"another"))
    stage.tell(ev.ClientGone(CLIENT))
    assert stage.store.bodies() == set()


def test_a_new_forwarder_keeps_bodies_until_clients_of_before_are_back() -> None:
    """They remember what they have stored, and do not send it again."""
    stage = stage_with_litter()
    stage.tell(ev.ClientGone(b"another"))
    stage.tell(ev.ClientGone(CLIENT))
    stage.tick(SETTLED_S - 0.1)
    assert len(stage.store.bodies()) == 2
    stage.tick(0.1)
    assert stage.store.bodies() == set()


def test_bodies_stay_if_a_client_comes_while_they_are_looked_for() -> None:
    stage = stage_with_litter()
    stage.tick(SETTLED_S)
    stage.slow = True
    stage.tell(ev.ClientGone(b"another"))
    stage.tell(ev.ClientGone(CLIENT))
    stage.attach(b"new")
    stage.client(b"new", service.PutBody(1, b"f" * 32, b"function"))
    stage.work()
    assert len(stage.store.bodies()) == 2
    stage.tell(ev.ClientGone(b"new"))
    stage.work()
    assert stage.store.bodies() == set()


def test_usage_is_told_by_endpoint_function_and_state() -> None:
    stage = stage_at(1e9)
    ended_batch(stage)
    stage.submit(CLIENT, 5, info(OTHER))
    stage.client(CLIENT, service.GetStoreUsage(1))
    (told,) = stage.said(CLIENT, service.StoreUsage)
    assert sorted((one.unfinished, one.tasks, one.pending) for one in told.entries) == [
        (False, 10, 0),
        (True, 5, 5),
    ]
    assert told.max_bytes == 5 * 2**30
    assert KEY in stage.core._state.endpoints


def test_f07_a_group_may_be_kept_for_longer_or_shorter() -> None:
    stage = stage_at(1e9)
    group = "a-group"
    stage.tell(ev.StoreLimits(MB, DAY, {group: 30 * DAY}))
    stage.submit(CLIENT, 10, msgspec.structs.replace(info(STREAM), group=group))
    stage.finish(list(range(10)), stream=STREAM)
    wall_tick(stage, 1e9, 10 * DAY)
    assert stage.store.stored_tasks(STREAM) == 10
    stage.client(CLIENT, service.PurgeTasks(2, older_s=5 * DAY, dry_run=True))
    assert [told.batches for told in stage.said(CLIENT, service.Purged)] == [0]
    stage.client(CLIENT, service.PurgeTasks(3, older_s=5 * DAY, group=group, dry_run=True))
    assert [told.batches for told in stage.said(CLIENT, service.Purged)] == [0, 1]
    stage.tell(ev.StoreLimits(MB, 30 * DAY, {group: DAY}))
    wall_tick(stage, 1e9)
    wall_tick(stage, 1e9, SETTLED_S)
    assert stage.store.stored_tasks(STREAM) == 0


def test_f07_a_store_that_is_nearly_full_is_told_once_a_day() -> None:
    stage = stage_at(1e9)
    stage.tell(ev.StoreLimits(MB, 30 * DAY))
    stage.submit(CLIENT, 7, size=100_000)
    wall_tick(stage, 1e9)
    assert stage.said(CLIENT, service.Notice) == []
    stage.submit(CLIENT, 2, info(OTHER), call=2, size=100_000)
    for seconds in (0.5, 60.0, 60.0, DAY):
        wall_tick(stage, 1e9, seconds)
    first, second = stage.said(CLIENT, service.Notice)
    assert first == second
    assert "nearly full" in first.text
    assert "fxhpc store purge" in first.text


def test_f07_a_disk_that_is_nearly_full_is_told_too() -> None:
    stage = stage_at(1e9)
    stage.tell(ev.StoreLimits(MB, 30 * DAY))
    stage.store.room = 100 * MB
    ended_batch(stage)
    for seconds in (0.5, 60.0):
        wall_tick(stage, 1e9, seconds)
    (told,) = stage.said(CLIENT, service.Notice)
    assert "100.0 MB are free" in told.text
    assert "fxhpc store move" in told.text

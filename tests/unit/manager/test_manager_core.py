"""The manager's core: who runs what, what is taken back, what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import Node

from fxhpc.manager import credit as credit_module
from fxhpc.manager import events as ev
from fxhpc.manager import hiring
from fxhpc.manager.pace import MESSAGE_TASKS
from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.protocol.outcome import LossCause, Outcome, OutcomeKind

S, T = b"s" * 12, b"t" * 12


def test_it_registers_and_says_its_capacity() -> None:
    node = Node(slots=3, linked=False)
    assert not node.said
    register = node.link()
    assert (register.manager, register.slots, register.host) == ("m", 3, "node1")
    (capacity,) = node.of(msg.Capacity)
    assert (capacity.slots, capacity.tasks) == (3, 3)


def test_each_task_ends_once(node: Node) -> None:
    node.send(S, [b"0"] * 5000)
    node.run_for(1)
    assert set(node.ended) == {(S, index) for index in range(5000)}
    assert {tuple(how) for how in node.ended.values()} == {("VALUE",)}
    assert max(len(run.payloads) for _, work in node.work for run in work.runs) <= MESSAGE_TASKS


def test_a_body_is_asked_for_once_and_sent_to_a_worker_once() -> None:
    node = Node()
    node.send(S, [b"0"] * 50)
    node.send(T, [b"0"] * 50)
    assert [need.digests for need in node.of(msg.NeedBody)] == [[b"f"]]
    assert not node.work
    node.say(msg.Body(b"f", b"body"))
    node.run_for(1)
    assert len(node.ended) == 100
    assert sorted(node.bodies) == [(1, b"f"), (2, b"f")]


def test_unknown_durations_go_one_by_one(node: Node) -> None:
    node.send(S, [b"10"] * 4)
    node.run_for(1)
    assert [(worker, work.runs[0].first) for worker, work in node.work] == [(1, 0), (2, 1)]
    node.run_for(20)
    assert len(node.work) == 4


def test_short_tasks_come_in_messages_of_a_millisecond(node: Node) -> None:
    node.send(S, [b"0.0001"] * 2000)
    node.run_for(1)
    longest = max(sum(len(run.payloads) for run in work.runs) for _, work in node.work)
    assert 5 <= longest <= 15


def test_capacity_follows_the_measured_duration(node: Node) -> None:
    node.send(S, [b"0.0001"] * 500)
    node.run_for(1)
    short = node.of(msg.Capacity)[-1].tasks
    assert 200 <= short <= 2000
    node.send(T, [b"1"] * 10, function=b"f")
    node.run_for(20)
    assert node.of(msg.Capacity)[-1].tasks == 2


def test_a_long_task_does_not_hold_those_behind_it(node: Node) -> None:
    node.send(S, [b"0.00001"] * 500)
    node.run_for(0.5)
    node.send(T, [b"0.00001"] * 300 + [b"100"] + [b"0.00001"] * 300)
    node.run_for(0.5)
    assert len([task for task in node.ended if task[0] == T]) == 600
    assert max(node.ran.values()) == 1


def test_what_ended_before_a_long_task_is_told_at_once(node: Node) -> None:
    node.send(S, [b"0.00001"] * 500)
    node.run_for(0.5)
    node.send(T, [b"0", b"100"])
    node.run_for(0.1)
    assert (T, 0) in node.ended


def test_a_page_that_is_ahead_of_the_socket_waits_for_it(node: Node) -> None:
    node.send(S, [b"0"] * 200)
    node.run_for(1)
    node.send(T, [b"0"] * 100)
    (worker, work) = node.work[-1]
    first, count = work.runs[0].first, len(work.runs[0].payloads)
    assert count > 2
    outcomes = [Outcome(index, OutcomeKind.VALUE) for index in range(first, first + count)]
    # The worker sent the first outcome, and that is still in its socket when its page is read.
    node.tell(ev.WorkerSaid(worker, pool.Batch(work.place + 1, 0.0, outcomes[1:3])))
    node.tell(ev.WorkerSaid(worker, pool.Batch(work.place, 0.0, outcomes[:1])))
    node.tell(ev.WorkerSaid(worker, pool.Batch(work.place + 1, 0.0, outcomes[1:])))
    node.workers[worker].work.clear()
    node.workers[worker].current = None
    node.turn()
    mine = [node.ended[T, index] for index in range(first, first + count)]
    assert mine == [["VALUE"]] * count


def test_what_a_worker_had_begun_and_then_skipped_runs_elsewhere(node: Node) -> None:
    node.send(S, [b"0"] * 200)
    node.run_for(1)
    node.send(T, [b"0"] * 100)
    (number, work) = node.work[-1]
    worker = node.workers[number]
    count = sum(len(run.payloads) for run in work.runs)
    worker.work.clear()
    worker.current = None
    # Its page said for a moment that it had begun them, so that nobody took them back.
    node.tell(ev.WorkerSaid(number, pool.Batch(work.place + count, 0.0, [])))
    node.run_for(1)
    assert {tuple(node.ended[T, index]) for index in range(100)} == {("VALUE",)}


def test_started_is_said_of_long_tasks_only(node: Node) -> None:
    node.send(S, [b"0.001"] * 100)
    node.run_for(1)
    assert not node.of(msg.Started)
    node.send(T, [b"1"])
    node.run_for(0.2)
    (started,) = node.of(msg.Started)
    assert [(refs.stream, refs.ranges) for refs in started.tasks] == [(T, [0, 1])]


def test_started_is_said_at_once_of_each_long_task(node: Node) -> None:
    """No look is due when a worker is idle; one that gets a task after a long one has one again."""
    for index in range(4):
        node.send(T, [b"1"], first=index)
        node.run_for(0.2)
        assert len(node.of(msg.Started)) == index + 1
        node.run_for(1)
    node.send(S, [b"1"] * 8)
    node.run_for(2)
    assert sum(refs.ranges[1] for one in node.of(msg.Started) for refs in one.tasks) >= 8


def test_an_idle_node_wants_no_attention(node: Node) -> None:
    node.send(S, [b"100", b"100"])
    node.run_for(0.5)
    assert node.core.wait_s(node.now) >= 1


def test_a_killed_worker_charges_one_task_and_is_replaced(node: Node) -> None:
    node.send(S, [b"0.0001"] * 100)
    node.run_for(0.5)
    node.send(T, [b"0.0001"] * 200)
    node.kill(1)
    node.run_for(1)
    (lost,) = node.of(msg.Lost)
    assert [task.loss.cause for task in lost.tasks] == [LossCause.WORKER_KILLED]
    assert "SIGKILL" in lost.tasks[0].loss.text
    assert lost.tasks[0].loss.ran_s < 1
    assert len([task for task in node.ended if task[0] == T]) == 200
    assert max(node.ran.values()) == 1
    assert set(node.workers) == {2, 3}


def test_an_exit_code_is_the_tasks_own_end(node: Node) -> None:
    node.send(S, [b"10"])
    node.kill(1, signal=0, exit_code=4)
    loss = node.of(msg.Lost)[0].tasks[0].loss
    assert (loss.cause, loss.exit_code) == (LossCause.WORKER_EXITED, 4)


def test_workers_that_never_start_end_the_tasks_with_the_reason() -> None:
    node = Node(slots=2)
    node.say(msg.Body(b"f", b"body"))
    node.startable = False
    for worker in list(node.workers):
        node.kill(worker)
    node.send(S, [b"0"] * 3)
    losses = [task.loss for lost in node.of(msg.Lost) for task in lost.tasks]
    assert len(losses) == 3
    assert {loss.cause for loss in losses} == {LossCause.WORKER_UNSTARTABLE}
    assert "no such directory" in losses[0].text
    node.startable = True
    node.run_for(hiring.RETRY_S + 1)
    node.send(T, [b"0"] * 3)
    node.run_for(1)
    assert {tuple(how) for task, how in node.ended.items() if task[0] == T} == {("VALUE",)}
    assert len(node.workers) == 2


def test_a_place_whose_workers_died_early_is_filled_again_beside_others() -> None:
    """By whom somebody kills as they come up, three in a row: the others go on, and are alone for
    some seconds, not for good.
    """
    node = Node(slots=2)
    node.say(msg.Body(b"f", b"body"))
    node.startable = False
    node.kill(1)
    node.run_for(1)
    assert set(node.workers) == {2}
    node.startable = True
    node.run_for(hiring.RETRY_S + 2)
    assert len(node.workers) == 2
    node.send(T, [b"0"] * 3)
    node.run_for(1)
    assert {tuple(how) for how in node.ended.values()} == {("VALUE",)}
    assert not node.of(msg.Lost)


def test_cancel_queued_and_running(node: Node) -> None:
    node.send(S, [b"10"] * 6)
    node.say(msg.Cancel([msg.TaskRefs(S, [0, 5])]))
    node.run_for(0.1)
    assert dict(node.ended.items()) == {(S, index): ["CANCELLED"] for index in (2, 3, 4)}
    assert sum(len(started.tasks) for started in node.of(msg.Started)) >= 1
    node.say(msg.Cancel([msg.TaskRefs(S, [0, 2])], interrupt=True))
    node.run_for(20)
    assert node.ended[S, 0] == node.ended[S, 1] == ["CANCELLED"]
    assert node.ended[S, 5] == ["VALUE"]
    assert not node.of(msg.Lost)


def test_cancel_what_a_worker_has_and_has_not_begun(node: Node) -> None:
    node.send(S, [b"0.001"] * 50)
    node.run_for(1)
    node.send(T, [b"0.001"] * 20)
    node.say(msg.Cancel([msg.TaskRefs(T, [0, 20])]))
    node.run_for(1)
    how = [node.ended[T, index] for index in range(20)]
    assert {one for each in how for one in each} == {"VALUE", "CANCELLED"}
    assert all(len(each) == 1 for each in how)
    assert sum(node.ran[T, index] for index in range(20)) == how.count(["VALUE"])


def test_suspects_run_one_by_one(node: Node) -> None:
    for index in range(3):
        node.send(S, [b"1"], first=index, suspect=True)
    node.send(T, [b"1"])
    assert sorted(node.ran) == [(S, 0), (T, 0)]
    node.run_for(1.5)
    assert sorted(node.ran) == [(S, 0), (S, 1), (T, 0)]
    node.run_for(5)
    assert len(node.ended) == 4


def test_results_are_sent_again_until_they_are_stored(node: Node) -> None:
    node.store = False
    node.send(S, [b"0"] * 3)
    node.run_for(0.1)
    numbers = [results.number for results in node.of(msg.Results)]
    node.said.clear()
    node.tell(ev.LinkLost())
    node.send(T, [b"0"] * 2)  # it still has what it was sent before
    node.run_for(0.1)
    assert not node.said
    register = node.link()
    again = [results.number for results in node.of(msg.Results)]
    assert register.unstored == again
    assert again[: len(numbers)] == numbers
    node.say(msg.ResultsStored(again))
    assert node.link().unstored == []


def test_what_it_ends_without_a_word_it_does_not_claim_at_the_next_interchange() -> None:
    """One interchange did not want what runs, nor what was to come; the worker is not dead yet."""
    node = Node(slots=1)
    node.say(msg.Body(b"f", b"body"))
    node.undead = True
    node.send(S, [b"5000"] * 3)
    node.run_for(0.01)
    register = node.link(drop=[msg.TaskRefs(S, [0, 1], 1, 1)])
    assert [refs.ranges for refs in register.running] == [[0, 1]]
    register = node.link()
    assert not register.running
    assert [refs.ranges for refs in register.queued] == [[1, 2]]


def test_registers_with_what_it_holds_and_drops_what_nobody_wants(node: Node) -> None:
    node.send(S, [b"10"] * 5)
    register = node.link(drop=[msg.TaskRefs(S, [0, 1, 3, 1], 1, 1), msg.TaskRefs(S, [4, 1], 1, 9)])
    assert [(refs.ranges, refs.attempt) for refs in register.running] == [([0, 2], 1)]
    assert [refs.ranges for refs in register.queued] == [[2, 3]]
    node.run_for(50)
    assert sorted(node.ended) == [(S, 1), (S, 2), (S, 4)]


def test_a_loss_in_doubt_is_told_again(node: Node) -> None:
    node.send(S, [b"10"])
    node.kill(1)
    node.said.clear()
    register = node.link()
    assert [refs.ranges for refs in register.running] == [[0, 1]]
    assert [lost.tasks[0].index for lost in node.of(msg.Lost)] == [0]
    node.run_for(60)
    assert node.link().running == []


def test_give_back_the_last_first(node: Node) -> None:
    node.send(S, [b"10"] * 6)
    node.say(msg.GiveBack(2))
    assert [refs.ranges for returned in node.of(msg.Returned) for refs in returned.tasks] == [
        [4, 2]
    ]


def test_nothing_to_give_back_is_said_late(node: Node) -> None:
    node.say(msg.GiveBack(2))
    assert not node.of(msg.Returned)
    node.run_for(0.3)
    assert [returned.tasks for returned in node.of(msg.Returned)] == [[]]


def test_drain(node: Node) -> None:
    node.send(S, [b"0.001"] * 20)
    node.run_for(1)
    node.send(T, [b"0.5"] * 20)
    node.say(msg.Drain())
    node.run_for(5)
    ended = [tuple(node.ended[T, index]) for index in range(20)]
    assert set(ended) == {("VALUE",), ("returned",)}
    assert all(node.ran[T, index] == 0 for index in range(20) if ended[index] == ("returned",))
    assert node.left is not None
    assert not node.left.failed


def test_without_an_interchange_it_leaves_after_a_while() -> None:
    node = Node(alone_s=600.0)
    node.tell(ev.LinkLost())
    node.run_for(500)
    assert node.left is None
    node.run_for(200)
    assert node.left is not None


def test_full_of_unstored_results_it_begins_nothing_more(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credit_module, "UNSTORED_BYTES", -1)
    node.store = False
    node.send(S, [b"0"] * 10)
    node.run_for(1)
    assert not node.ran


def test_large_results_are_not_begun_without_room_for_them(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credit_module, "UNSTORED_BYTES", 1_000_000)
    node.result = b"x" * 100_000
    node.store = False
    node.send(S, [b"0"] * 500)
    node.run_for(1)
    assert 5 <= len(node.ended) <= 15
    node.say(msg.ResultsStored([results.number for results in node.of(msg.Results)]))
    node.store = True
    node.run_for(1)
    assert len(node.ended) == 500


def test_a_large_argument_goes_alone(node: Node) -> None:
    node.send(S, [b"0"] * 100)
    node.run_for(0.1)
    node.work.clear()
    node.send(T, [b"0".zfill(700_000)] * 4)
    node.run_for(1)
    assert {len(work.runs[0].payloads) for _, work in node.work} == {1}
    assert len([task for task in node.ended if task[0] == T]) == 4


actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("send"),
            st.lists(
                st.sampled_from([b"0", b"0.00001", b"0.0003", b"0.004", b"0.03", b"0.4"]),
                min_size=1,
                max_size=40,
            ),
            st.booleans(),
        ),
        st.tuples(st.just("kill"), st.integers(0, 2), st.sampled_from([9, 15])),
        st.tuples(
            st.just("cancel"),
            st.integers(0, 5),
            st.integers(0, 30),
            st.integers(1, 30),
            st.booleans(),
        ),
        st.tuples(st.just("back"), st.integers(1, 20)),
        st.tuples(st.just("link")),
        st.tuples(st.just("run"), st.sampled_from([1e-5, 1e-4, 1e-3, 3e-3, 2e-2, 0.1])),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(actions)
def test_whatever_happens_each_task_ends_once(script: list[tuple[object, ...]]) -> None:
    node = Node(slots=3)
    node.say(msg.Body(b"f", b"body"))
    streams: list[tuple[bytes, int]] = []
    cancelled: set[tuple[bytes, int]] = set()
    for step in script:
        match step:
            case ("send", list() as payloads, bool() as suspect):
                stream = len(streams).to_bytes(12, "big")
                streams.append((stream, len(payloads)))
                node.send(stream, payloads, suspect=suspect)
            case ("kill", int() as which, int() as number):
                if which < len(node.workers):
                    node.kill(sorted(node.workers)[which], number)
                node.turn()
            case ("cancel", int() as which, int() as first, int() as count, bool() as interrupt):
                if which < len(streams):
                    refs = [msg.TaskRefs(streams[which][0], [first, count])]
                    node.say(msg.Cancel(refs, interrupt))
                    # Those that had not begun never will.
                    stream, size = streams[which]
                    named = [(stream, index) for index in range(first, min(first + count, size))]
                    cancelled |= {task for task in named if not node.ran[task]}
            case ("back", int() as count):
                node.say(msg.GiveBack(count))
            case ("link",):
                node.tell(ev.LinkLost())
                node.link()
            case ("run", float() as seconds):
                node.run_for(seconds)
    node.run_for(200)
    sent = {(stream, index) for stream, count in streams for index in range(count)}
    assert set(node.ended) == sent
    for task, how in node.ended.items():
        # A loss in doubt is told once more after each greeting.
        assert len(how) == 1 or set(how) == {"lost"}, (task, how)
        assert node.ran[task] <= 1
        assert task not in cancelled or how[0] in ("CANCELLED", "returned")
        if how[0] == "returned":
            assert node.ran[task] == 0
        if how[0] in ("VALUE", "lost"):
            assert node.ran[task] == 1
    assert all(not slot.tasks for slot in node.core._staff.slots.values())
    assert len(node.workers) == 3


def test_it_beats_when_its_interchange_does(node: Node) -> None:
    node.said.clear()
    for _ in range(4):
        node.run_for(node.core.heartbeat_s)
        node.say(msg.Heartbeat())
    assert len(node.of(msg.Heartbeat)) == 4
    node.say(msg.Heartbeat())  # again at once: it has just done so
    assert len(node.of(msg.Heartbeat)) == 4
    node.run_for(2 * node.core.heartbeat_s)  # nothing comes: it is not taken for dead
    assert len(node.of(msg.Heartbeat)) == 5

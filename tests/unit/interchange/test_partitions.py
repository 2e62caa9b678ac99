"""Tasks over several nodes: who is lent to whom, and what becomes of them when somebody is lost."""

from __future__ import annotations

from collections.abc import Iterable

from fxhpc.interchange import events as ev
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import UNIT, Cell, Needs, Size, pack
from fxhpc.protocol.outcome import LossCause
from tests.unit.interchange.acting import DIGEST, OTHER, STREAM, Stage

TWO = pack(Needs(nodes=2))
SIZE = Size((Cell(UNIT), Cell(UNIT)))


class Block(Stage):
    """Managers that do as they are told: each is a node of a block."""

    def __init__(self, *names: str, epoch: int = 1, greet: bool = True) -> None:
        super().__init__(epoch, greet=greet)
        for name in names:
            self.join(name)

    def join(self, name: str, **more: object) -> None:
        self.manager(name.encode(), _greeting(name, **more))
        self.manager(name.encode(), msg.Capacity(4, 1 << 30, 2))

    def empty(self, *names: str) -> None:
        """These say that they are empty, as they were asked to."""
        for name in names:
            for message in self.to(name.encode(), msg.Lend)[-1:]:
                self.manager(name.encode(), msg.Lent(message.partition))

    def lend(self, name: str) -> msg.Partition | None:
        lends = self.to(name.encode(), msg.Lend)
        return lends[-1].partition if lends else None

    def wait(self, seconds: float, name: str) -> None:
        """Time passes, and this one lives all the while."""
        for _ in range(int(seconds / 5)):
            self.manager(name.encode(), msg.Heartbeat())
            self.tick(5.0)

    def unlent(self) -> set[str]:
        """Who was told that it is itself again."""
        return {
            action.peer.decode()
            for action in self.actions
            if isinstance(action, ev.ToManager) and isinstance(action.message, msg.Unlend)
        }

    def started(self, name: str) -> list[tuple[int, int]]:
        """The tasks over several nodes that it was sent: index and attempt."""
        runs = [run for tasks in self.to(name.encode(), msg.Tasks) for run in tasks.runs]
        for run in runs:
            assert not run.needs or run.partition == self.lend(name)
        return [(run.first, run.attempt) for run in runs if run.partition]

    def going(self, names: Iterable[str] = "ab") -> None:
        """Task 0 runs on these."""
        self.submit(1, needs=TWO)
        self.empty(*names)
        assert self.started("a") == [(0, 1)]
        self.manager(b"a", msg.Started([msg.TaskRefs(STREAM, [0, 1])]))
        self.actions.clear()


def test_nodes_are_emptied_and_lent_before_the_first_gets_the_task() -> None:
    stage = Block("a", "b")
    stage.submit(1, needs=TWO)
    assert stage.lend("a") == stage.lend("b")
    assert [member.host for member in stage.lend("a").members] == ["host-a", "host-b"]  # type: ignore[union-attr]
    stage.empty("a")
    assert not stage.started("a")
    stage.empty("b")
    assert stage.started("a") == [(0, 1)]
    assert not stage.started("b")
    stage.submit(3, stream=OTHER)
    assert not stage.sent(b"b")
    assert stage.sent(b"a") == [(STREAM, 0)]
    stage.finish(b"a", [0])
    assert stage.unlent() == {"a", "b"}
    assert sorted([*stage.sent(b"a")[1:], *stage.sent(b"b")]) == [
        (OTHER, 0),
        (OTHER, 1),
        (OTHER, 2),
    ]


def test_nothing_else_is_sent_to_nodes_that_are_being_emptied() -> None:
    stage = Block("a", "b")
    stage.submit(2, stream=OTHER)
    stage.submit(1, needs=TWO)
    stage.submit(9, stream=OTHER, first=2)
    assert not any(index > 1 for name in (b"a", b"b") for _, index in stage.sent(name))


def test_what_is_sent_to_a_node_is_sent_before_it_is_lent() -> None:
    stage = Block("a", "b")
    stage.going()
    stage.submit(1, needs=TWO, first=1)
    stage.submit(9, stream=OTHER)
    stage.finish(b"a", [0])  # its nodes get some of the others, and are to be emptied next
    for name in (b"a", b"b"):
        told = [
            type(action.message)
            for action in stage.actions
            if isinstance(action, ev.ToManager) and action.peer == name
        ]
        assert [one for one in told if one in (msg.Unlend, msg.Tasks, msg.Lend)] == [
            msg.Unlend,
            msg.Tasks,
            msg.Lend,
        ]


def test_nodes_of_one_block_that_has_enough() -> None:
    stage = Block("a")
    stage.join("b", block="2")
    stage.submit(1, needs=TWO)
    assert stage.lend("a") is None
    assert stage.lend("b") is None
    stage.join("c", block="2")
    assert [member.manager for member in stage.lend("c").members] == ["b", "c"]  # type: ignore[union-attr]


def test_nodes_that_have_nothing_to_do_come_first() -> None:
    stage = Block("a", "b")
    stage.submit(4, stream=OTHER)
    stage.join("c", block="2")
    stage.join("d", block="2")
    stage.submit(1, needs=TWO)
    assert stage.lend("a") is None
    assert stage.lend("c") == stage.lend("d") is not None


def test_two_managers_of_one_host_are_one_node() -> None:
    stage = Block("a")
    stage.join("b", host="host-a")
    stage.submit(1, needs=TWO)
    assert stage.lend("a") is None


def test_managers_that_know_ordinary_tasks_alone_are_left_out() -> None:
    stage = Block("a")
    stage.join("b", size=None)
    stage.submit(1, needs=TWO)
    assert stage.lend("a") is None
    assert not stage.sent(b"b")


def test_nodes_must_have_the_time_that_is_declared() -> None:
    stage = Block("a")
    stage.join("b", remaining_s=100.0)
    stage.submit(1, needs=TWO, walltime_s=200.0)
    assert stage.lend("a") is None


def test_other_work_has_its_turn_between_two_partitions() -> None:
    stage = Block("a", "b")
    stage.submit(2, needs=TWO)
    stage.empty("a", "b")
    stage.submit(100, stream=OTHER)
    stage.actions.clear()
    stage.finish(b"a", [0])
    assert stage.sent(b"a")
    assert stage.sent(b"b")
    stage.tick(1)
    assert stage.lend("a") is not None


def test_a_waiting_task_is_cancelled() -> None:
    stage = Block("a", "b")
    stage.submit(1, needs=TWO)
    stage.forwarder(msg.Cancel([msg.TaskRefs(STREAM, [0, 1])]))
    assert stage.outcomes()[0].kind == 3
    assert stage.unlent() == {"a", "b"}
    stage.forwarder(msg.ResultsStored([results.number for results in stage.up(msg.Results)]))
    assert stage.core.is_idle


def test_the_node_of_another_task_that_is_free_sooner() -> None:
    stage = Block("a", "b")
    stage.submit(1, stream=OTHER)
    stage.submit(1, needs=TWO)
    assert stage.lend("a") is not None
    stage.join("c")
    stage.join("d")
    stage.actions.clear()
    stage.tick(1)
    assert stage.unlent() == {"a", "b"}
    stage.empty("c", "d")
    assert stage.started("c") == [(0, 1)]


def test_a_manager_that_leaves_while_nodes_are_emptied() -> None:
    stage = Block("a", "b", "c")
    stage.submit(1, needs=TWO)
    stage.actions.clear()
    stage.tell(ev.ManagerGone(b"b", "its connection was closed"))
    assert stage.unlent() == {"a"}
    assert [member.manager for member in stage.lend("a").members] == ["a", "c"]  # type: ignore[union-attr]
    stage.empty("a", "c")
    assert stage.started("a") == [(0, 1)]


def test_a_lost_node_ends_the_attempt_and_nobody_is_charged() -> None:
    stage = Block("a", "b", "c")
    stage.going()
    stage.tell(ev.ManagerGone(b"b", "its connection was closed"))
    assert stage.unlent() == {"a"}
    assert not stage.up(msg.Lost)
    assert not stage.lend("c"), "the attempt has not ended yet"
    stage.lose(b"a", 0, LossCause.INTERRUPTED, 1)
    (lost,) = stage.up(msg.Lost)
    assert "host-b" in lost.tasks[0].loss.text
    assert "2 nodes" in lost.tasks[0].loss.text
    stage.empty("a", "c")
    assert stage.started("a") == [(0, 2)]


def test_a_task_that_takes_its_nodes_down_ends() -> None:
    stage = Block()
    names = iter("abcdefghijklmnop")
    stage.submit(1, needs=TWO)
    for _ in range(6):
        pair = [next(names), next(names)]
        for name in pair:
            stage.join(name)
        waits = [name for name in "abcdefghijklmnop" if stage.lend(name)]
        stage.empty(*waits)
        lead = next((name for name in waits if stage.started(name)), None)
        if lead is None:
            break
        other = next(m.manager for m in stage.lend(lead).members if m.manager != lead)  # type: ignore[union-attr]
        attempt = stage.started(lead)[-1][1]
        stage.take()
        stage.tell(ev.ManagerGone(other.encode(), "its connection was closed"))
        stage.lose(lead.encode(), 0, LossCause.INTERRUPTED, attempt)
        if losses := stage.losses():
            break
    assert losses[0].cause == LossCause.MANAGER_LOST
    assert losses[0].counted == 3
    assert losses[0].alone == 4


def test_a_lead_that_greets_again_is_told_again_to_end_it() -> None:
    stage = Block("a", "b", "c")
    stage.going()
    stage.tell(ev.ManagerGone(b"b", "its connection was closed"))
    stage.actions.clear()
    stage.manager(
        b"a", _greeting("a", lent=PARTITION, running=[msg.TaskRefs(STREAM, [0, 1], 1, 1)])
    )
    assert stage.unlent() == {"a"}
    stage.finish(b"a", [0])  # it had ended meanwhile
    assert stage.outcomes()[0].kind == 0


def test_the_lead_is_lost() -> None:
    stage = Block("a", "b", "c")
    stage.going()
    stage.tell(ev.ManagerGone(b"a", "its connection was closed"))
    assert stage.unlent() == {"b"}
    stage.empty("b", "c")
    assert stage.started("b") == [(0, 2)]


def test_a_running_task_is_cancelled() -> None:
    stage = Block("a", "b")
    stage.going()
    stage.forwarder(msg.Cancel([msg.TaskRefs(STREAM, [0, 1])], interrupt=True))
    assert not stage.unlent()
    run = msg.ResultRun(STREAM, 1, 1, [msg.Outcome(0, 3)])
    stage.manager(b"a", msg.Results(1, [run]))
    assert stage.unlent() == {"a", "b"}


def test_a_task_that_nobody_wants_any_more() -> None:
    stage = Block("a", "b")
    stage.going()
    stage.forwarder(msg.Cancel([msg.TaskRefs(STREAM, [0, 1])], interrupt=True, forget=True))
    assert stage.unlent() == {"a", "b"}


def test_a_worker_that_dies_on_the_lead() -> None:
    stage = Block("a", "b")
    stage.going()
    stage.lose(b"a", 0, LossCause.WORKER_KILLED, 1)
    assert stage.unlent() == {"a", "b"}
    stage.empty("a", "b")
    assert stage.started("a") == [(0, 2)]


def test_members_that_greet_again_stay_lent() -> None:
    stage = Block("a", "b")
    stage.going()
    partition = msg.Partition(
        STREAM, 0, 1, 1, (msg.Member("a", "host-a"), msg.Member("b", "host-b"))
    )
    stage.manager(b"b", _greeting("b", lent=partition))
    running = [msg.TaskRefs(STREAM, [0, 1], 1, 1)]
    stage.manager(b"a", _greeting("a", lent=partition, running=running))
    assert not stage.unlent()
    assert not stage.to(b"a", msg.Cancel)
    stage.finish(b"a", [0])
    assert stage.unlent() == {"a", "b"}


def test_a_lend_that_did_not_arrive_is_sent_again() -> None:
    stage = Block("a", "b")
    stage.submit(1, needs=TWO)
    stage.empty("a", "b")  # of before the connection broke
    stage = Block("a", "b")
    stage.submit(1, needs=TWO)
    stage.empty("b")
    stage.actions.clear()
    stage.manager(b"b", _greeting("b"))
    stage.manager(b"b", msg.Capacity(4, 1 << 20, 2))
    assert stage.lend("b") is not None
    stage.empty("b")
    assert not stage.started("a")


# --- after a restart ----------------------------------------------------------------------------

PARTITION = msg.Partition(STREAM, 0, 1, 1, (msg.Member("a", "host-a"), msg.Member("b", "host-b")))


def _greeting(name: str, **more: object) -> msg.Register:
    about = {"host": f"host-{name}", "block": "1", "size": SIZE, **more}
    return msg.Register(name, b"", 2, "1", **about)  # type: ignore[arg-type]


def restarted() -> Block:
    """An interchange whose journal knows that the task was sent to the lead."""
    stage = Block(epoch=2, greet=False)
    sent = [ev.Sent("a", [msg.TaskRefs(STREAM, [0, 1], 1, 1)])]
    stage.tell(ev.Recovered(["a", "b"], sent=sent))
    stage.forwarder(msg.Hello(1, "1"))
    return stage


def owed() -> msg.Tasks:
    run = msg.TaskRun(STREAM, 0, DIGEST, [b"x"], sent_before=True, needs=TWO)
    return msg.Tasks([run])


def test_after_a_restart_nodes_stay_lent_while_the_lead_may_come_back() -> None:
    stage = restarted()
    stage.join("b", lent=PARTITION)
    stage.submit(3, stream=OTHER)
    stage.tick(1)
    assert not stage.unlent()
    assert not stage.sent(b"b")
    running = [msg.TaskRefs(STREAM, [0, 1], 1, 1)]
    stage.join("a", lent=PARTITION, running=running)
    stage.tick(1)
    stage.forwarder(owed())
    stage.tick(1)
    assert not stage.unlent()
    assert not stage.sent(b"a")
    assert not stage.sent(b"b")
    stage.finish(b"a", [0])
    assert stage.unlent() == {"a", "b"}
    assert {index for name in (b"a", b"b") for _, index in stage.sent(name)} == {0, 1, 2}


def test_after_a_restart_a_lead_that_does_not_come_back() -> None:
    stage = restarted()
    stage.join("b", lent=PARTITION)
    stage.forwarder(owed())
    stage.wait(35.0, "b")
    assert stage.unlent() == {"b"}
    stage.join("c")
    stage.empty("b", "c")
    assert stage.started("b") == [(0, 1)]


def test_after_a_restart_a_node_that_does_not_come_back() -> None:
    stage = restarted()
    running = [msg.TaskRefs(STREAM, [0, 1], 1, 1)]
    stage.join("a", lent=PARTITION, running=running)
    stage.forwarder(owed())
    stage.tick(1)
    assert not stage.unlent()
    stage.wait(35.0, "a")
    assert stage.unlent() == {"a"}


def test_after_a_restart_a_lead_that_never_got_its_task() -> None:
    stage = restarted()
    stage.join("a", lent=PARTITION)
    stage.join("b", lent=PARTITION)
    stage.tick(1)
    assert stage.unlent() == {"a", "b"}

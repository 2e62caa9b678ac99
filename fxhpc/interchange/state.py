"""What the interchange's parts share: its queue, its managers, and the actions that they want."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from fxhpc.interchange import events as ev
from fxhpc.interchange.apart import Apart, put_first
from fxhpc.interchange.awaited import UNKNOWN
from fxhpc.interchange.held import Manager, refs, single, split_run
from fxhpc.interchange.histories import Histories
from fxhpc.interchange.outbox import Outbox
from fxhpc.interchange.placement.beyond import Brought
from fxhpc.interchange.placement.ledger import Ledger
from fxhpc.interchange.placement.sized import Sized
from fxhpc.interchange.roster import Roster
from fxhpc.protocol import messages as msg
from fxhpc.protocol.needs import needs_several
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.protocol.turns import Turns

#: Lines for the log that one event can cause.
NOTES = 100


class State:
    """An interchange's memory.

    Args:
        endpoint: the endpoint's UUID.
        epoch: raised at every start, so that no attempt of before is taken for one of now.
        name: the endpoint's, for people.
        notes: whether the log is wanted.
        remedy: what to do when what its blocks failed of is mended.
    """

    def __init__(
        self, endpoint: str, epoch: int, name: str = "", notes: bool = False, remedy: str = ""
    ) -> None:
        self.endpoint = endpoint
        self.epoch = epoch
        self.name = name
        self.remedy = remedy or f"fxhpc endpoint restart {name or 'NAME'}"
        self.now = 0.0
        self.actions: list[ev.Action] = []
        self._notes = notes
        self._notes_left = 0
        self.stopping = False
        self.stop_why = "the endpoint was stopped"  # by whom, and when
        self.made_from = ""  # what blocks are made from now
        self.credit_changed = True  # of any manager, so that the window may have changed
        self.declared = False  # whether any task ever declared how long it takes
        self.has_needs = False  # whether any task ever had needs of its own
        self.only_one = False  # there is one manager, and never another
        self.is_cautious = False  # whether any task ever was not to run twice
        self.managers: dict[bytes, Manager] = {}  # by connection
        self.by_name: dict[str, Manager] = {}
        self.roster = Roster(self.managers)
        self.queue: Turns[msg.TaskRun] = Turns(lambda run: len(run.payloads), split_run)
        self.apart = Apart()  # single tasks that not every manager may have
        self.sized = Sized()  # tasks with needs of their own
        # Of these, those that need several nodes.
        self.several = Sized()
        self.brought = Brought()
        self.histories = Histories()
        # Tasks of which an attempt was given up and may end all the same, and the manager that was
        # given them since, if any was.
        self.again: dict[tuple[bytes, int], str] = {}
        # After a restart, tasks that a manager which may come back was sent; by its name.
        self.waiting: dict[str, dict[tuple[bytes, int], msg.TaskRun]] = {}
        # Whether some may come back that an incomplete journal does not name.
        self.awaits_unknown = False
        # Tasks that managers were asked to end, and whether also if they run: should one come back
        # without an outcome, it is not to run again.
        self.unwanted: dict[tuple[bytes, int], bool] = {}
        self.outbox = Outbox(first=(epoch << 32) + 1)

    def begin(self, now: float) -> list[ev.Action]:
        """Begin with an event; where the actions that it causes are put."""
        self.now = now
        if self.has_needs:
            self.sized.now = now
        self.actions = []
        self._notes_left = NOTES
        return self.actions

    def note(self, text: str, level: str = "info") -> None:
        """Write a line to the log; of very many at once, the first."""
        if not self._notes:
            return
        self._notes_left -= 1
        if self._notes_left > 0:
            self.actions.append(ev.Note(level, text))
        elif self._notes_left == 0:
            self.actions.append(ev.Note(level, "... and more of this kind at the same time"))

    def admit(self, manager: Manager) -> None:
        """A manager is there."""
        self.managers[manager.peer] = self.by_name[manager.name] = manager
        manager.changed = self.roster.changed
        manager.is_changed = False
        if manager.ledger is not None:
            manager.ledger.join(self.sized.held)
        self.brought.note(manager)
        if self.is_cautious and manager.proven is None:
            manager.proven = 0
        manager.touch()

    def be_cautious(self) -> None:
        """Some tasks are not to run twice: managers hold few from now on."""
        if not self.is_cautious:
            self.is_cautious = True
            for manager in self.managers.values():
                manager.proven = 0
                manager.touch()

    def dismiss(self, manager: Manager) -> None:
        """A manager, or its connection, is not there any more."""
        if self.managers.pop(manager.peer, None) is manager and manager.ledger is not None:
            manager.ledger.leave()
        if self.by_name.get(manager.name) is manager:
            del self.by_name[manager.name]
        manager.touch()
        self.credit_changed = True

    def only_node(self) -> Ledger | None:
        """What the node has, if there is one manager, never another, and it has told."""
        if not self.only_one:
            return None
        ledgers = (manager.ledger for manager in self.managers.values())
        return next((ledger for ledger in ledgers if ledger is not None), None)

    def drain(self, manager: Manager) -> None:
        """Have a manager finish what it runs, and leave."""
        manager.draining = True
        manager.touch()
        self.credit_changed = True
        self.to_manager(manager.peer, msg.Drain())

    def to_manager(self, peer: bytes, message: msg.ToManager) -> None:
        """Send a message to a manager."""
        self.actions.append(ev.ToManager(peer, message))

    def requeue(self, task: msg.TaskRun) -> None:
        """Queue a single task again, before all that waits."""
        if self.unwanted and self.end_unwanted(task):
            return
        key = (task.stream, task.first)
        if self.awaits_unknown and task.sent_before:
            # What is known to have ended was an attempt of before: there may be a later one.
            self.waiting.setdefault(UNKNOWN, {})[key] = task
            return
        self.again[key] = ""
        if task.needs and needs_several(task.needs):
            self.several.push_front(task)  # it has its nodes for itself anyway
            return
        if task.suspect:
            alone = self.histories.must_be_alone(key)
            put_first(self.apart.alone if alone else self.apart.suspects, task)
            return
        hosts = self.histories.charged_on(key)
        if hosts and self.roster.others_than(hosts):
            self.apart.avoid(hosts, task)
        elif task.needs:
            self.sized.push_front(task)
        else:
            self.queue.push_front(task.stream, task)

    def requeue_run(self, run: msg.TaskRun) -> None:
        """Queue tasks again that were not begun, before all that waits of their stream."""
        if self.unwanted or self.histories or run.suspect:
            for index in reversed(range(run.first, run.first + len(run.payloads))):
                self.requeue(single(run, index))
        elif run.needs and needs_several(run.needs):
            self.several.put_back(run)
        elif run.needs:
            self.sized.put_back(run)
        else:
            self.queue.put_back(run.stream, run)

    def enqueue(self, run: msg.TaskRun) -> None:
        """Tasks wait for their turn."""
        if run.needs and needs_several(run.needs):
            self.several.push(run)
        elif run.needs:
            self.sized.push(run)
        else:
            self.queue.push(run.stream, run)

    def put_first(self, run: msg.TaskRun) -> None:
        """These are next."""
        if run.needs:
            self.sized.push_front(run)
        else:
            self.queue.push_front(run.stream, run)

    def remove_sized(self, stream: bytes, wanted: set[int]) -> set[int]:
        """Take tasks with needs of their own out of what waits; those that did."""
        return self.sized.remove(stream, wanted) | self.several.remove(stream, wanted)

    def ready_runs(self) -> Iterator[msg.TaskRun]:
        """All that waits here for a manager."""
        return chain(self.queue, self.apart, self.sized, self.several)

    def waiting_runs(self) -> Iterator[msg.TaskRun]:
        """All that is here, and at no manager: also what one of before may have."""
        waiting = (run for tasks in self.waiting.values() for run in tasks.values())
        return chain(self.ready_runs(), waiting)

    @property
    def ready_tasks(self) -> int:
        """How many tasks wait here for a manager."""
        return len(self.queue) + len(self.apart) + len(self.sized) + len(self.several)

    def end_unwanted(self, task: msg.TaskRun) -> bool:
        """End a single task whose attempt left no outcome, if somebody has cancelled it."""
        key = (task.stream, task.first)
        if self.unwanted.pop(key, None) is None:
            return False
        self.again.pop(key, None)
        self.histories.forget(key)
        outcome = Outcome(task.first, OutcomeKind.CANCELLED)
        run = msg.ResultRun(task.stream, task.epoch, task.attempt, [outcome])
        self.outbox.add(b"", 0, [run], self.actions)
        return True

    def tell_cancelled(self, tasks: dict[bytes, list[int]]) -> None:
        """Tell the forwarder that these have ended before they began: indices by stream."""
        runs = [
            msg.ResultRun(
                stream, self.epoch, 0, [Outcome(index, OutcomeKind.CANCELLED) for index in indices]
            )
            for stream, indices in tasks.items()
            if indices
        ]
        if runs:
            self.outbox.add(b"", 0, runs, self.actions)

    def running(self) -> list[msg.TaskRefs]:
        """All tasks that are known to run."""
        tasks: dict[bytes, list[int]] = {}
        for manager in self.managers.values():
            for stream, index in manager.running:
                tasks.setdefault(stream, []).append(index)
        return refs(tasks)

    def held(self) -> list[msg.TaskRefs]:
        """All tasks that are here, or at a manager, or whose outcome lies in the spool."""
        tasks: dict[bytes, list[int]] = {}
        for run in self.waiting_runs():
            tasks.setdefault(run.stream, []).extend(range(run.first, run.first + len(run.payloads)))
        for manager in self.managers.values():
            for stream, held in manager.held.items():
                tasks.setdefault(stream, []).extend(held)
        return refs(tasks) + self.outbox.spooled_tasks()

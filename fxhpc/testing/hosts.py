"""Interchanges in a test: the real core, its journal and spool, and the links of its managers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fxhpc.interchange import events as ev
from fxhpc.interchange.awaited import UNKNOWN
from fxhpc.interchange.core import Interchange
from fxhpc.interchange.outbox import result_refs
from fxhpc.interchange.recovering import RETURN_S
from fxhpc.protocol import messages as msg
from fxhpc.testing.clock import HostClock
from fxhpc.testing.nodes import NodeLink


class InterchangeHost:
    """What an interchange's shell does, and what of it outlives a crash.

    Args:
        endpoint: its UUID, as text.
        to_forwarder: takes what it says to the forwarder.
        on_lost: called with a manager's name whenever one is given up.

    Attributes:
        journal: the records that were written, in order. It survives `restart`.
        spool: outcomes by number. It survives `restart`.
        left: what managers have left in files, by path. It survives too.
        full: nothing can be written to journal and spool.
        suspended: nothing happens in it.
        closing: it refuses managers and waits for those that are there to end.
    """

    def __init__(
        self,
        endpoint: str,
        epoch: int,
        clock: HostClock,
        to_forwarder: Callable[[msg.FromInterchange], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.endpoint = endpoint
        self.epoch = epoch
        self.journal: list[ev.Sent | ev.ManagerKnown] = []
        self.spool: dict[int, msg.Results] = {}
        self.links: dict[bytes, NodeLink] = {}
        self.known: set[bytes] = set()  # connections of managers that have registered
        self._ever: dict[str, None] = {}  # managers that registered, with processes of before too
        self.left: dict[str, list[msg.Results]] = {}
        self.full = False
        self.suspended = False
        self.closing = False
        self._unwritten: list[ev.Sent | ev.ManagerKnown] = []
        self._incomplete = False  # since before a restart
        self._recovered = 0.0  # when it last was
        self._told: set[str] = set()  # of what was left
        self.clock = clock
        self._to_forwarder = to_forwarder
        self._on_lost = on_lost
        self.core = Interchange(endpoint, epoch)

    def restart(self, epoch: int, clock: HostClock) -> None:
        """A new process in the place of one that was killed: it has what lies on disk alone."""
        self.epoch = epoch
        self.clock = clock
        self.suspended = False
        self._incomplete = self._incomplete or bool(self._unwritten)
        self._unwritten.clear()
        self._told.clear()
        self.core = Interchange(self.endpoint, epoch)
        self.known.clear()
        for link in self.links.values():
            link.forget()
            link.up.clear()
        self.recover()

    def take_over(self, before: InterchangeHost) -> None:
        """Find the journal of a `local` one whose process was killed."""
        self.journal = before.journal
        self._ever = before._ever
        self._incomplete = before._incomplete or bool(before._unwritten)

    def recover(self) -> None:
        """Read journal and spool."""
        managers: dict[str, None] = {}
        sent: list[ev.Sent] = []
        for record in self.journal:
            if isinstance(record, ev.Sent):
                sent.append(record)
            elif record.present:
                managers[record.manager] = None
            else:
                managers.pop(record.manager, None)
        self._recovered = self.clock()
        spooled = [(number, result_refs(results)) for number, results in self.spool.items()]
        self.tell(ev.Recovered(list(managers), sent, spooled, self._incomplete))

    def tell(self, event: ev.Event) -> None:
        """Let the core know of something, and do what it wants."""
        expected = self.core._recovering.expected
        waited = UNKNOWN in expected
        for action in self.core.handle(event, self.clock()):
            self._carry_out(action)
        if waited and UNKNOWN not in expected and self.clock() >= self._recovered + RETURN_S:
            for name in [name for name in self._ever if name not in self.core._state.by_name]:
                self._on_lost(name)  # it may be there, and nobody waits for it any more
        if isinstance(event, ev.Tick):
            self._look_after_files()

    def _look_after_files(self) -> None:
        """As its process does with each tick."""
        for path, batch in list(self.left.items()):
            if path not in self._told:
                self._told.add(path)
                self.tell(ev.Left(path, batch))
        if self.full:
            return
        self.journal += self._unwritten
        self._unwritten.clear()
        if self.core.is_idle:
            # As `Journal.compact` does: what was sent is of no use any more.
            self._incomplete = self._incomplete and not self.core.has_all
            managers: dict[str, ev.Sent | ev.ManagerKnown] = {}
            for record in self.journal:
                if isinstance(record, ev.ManagerKnown):
                    managers.pop(record.manager, None)
                    if record.present:
                        managers[record.manager] = record
            self.journal = list(managers.values())

    def hear(self, peer: bytes) -> bool:
        """Handle a manager's next message; whether there was one on the way."""
        link = self.links.get(peer)
        if link is None or not link.up:
            return False
        message = link.deliver_up()
        if message is None:
            return True
        if isinstance(message, msg.Register):
            if self.closing:
                link.answer(msg.Refuse("the process that it works for has ended"))
                link.forget()
                return True
            self.known.add(peer)
            self._ever[message.manager] = None
        elif peer not in self.known:
            link.answer(msg.Reset())
            link.forget()
            return True
        self.tell(ev.ManagerSaid(peer, message))
        return True

    def gone(self, peer: bytes, why: str = "its process has ended") -> None:
        """A manager's process has ended, and all that it said was heard."""
        self.links.pop(peer, None)
        if peer in self.known:
            self.known.discard(peer)
            self.tell(ev.ManagerGone(peer, why))

    def close(self) -> None:
        """Tell the managers to end."""
        self.closing = True
        for peer in self.known:
            self.links[peer].answer(msg.Bye("its process has ended"))

    def _carry_out(self, action: Any) -> None:
        if isinstance(action, ev.ToForwarder):
            self._to_forwarder(action.message)
        elif isinstance(action, ev.ToManager):
            if isinstance(action.message, msg.Tasks):
                self._check_credit(action.peer, action.message)
            if link := self.links.get(action.peer):
                link.answer(action.message)
        elif isinstance(action, ev.CloseManager):
            self.known.discard(action.peer)
            if link := self.links.get(action.peer):
                link.forget()
        elif isinstance(action, ev.Spool):
            batch = [] if self.full else action.batch
            self.spool.update((results.number, results) for results in batch)
            self.tell(ev.Spooled([results.number for results in batch]))
        elif isinstance(action, ev.ReadSpool):
            self.tell(ev.Unspooled([self.spool[number] for number in action.numbers]))
        elif isinstance(action, ev.ClearSpool):
            self.spool.clear()
        elif isinstance(action, ev.DiscardLeft):
            del self.left[action.path]
        else:
            if self.full or self._unwritten:
                self._unwritten.append(action)  # in their order
            else:
                self.journal.append(action)
            if isinstance(action, ev.ManagerKnown) and not action.present:
                self._ever.pop(action.manager, None)
                self._on_lost(action.manager)

    def _check_credit(self, peer: bytes, tasks: msg.Tasks) -> None:
        """No manager gets more than it wants; one task may be larger than all of its bytes."""
        manager = self.core._state.managers[peer]
        wanted, _ = manager.told
        ordinary = manager.held_tasks - len(manager.ledger or ())
        if not all(run.needs for run in tasks.runs):  # others are counted by what they need
            assert ordinary <= wanted, "more tasks than the credit"
        last = max(len(payload) for run in tasks.runs for payload in run.payloads)
        assert manager.held_bytes - last < manager.credit_bytes, "more bytes than the credit"

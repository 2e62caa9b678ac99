"""A manager's greeting: what it keeps, what it shall drop, and what it should have and has not."""

from __future__ import annotations

from fxhpc.interchange import events as ev
from fxhpc.interchange.awaited import UNKNOWN
from fxhpc.interchange.held import Claim, Manager, each, in_block, one_ref, single
from fxhpc.interchange.losses import LOST
from fxhpc.interchange.recovering import Recovering
from fxhpc.interchange.state import State
from fxhpc.interchange.unsent import Unsent
from fxhpc.protocol import messages as msg
from fxhpc.protocol.versions import PROTOCOL, common_protocol
from fxhpc.version import __version__


class Registering:
    """Compares what managers say they hold with what they should."""

    def __init__(
        self, state: State, recovering: Recovering, unsent: Unsent, heartbeat_s: float
    ) -> None:
        self._state = state
        self._recovering = recovering
        self._unsent = unsent
        self._heartbeat_s = heartbeat_s

    def register(self, peer: bytes, message: msg.Register, now: float) -> str:
        """Let a manager in, or refuse it; why it was refused, or nothing."""
        protocol = common_protocol(message.protocol, message.oldest_protocol)
        if protocol is None:
            reason = (
                f"manager {message.manager} on {message.host} is fxhpc {message.version} "
                f"(protocol {message.protocol}), this interchange is fxhpc {__version__} "
                f"(protocol {PROTOCOL}): install the same version on both"
            )
            self._state.actions.append(ev.ToManager(peer, msg.Refuse(reason)))
            self._state.note(f"refused: {reason}", "warning")
            return reason
        if message.manager in (LOST, UNKNOWN):  # names that mean something else here
            reason = (
                f"a manager on {message.host} calls itself {message.manager!r}, which is no name"
            )
            self._state.actions.append(ev.ToManager(peer, msg.Refuse(reason)))
            self._state.note(f"refused: {reason}", "warning")
            return reason
        manager = Manager(peer, message.manager, message.slots, message.host, now, message)
        manager.unstored = set(message.unstored)
        before = self._state.by_name.get(message.manager)
        if before is not None:
            self._state.dismiss(before)
            manager.cancelled = dict(before.cancelled)
            manager.draining = before.draining
            manager.alone, manager.kept_free = before.alone, before.kept_free
            manager.ended = before.ended
            if before.peer != peer:
                self._state.actions.append(ev.CloseManager(before.peer))
        self._state.admit(manager)
        self._state.histories.acquit(manager.name)
        drop: list[msg.TaskRefs] = []
        doubtful: list[tuple[msg.TaskRefs, int, bool]] = []
        there = [(ref, index, False) for ref, index in each(message.queued)]
        there += [(ref, index, True) for ref, index in each(message.running)]
        # The latest attempt first: of earlier ones it says that they were lost, if it names them.
        there.sort(key=lambda held: (held[0].epoch, held[0].attempt), reverse=True)
        self._recovering.believe(manager.name, there)
        waiting = self._state.waiting.pop(manager.name, {})
        self._recovering.expected.pop(manager.name, None)
        unknown = self._state.waiting.get(UNKNOWN, {})
        claimed = self._recovering.take_claims(manager)
        for ref, index, running in there:
            task = (ref.stream, index)
            run = before.release(*task) if before is not None else None
            if run is not None and (run.epoch, run.attempt) == (ref.epoch, ref.attempt):
                manager.hold(single(run, index))
                if running:
                    manager.running[task] = (
                        before.running.get(task, now) if before is not None else now
                    )
            elif run is not None:
                # It was given another attempt of this since; that one is missing now.
                manager.missing.append(task)
                manager.hold(single(run, index))
                drop.append(one_ref(ref, index))
            elif task in waiting or task in unknown:
                found = waiting if task in waiting else unknown
                self._recovering.adopt(
                    Claim(manager.name, ref.epoch, ref.attempt, running), found.pop(task)
                )
            elif ref.epoch < self._state.epoch and (before is None or task in claimed):
                doubtful.append((ref, index, running))
            else:
                drop.append(one_ref(ref, index))
        drop += self._recovering.claim(manager, doubtful)
        # What it should hold, and does not: ended in Results that come again, or never arrived.
        leftovers = [] if before is None else list(before.tasks())
        if UNKNOWN in self._recovering.expected:
            # The journal lacks whom these were sent to since.
            self._state.waiting.setdefault(UNKNOWN, {}).update(waiting)
        else:
            leftovers += [(stream, index, run) for (stream, index), run in waiting.items()]
        for stream, index, run in leftovers:
            manager.hold(single(run, index))
            manager.missing.append((stream, index))
        self._state.actions += (
            ev.ManagerKnown(message.manager, True, message.block),
            ev.ToManager(
                peer,
                msg.Welcome(
                    self._state.epoch,
                    __version__,
                    protocol=protocol,
                    drop=drop,
                    heartbeat_s=self._heartbeat_s,
                ),
            ),
        )
        # That these were cancelled may have been lost on the way.
        for (stream, index), interrupt in list(manager.cancelled.items()):
            if index in manager.held.get(stream, {}):
                again = msg.Cancel([msg.TaskRefs(stream, [index, 1])], interrupt)
                self._state.actions.append(ev.ToManager(peer, again))
            else:
                del manager.cancelled[stream, index]
        self._unsent.came_back(manager)
        if manager.suspect is None:
            manager.alone = False
        self.requeue_missing(manager)
        self._state.note(
            f"manager {manager.name} on {manager.host}{in_block(manager)} has registered: "
            f"{manager.slots} workers, fxhpc {manager.version}, Python {manager.python}"
        )
        return ""

    def requeue_missing(self, manager: Manager) -> None:
        """Queue again what a manager lacks, once it has told all that has ended there."""
        if manager.unstored:
            return
        self._recovering.told_all(manager.name)
        for stream, index in reversed(manager.missing):
            if run := manager.release(stream, index):
                self._state.requeue(single(run, index))
        manager.missing.clear()
        self._unsent.settle()

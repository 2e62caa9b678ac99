"""How an interchange ends: managers finish what they run, blocks are cancelled, nothing is left."""

from __future__ import annotations

from fxhpc.interchange import events as ev
from fxhpc.interchange.blocks.allocating import Allocating
from fxhpc.interchange.recovering import SETTLED_S, Recovering
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg
from fxhpc.units import format_duration

#: Seconds that cancelling may take, all attempts at it together, and after which the process ends.
CANCELLING_S = 45.0

#: Seconds that managers, and a forwarder that is there, may take to have their last words stored.
LAST_WORDS_S = 3.0

#: Seconds that managers of before have to come back: all that still live try once in two.
RETURN_S = SETTLED_S


class Leaving:
    """Ends the interchange when it is asked to. Tasks that wait stay in the forwarder's store."""

    def __init__(self, state: State, allocating: Allocating | None, recovering: Recovering) -> None:
        self._state = state
        self._allocating = allocating
        self._recovering = recovering
        self._return_until = 0.0
        self._drain_until = 0.0
        self._cancelling_since: float | None = None
        self._left = False

    def ask(self, event: ev.StopAsked, now: float) -> None:
        """The endpoint is to end."""
        state = self._state
        if event.keep_blocks:
            self._leave("its blocks go on, and wait for the next interchange")
            return
        state.stop_why = event.why or state.stop_why
        until = now + event.drain_s
        self._drain_until = min(self._drain_until, until) if state.stopping else until
        if not state.stopping:
            state.stopping = True
            for manager in state.managers.values():
                if not manager.draining:
                    state.drain(manager)
            running = sum(manager.held_tasks for manager in state.managers.values())
            awaited = self._recovering.awaited
            self._return_until = now + RETURN_S
            state.note(
                f"stopping: {len(state.managers)} managers with {running} tasks have "
                f"{format_duration(event.drain_s)} to finish"
                + (f"; {awaited} of before may come back, to tell their results" * bool(awaited))
            )
            if self._allocating is not None:
                self._allocating.cancel_all(state.stop_why, now, spared=self._recovering.may_return)
                self._allocating.scheduler.cancel(now)
        self.go_on(now)

    def go_on(self, now: float) -> None:
        """See how far it is."""
        state = self._state
        if not state.stopping or self._left:
            return
        if self._cancelling_since is None:
            if state.managers and now < self._drain_until:
                return
            if self._recovering.awaited and now < self._return_until:
                return  # what has ended there would run again
            self._cancelling_since = now
            if cut_off := sum(len(manager.running) for manager in state.managers.values()):
                state.note(
                    f"{cut_off} running tasks are cut off: they run again at the next start, but "
                    f"for those with retries=0"
                )
            for manager in state.managers.values():
                state.to_manager(manager.peer, msg.Bye(state.stop_why))
            if self._allocating is not None:
                self._allocating.cancel_all(state.stop_why, now)
                self._allocating.scheduler.cancel(now)
        spent = now - self._cancelling_since
        unsaid = state.managers or (state.outbox and state.outbox.connected)
        if unsaid and spent < LAST_WORDS_S:
            return
        left = self._blocks_left()
        if not left:
            self._leave("stopped", nothing_runs=not state.managers)
        elif spent >= CANCELLING_S or self._is_hopeless():
            self._leave(
                f"stopped; these may still be there, cancel them by the batch system's own "
                f"command: {', '.join(left)}"
            )

    def _blocks_left(self) -> list[str]:
        """Blocks whose end the batch system has not confirmed."""
        if self._allocating is None:
            return []
        blocks = self._allocating.blocks
        return [
            f"{blocks.describe(block)}, named {block.name}"
            for block in blocks
            if not block.cancelled
        ]

    def _is_hopeless(self) -> bool:
        return self._allocating is not None and bool(self._allocating.scheduler.failed)

    def _leave(self, reason: str, nothing_runs: bool = False) -> None:
        if not self._left:
            self._left = True
            if self._allocating is not None:
                self._allocating.blocks.drop_cancelled()
            self._state.note(f"ends: {reason}")
            self._state.actions.append(ev.Leave(reason, nothing_runs))

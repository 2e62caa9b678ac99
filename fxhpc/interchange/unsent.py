"""Cancelled tasks that the forwarder has not sent to this interchange: who of before has them."""

from __future__ import annotations

from collections.abc import Iterable

from fxhpc.interchange import events as ev
from fxhpc.interchange.held import Manager
from fxhpc.interchange.recovering import Recovering
from fxhpc.interchange.state import State
from fxhpc.protocol import messages as msg


class Unsent:
    """Answers a Cancel of tasks that are not here: as soon as it is known who has them.

    After a restart the forwarder asks about what waits there and was sent before, and does not
    send it again until that is answered. Whoever is found to have it is asked; if nobody is left
    who may have it, it has ended before it began.
    """

    def __init__(self, state: State, recovering: Recovering) -> None:
        self._state = state
        self._recovering = recovering

    def cancel(self, stream: bytes, indices: Iterable[int], interrupt: bool) -> list[int]:
        """Cancel tasks that are not here. Returns those that nobody can have begun."""
        over = self._state.outbox.tasks_of(stream)  # how these ended is told, or was
        unbegun: list[int] = []
        for index in sorted(indices):
            task = (stream, index)
            if index in over:
                continue
            if not self._recovering.may_have(task):
                self._recovering.disown(task)
                unbegun.append(index)
                continue
            self._state.unwanted[task] = interrupt or self._state.unwanted.get(task, False)
            self._recovering.asked[task] = None
            if claim := self._recovering.claims.get(task):
                self._ask(self._state.by_name[claim.manager], task)
        return unbegun

    def came_back(self, manager: Manager) -> None:
        """A manager has greeted: ask it about what it has."""
        if asked := self._recovering.asked:
            for task in self._recovering.claims.of(manager.name):
                if task in asked:
                    self._ask(manager, task)

    def _ask(self, manager: Manager, task: tuple[bytes, int]) -> None:
        """Have its manager end it, or say that it runs."""
        interrupt = self._state.unwanted.get(task, False)
        cancel = msg.Cancel([msg.TaskRefs(task[0], [task[1], 1])], interrupt)
        self._state.actions.append(ev.ToManager(manager.peer, cancel))

    def settle(self) -> None:
        """Answer what is known by now."""
        unbegun: dict[bytes, list[int]] = {}
        for task in list(self._recovering.asked):
            if task not in self._state.unwanted:
                del self._recovering.asked[task]  # it has ended, or runs, which was told
            elif not self._recovering.may_have(task):
                self._recovering.disown(task)
                unbegun.setdefault(task[0], []).append(task[1])
        self._state.tell_cancelled(unbegun)

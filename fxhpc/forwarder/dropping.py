"""What goes from the store: rows of forgotten streams, bodies, and the room they leave. No I/O.

A stream that goes is forgotten at once; its rows are dropped a few at a time, so that nobody's
submission waits behind them. A crash in between leaves the stream's name marked in the store, and
the next forwarder drops the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from fxhpc.forwarder.state import State, ignore
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.streams import Stream

#: Of one step of dropping: rows, and bytes of payloads in them. About 20 ms of the writer's time.
STEP_ROWS = 200
STEP_BYTES = 4 * 2**20

#: Pages of 4 KB that one step gives back to the file system.
STEP_PAGES = 500

#: Seconds until what the store has refused to drop is tried again.
RETRY_S = 10.0

#: Seconds until a new forwarder drops bodies: the clients of the one before it come back meanwhile.
SETTLED_S = 10.0

#: What is done when all is dropped, or with the error that keeps some of it there.
Gone = Callable[[Exception | None], None]

_Rows = list[tuple[int, int]]  # numbers and bytes


class _Going(msgspec.Struct, eq=False):
    """A stream whose rows are to go."""

    name: bytes
    # Rows from this one on are of after it was forgotten: its client has gone on with it.
    below: int | None = None
    is_marked: bool = True  # the store knows that it is forgotten


class Dropping:
    """Drops what is forgotten, bit by bit.

    Attributes:
        on_forgotten: told of streams that nobody may ask for any more.
        shared: shared arguments that this forwarder was sent.
    """

    on_forgotten: Callable[[Stream], None]

    def __init__(self, state: State) -> None:
        self._state = state
        self._going: deque[_Going] = deque()
        self._stuck: list[_Going] = []  # which the store has refused to drop
        self._retry_at = 0.0
        self._trouble: Exception | None = None  # why
        self._current: _Going | None = None  # the one that is being dropped
        self._when_done: list[Gone] = []
        self._is_littered = False  # something went: bodies may be left that nothing refers to
        self._began: float | None = None
        self.shared: set[bytes] = set()
        self._free: set[bytes] = set()  # of these: no client counted on them at the last look
        self._look_at = 0.0

    def forget(self, streams: Iterable[Stream], then: Gone | None = None) -> bool:
        """Forget streams, and drop their rows bit by bit, and those that did not go before.

        Args:
            then: called when all of them are dropped, or cannot be for now.

        Returns whether there was any.
        """
        marked: list[_Going] = []
        for stream in list(streams):
            name = stream.info.stream
            self._state.forget_stream(stream)
            if stream.info.key and stream.pending:
                self._state.abandoned.add(name)
            self.on_forgotten(stream)
            if any(client.instance == stream.owner for client in self._state.clients.values()):
                self._state.purged[name] = stream.accepted  # its client may go on with it
            marked.append(_Going(name, self._state.next_row))
        if then is not None:
            self._when_done.append(then)
            self._try_again()
        if marked:
            self._going.extend(marked)
            self._is_littered = True

            def stored(error: Exception | None) -> None:
                for going in marked:
                    going.is_marked = error is None

            self._state.store([op.ForgetStream(going.name) for going in marked], stored)
        self._go_on()
        return bool(marked)

    def is_going(self, stream: bytes) -> bool:
        """Whether rows of a forgotten stream of this name may be left."""
        current = self._current
        if current is not None and current.name == stream:
            return True
        return any(going.name == stream for going in (*self._going, *self._stuck))

    def go_on_with(self, streams: Iterable[bytes]) -> None:
        """An earlier forwarder did not come to the end of these."""
        self._going.extend(map(_Going, streams))

    def tick(self) -> bool:
        """Time has passed. Returns whether anything is on its way out."""
        if self._began is None:
            self._began = self._state.now
        if not self._state.clients:
            self.sweep()
        if self._stuck and self._state.now >= self._retry_at:
            self._try_again()
        if not self._going:
            return False
        self._go_on()
        return True

    def _try_again(self) -> None:
        self._going.extend(self._stuck)
        self._stuck.clear()

    def _go_on(self) -> None:
        if self._current is not None:
            return
        if not self._going:
            waiting, self._when_done = self._when_done, []
            trouble, self._trouble = self._trouble, None
            for then in waiting:
                then(trouble)
            return
        going = self._current = self._going.popleft()

        def listed(value: Any, error: Exception | None) -> None:
            if error is not None:
                self._fail(going, error)
                return
            submissions, results = (
                [(row, size) for row, size in rows if going.below is None or row < going.below]
                for rows in value
            )
            self._drop_step(going, submissions, results)

        self._state.load("rows_of", (going.name,), listed)

    def _drop_step(self, going: _Going, submissions: _Rows, results: _Rows) -> None:
        room = [STEP_ROWS, STEP_BYTES]
        operations: list[op.Operation] = []
        is_back = going.name in self._state.streams  # with a mark that the next purge removes
        if not going.is_marked and not is_back:
            operations.append(op.ForgetStream(going.name))
        taken, taken_results = _take(submissions, room), list[tuple[int, int]]()
        if taken:
            operations.append(op.DropSubmissions([row for row, _ in taken]))
        if not submissions and (taken_results := _take(results, room)):
            operations.append(op.DropResults([row for row, _ in taken_results]))
        is_last = not submissions and not results
        if is_last and not is_back:
            operations.append(op.DropStream(going.name))

        def dropped(error: Exception | None) -> None:
            if error is not None:
                self._fail(going, error)
                return
            going.is_marked = True
            if not is_last:
                self._drop_step(going, submissions, results)
                return
            self._current = None
            self._go_on()

        self._state.store(operations, dropped)

    def _fail(self, going: _Going, error: Exception) -> None:
        """The store refuses this, and would refuse the others: they go later, who waits is told."""
        self._stuck += [going, *self._going]
        self._going.clear()
        self._retry_at = self._state.now + RETRY_S
        self._trouble = error
        self._current = None
        self._go_on()

    def sweep(self) -> None:
        """Drop bodies that nothing refers to. Clients remember what they have stored, and send it
        once: so only while none is there, or has been, but the one that asks.
        """
        state = self._state
        if not self._is_littered or len(state.clients) > 1 or state.expected:
            return
        if self._began is None or state.now < self._began + SETTLED_S:
            return  # `tick` comes back to it
        self._is_littered = False
        in_use = list({stream.info.function for stream in state.streams.values()})
        there = set(state.clients)

        def found(value: Any, error: Exception | None) -> None:
            if error is None and value and set(state.clients) <= there:
                state.store([op.DropBodies(value)], ignore)
            else:
                self._is_littered = error is not None or bool(value)

        state.load("unreferenced", (in_use,), found)

    def _unheld(self) -> set[bytes]:
        """Shared arguments that no client counts on, and no task that may still run needs."""
        held = {digest for client in self._state.clients.values() for digest in client.bodies}
        return self.shared - held

    def drop_shared(self) -> None:
        """Drop shared arguments that nobody has counted on for a while: a client that comes back
        may have sent tasks that refer to them, which arrive a moment later.
        """
        if not self.shared or self._state.now < self._look_at:
            return
        self._look_at = self._state.now + SETTLED_S
        before, self._free = self._free, self._unheld()
        candidates = before & self._free
        for stream in self._state.streams.values() if candidates else ():
            candidates -= stream.referred()
        if not candidates:
            return
        in_use = list({stream.info.function for stream in self._state.streams.values()})

        def found(value: Any, error: Exception | None) -> None:
            if error is not None:
                return
            gone = candidates.intersection(value) & self._unheld()
            for stream in self._state.streams.values():
                gone -= stream.referred()
            if gone:
                self.shared -= gone
                self._state.bodies.drop(gone)
                self._state.store([op.DropBodies(sorted(gone))], ignore)

        self._state.load("unreferenced", (in_use,), found)

    def compact(self, then: Gone) -> None:
        """Give free room within the database, and the log, back to the file system."""

        def compacted(left: Any, error: Exception | None) -> None:
            if error is None and left:
                self._state.load("compact", (STEP_PAGES,), compacted)
            else:
                self._state.load("truncate", (), lambda value, later: then(error or later))

        self._state.load("compact", (STEP_PAGES,), compacted)


def _take(rows: _Rows, room: list[int]) -> _Rows:
    """Take rows from the end of the list, as far as there is room, and one at least."""
    taken: _Rows = []
    while rows and (not taken or (room[0] > 0 and room[1] > 0)):
        taken.append(rows.pop())
        room[0] -= 1
        room[1] -= taken[-1][1]
    return taken

"""Calls that wait for outcomes, and outcomes that are pushed: who gets what, and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fxhpc.forwarder import causes
from fxhpc.forwarder.delivery import Client, Doubt, Row, RowCache, Waiter, answer, push_rows
from fxhpc.forwarder.gathering import Gathering, StoredRow
from fxhpc.forwarder.keeping import Keeping
from fxhpc.forwarder.listing import Listing
from fxhpc.forwarder.settling import Settling
from fxhpc.forwarder.state import State, error_words
from fxhpc.forwarder.streams import DELIVERED, RUNNING, Stream
from fxhpc.ids import to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service


class Answering:
    """Answers Fetch calls, and pushes what clients want without asking."""

    def __init__(
        self,
        state: State,
        gathering: Gathering,
        listing: Listing,
        keeping: Keeping,
        settling: Settling,
    ) -> None:
        self._settling = settling
        self._keeping = keeping
        keeping.dropping.on_forgotten = self._drop_rows
        self._state = state
        self._listing = listing
        self._gathering = gathering
        self._cache = RowCache()
        self._waiters: dict[bytes, list[Waiter]] = {}  # by stream
        self._reading: dict[int, list[Waiter | Client]] = {}  # result rows on their way here

    def waiter(self, client: Client, message: service.Fetch) -> Waiter:
        """A call, and which of its tasks are pending."""
        waiter = Waiter(client.peer, message, self._state.now + message.wait_s)
        waiter.look(self._state.streams)
        for name, _ in waiter.wanted:
            if waiter.outcomes and (stream := self._state.streams.get(name)):
                self._keeping.looked(stream)
        return waiter

    def answer_or_wait(self, waiter: Waiter) -> None:
        """Answer a call, now or when enough of its tasks have ended."""
        if waiter.satisfied or waiter.deadline <= self._state.now:
            self._answer(waiter)
            return
        for name, indices in waiter.pending.items():
            self._waiters.setdefault(name, []).append(waiter)
            stream = self._state.streams[name]
            if waiter.begun and RUNNING in stream.states:
                self._tell_begun(waiter, name, [i for i in indices if stream.state(i) == RUNNING])

    def started(self, stream: bytes, indices: list[int]) -> None:
        """These tasks of a stream run: tell who wants to know that of them."""
        for waiter in self._waiters.get(stream, ()):
            if waiter.begun and (waits := waiter.pending.get(stream)):
                self._tell_begun(waiter, stream, waits.intersection(indices))

    def _tell_begun(self, waiter: Waiter, stream: bytes, indices: Iterable[int]) -> None:
        if begun := sorted(indices):
            self._state.say(waiter.peer, msg.Started([msg.TaskRefs(stream, to_ranges(begun))]))

    def stored(self, rows: list[StoredRow]) -> None:
        """Outcomes are durable: tell whoever waits for them."""
        told: set[bytes] = set()
        for stream, number, row, indices in rows:
            stream.end(indices, number)
            self._keeping.ended(stream)
            self._cache.add(number, row)
            name = stream.info.stream
            if client := self._state.clients.get(stream.pusher):
                client.to_push.append((name, number))
                told.add(client.peer)
            for waiter in self._waiters.get(name, ()):
                if waits := waiter.pending.get(name):
                    waits.difference_update(indices)
        for peer in told:
            self.push(self._state.clients[peer])
        done = {
            waiter
            for name in {stream.info.stream for stream, _, _, _ in rows}
            for waiter in self._waiters.get(name, ())
            if waiter.satisfied
        }
        for waiter in done:
            self._answer(waiter)

    def tick(self) -> None:
        """Answer those who have waited long enough."""
        late = {
            waiter
            for waiters in self._waiters.values()
            for waiter in waiters
            if self._state.now >= waiter.deadline
        }
        for waiter in late:
            self._answer(waiter)
        for client in list(self._state.clients.values()):
            if client.to_push:
                self.push(client)

    def forget(self, peer: bytes) -> None:
        """Nobody waits for these answers any more: a client that comes back asks again."""
        for name in list(self._waiters):
            left = [waiter for waiter in self._waiters[name] if waiter.peer != peer]
            if left:
                self._waiters[name] = left
            else:
                del self._waiters[name]

    def delivered(self, client: Client, numbers: list[int]) -> None:
        """A client has these pushes."""
        for number in numbers:
            name, indices = client.pushed.pop(number, (b"", []))
            if stream := self._state.streams.get(name):
                for index in indices:
                    stream.states[index] = DELIVERED
                if indices and not stream.info.keep:
                    self._cache.drop(stream.rows_of[indices[0]])  # nobody may ask for it again
                self._keeping.delivered(stream, indices)
        self.push(client)

    def push(self, client: Client) -> None:
        """Push what waits for a client, as far as it keeps up."""
        if self._state.clients.get(client.peer) is not client:
            return
        pushes, missing = push_rows(client, self._state.streams, self._cache)
        self._state.actions += pushes
        if missing is not None:
            self._read_row(missing, client)

    def _drop_rows(self, stream: Stream) -> None:
        for number in set(stream.rows_of):
            self._cache.drop(number)

    def _answer(self, waiter: Waiter) -> None:
        for name in waiter.pending:
            waiters = self._waiters.get(name, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[name]
        try:
            self._answer_now(waiter)
        except Exception as error:  # those who wait for others of the same results must not suffer
            self._state.mistakes.append(error)
            where = "a mistake in fxhpc, when these tasks had ended"
            self._state.mistaken((waiter.peer, waiter.call), error, where)

    def _answer_now(self, waiter: Waiter) -> None:
        known = causes.Causes(self._gathering.trouble)
        reasons: dict[bytes, causes.Cause] = {}
        doubts: dict[bytes, Doubt] = {}
        for name, indices in waiter.wanted:
            stream = self._state.streams.get(name)
            if stream is None or not stream.pending:
                continue
            endpoint = self._state.endpoint_of(stream)
            reasons[name] = self._listing.cause(stream, known)
            if endpoint is not None and not self._settling.is_settled(stream):
                doubtful = self._settling.doubtful(stream, indices)
                doubts[name] = Doubt(doubtful, causes.in_doubt(stream, endpoint))
        summaries = None
        if waiter.details:
            summaries = {}
            for name, indices in waiter.wanted:
                if (stream := self._state.streams.get(name)) is not None:
                    summary = self._listing.summary(stream, known, count=False)
                    summary.queued = stream.queued(indices[0]) if len(indices) == 1 else 0
                    summaries[name] = summary
        reply, missing = answer(
            waiter,
            self._state.streams,
            self._cache,
            reasons,
            doubts,
            self._gathering.trouble,
            summaries,
            self._state.attempts,
        )
        if reply is not None:
            self._state.say(waiter.peer, reply)
            return
        waiter.loading = missing
        for number in missing:
            self._read_row(number, waiter)

    def _read_row(self, number: int, reader: Waiter | Client) -> None:
        if readers := self._reading.get(number):
            if reader not in readers:
                readers.append(reader)
            return
        self._reading[number] = [reader]

        def loaded(value: Any, error: Exception | None) -> None:
            readers = self._reading.pop(number)
            if error is not None:
                self._unreadable(readers, error)
                return
            if value is None:
                # The row is gone (purged meanwhile): as if it had never been there.
                self._cache.add(number, Row([], 0.0, ""))
                self._forget_row(number)
            else:
                outcomes, ended, host = value
                self._cache.add(number, Row(outcomes, ended, host))
            for reader in readers:
                if isinstance(reader, Client):
                    self.push(reader)
                else:
                    reader.loading.discard(number)
                    if not reader.loading:
                        self._answer(reader)

        self._state.load("load_results", (number,), loaded)

    def _unreadable(self, readers: list[Waiter | Client], error: Exception) -> None:
        """The store cannot be read now: those who asked are told, pushes are tried again later."""
        for reader in readers:
            if isinstance(reader, Waiter):
                words = error_words(error)
                self._state.say(reader.peer, service.Failed(reader.call, *words))

    def _forget_row(self, number: int) -> None:
        for stream in self._state.streams.values():
            for index, row in enumerate(stream.rows_of):
                if row == number:
                    stream.states[index] = DELIVERED

"""The forwarder's decisions: what is stored, who gets which task, who gets which outcome.

No I/O: events in, actions out. What clients submit goes into the store (`submitting`) and then, as
far as its window allows, to the endpoint's interchange (`sending`); outcomes go into the store
(`gathering`) and then to whoever waits (`answering`). `attaching` is who is there, `cancelling`
what nobody wants any more. The store is the only truth: everything here is rebuilt from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fxhpc.forwarder import argument_limits, grouping, naming
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.answering import Answering
from fxhpc.forwarder.attaching import Attaching
from fxhpc.forwarder.cancelling import Cancelling
from fxhpc.forwarder.causes import Causes
from fxhpc.forwarder.delivery import Client
from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.gathering import Gathering, StoredRow
from fxhpc.forwarder.keeping import Keeping
from fxhpc.forwarder.listing import Listing
from fxhpc.forwarder.sending import Sending
from fxhpc.forwarder.settling import Settling
from fxhpc.forwarder.state import State, endpoint_key, error_words
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.streams import RUNNING, SENT, STORING, Stream
from fxhpc.forwarder.submitting import Submitting
from fxhpc.ids import LOCAL_ENDPOINT, from_ranges, to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Outcome
from fxhpc.version import __version__

if TYPE_CHECKING:
    from fxhpc.forwarder.store.read import Recovered

__all__ = ["LOCAL_ENDPOINT", "Forwarder", "endpoint_key"]


class Forwarder:
    """The service of one home, or of one process that embeds it.

    Args:
        epoch: of the store's owner.
        managers: the address where local managers register, told to clients.
        durable: whether what is not kept is stored too. A private forwarder in memory does not.
        notices: what a person is to be told of the store: the first client that comes is.
        company_s: see `Sending`.
        home: the store's identity, which is told to clients.
    """

    def __init__(
        self,
        epoch: int,
        *,
        managers: str = "",
        durable: bool = True,
        notices: Iterable[str] = (),
        company_s: float = 0.0,
        home: str = "",
    ) -> None:
        self._state = State(epoch, durable, notices, home)
        self._gathering = Gathering(self._state)
        self._keeping = Keeping(self._state)
        self._sending = Sending(self._state, self._gathering, company_s)
        self._submitting = Submitting(self._state, self._sending, self._keeping)
        self._listing = Listing(self._state, self._gathering)
        self._settling = Settling(self._state)
        self._answering = Answering(
            self._state, self._gathering, self._listing, self._keeping, self._settling
        )
        self._cancelling = Cancelling(self._state, self._gathering, self._sending)
        self._attaching = Attaching(
            self._state,
            self._gathering,
            self._sending,
            self._answering,
            self._cancelling,
            self._keeping,
            managers,
        )
        self._submitting.adopt = self._attaching.adopt
        self._gathering.on_ended = self._ended
        self._gathering.on_stored = self._stored
        self._gathering.wall = lambda: self._keeping.wall
        self._went_on = False  # what is handled is the store's answer
        self._recovered = False  # just now: it is not known yet who of before is still there

    # --- what shells ask ------------------------------------------------------------------------

    def recover(self, recovered: Recovered) -> None:
        """Rebuild everything from what the store holds. Before the first event."""
        state = self._state
        self._recovered = True
        state.next_row = max(recovered.next_submission, recovered.next_result)
        for info, owner in recovered.streams:
            new = Stream(info, owner)
            new.noted = recovered.looked.get(info.stream, 0.0)
            new.touched = max(new.noted, info.created)
            new.recovered = True
            state.add_stream(new)
        left = {*recovered.dropped, *(row.stream for row in recovered.submissions)}
        left.update(result.stream for result in recovered.results)
        self._keeping.dropping.go_on_with(sorted(left.difference(state.streams)))
        for row in sorted(recovered.submissions, key=lambda row: row.first):
            if stream := state.streams.get(row.stream):
                stream.skip_to(row.first)  # what was before it is delivered, and not kept
                stream.extend(row.row, row.first, row.tasks, row.size)
                if stream.info.retries:
                    # Whether they had been sent is not known here: journals and managers know.
                    stream.states[row.first : row.first + row.tasks] = bytes([SENT]) * row.tasks
        for name, index, kind, _ in recovered.exceptions:
            stream = state.streams.get(name) if kind == op.ExceptionKind.SENT else None
            # What is told of one that was delivered is older than that.
            if stream is not None and index < stream.count and stream.states[index] < STORING:
                stream.states[index] = SENT
        for result in recovered.results:
            if stream := state.streams.get(result.stream):
                indices = from_ranges(result.ranges)
                stream.skip_to(max(indices, default=-1) + 1)
                stream.end(indices, result.row)
                stream.touched = max(stream.touched, result.ended)
        for name, kind, ranges in recovered.kinds:
            if stream := state.streams.get(name):
                stream.note_kinds({kind: ranges})

    @property
    def is_idle(self) -> bool:
        """Whether nobody is attached, nor was to a forwarder before and has not come back."""
        return not (self._state.clients or self._state.expected)

    @property
    def due(self) -> float:
        """When it is to be told of the end of a turn at the latest, monotonic."""
        return self._sending.due

    @property
    def expects_more(self) -> bool:
        """Whether a client has just submitted in a loop, and probably goes on in a moment."""
        return self._sending.expects_more

    @property
    def has_clients(self) -> bool:
        """Whether anybody is attached."""
        return bool(self._state.clients)

    def knows_stream(self, stream: bytes) -> bool:
        """Whether tasks of this stream can be asked for."""
        return stream in self._state.streams

    def knows_endpoint(self, endpoint: str) -> bool:
        """Whether tasks for this endpoint would be accepted."""
        return self._state.knows_endpoint(endpoint)

    def awaited(self, message: service.FromClient) -> set[str]:
        """The endpoints that a client's message is about, so that they are looked for."""
        if isinstance(message, service.Submit):
            return {submission.info.endpoint for submission in message.submissions}
        if isinstance(message, service.GetStatus):
            return {message.endpoint}
        if isinstance(message, service.ListTasks | service.PurgeTasks) and message.endpoint:
            return {message.endpoint} - {LOCAL_ENDPOINT}
        if isinstance(message, service.ListTasks):
            known = self._state.streams.values()
            return {stream.info.endpoint for stream in known if stream.pending}
        if isinstance(message, service.Fetch):
            streams = (self._state.streams.get(part.stream) for part in message.tasks)
            return {s.info.endpoint for s in streams if s is not None and s.pending}
        return set()

    def failed(self, error: Exception) -> list[ev.Action]:
        """`handle` has raised this: what it wanted before that, and an answer to whoever asked.

        A mistake in handling one client's message must not end the service of all.
        """
        if self._state.caller is not None:
            where = "a mistake in fxhpc, or nonsense in the call"
            if self._went_on:
                where = (
                    "a mistake in fxhpc, after its store had done what was asked for (look whether "
                    "it has taken effect before you ask again)"
                )
            self._state.mistaken(self._state.caller, error, where)
        return self._state.actions

    @property
    def has_caller(self) -> bool:
        """Whether what was handled last was for a client's call: `failed` answers it."""
        return self._state.caller is not None

    def take_mistakes(self) -> list[Exception]:
        """What was raised in answering single calls, since the last time; their clients know."""
        mistakes, self._state.mistakes = self._state.mistakes, []
        return mistakes

    def handle(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Take note of an event; what is to be done about it, in this order."""
        state = self._state
        state.now, state.actions, state.caller = now, [], None
        self._went_on = isinstance(event, ev.Stored | ev.Loaded)
        if isinstance(event, ev.ClientSaid):
            self._client_said(event.peer, event.message)
        elif isinstance(event, ev.InterchangeSaid):
            if endpoint := state.endpoints.get(event.key):
                self._interchange_said(endpoint, event.message)
        elif isinstance(event, ev.Stored | ev.Loaded):
            state.store_answered(event)
            self._cancelling.accepted()
        elif isinstance(event, ev.EndOfTurn):
            self._end_of_turn()
        elif isinstance(event, ev.ClientGone):
            self._attaching.client_gone(event.peer)
        elif isinstance(event, ev.LocalExpected):
            state.expected.add(event.instance)
            self._attaching.open_local(event.instance)
        elif isinstance(event, ev.LocalGone):
            state.expected.discard(event.instance)
            self._attaching.close_local(event.instance)
        elif isinstance(event, ev.LocalClosed):
            self._attaching.local_closed(event.instance)
        elif isinstance(event, ev.EndpointKnown):
            key = endpoint_key(event.endpoint)
            if key not in state.endpoints:
                self._attaching.new_endpoint(Endpoint(key, event.endpoint, False, event.name))
        elif isinstance(event, ev.EndpointTold):
            if endpoint := state.endpoints.get(event.key):
                endpoint.away, endpoint.deleted = event.away, event.deleted
                endpoint.seen, endpoint.longest_s = event.seen, event.longest_s
                argument_limits.change(state, event.key, event.limits)
        elif isinstance(event, ev.StoreLimits):
            self._keeping.set_limits(event.max_bytes, event.retention_s, event.groups)
        elif isinstance(event, ev.Begun):
            self._keeping.begin(event.wall)
        elif isinstance(event, ev.InterchangeUp):
            if endpoint := state.endpoints.get(event.key):
                # Nothing more is sent before it has said what it holds: that would not be in it.
                endpoint.connected = False
                hello = msg.Hello(state.epoch, __version__)
                state.actions.append(ev.ToInterchange(endpoint.key, hello))
        elif isinstance(event, ev.InterchangeGone):
            if endpoint := state.endpoints.get(event.key):
                endpoint.leave(state.now, event.nothing_runs)
                streams = endpoint.streams.values()
                self._cancelling.unreachable(streams, for_good=event.nothing_runs)
                if event.nothing_runs:
                    endpoint.forget_begun()
        else:
            self._tick(event.wall)
        return state.actions

    # --- clients --------------------------------------------------------------------------------

    def _client_said(self, peer: bytes, message: service.FromClient) -> None:
        state = self._state
        if (call := getattr(message, "call", None)) is not None:
            state.caller = (peer, call)
        if isinstance(message, service.Attach):
            self._attaching.attach(peer, message)
            return
        client = state.clients.get(peer)
        if client is None:
            state.say(peer, msg.Reset())
            return
        if isinstance(message, service.Submit):
            self._submitting.submit(client, message)
        elif isinstance(message, service.Fetch):
            client.submitted_at = -math.inf
            self._sending.feed_held(at_once=True)
            waiter = self._answering.waiter(client, message)
            if message.adopt:
                for name, indices in waiter.pending.items():
                    self._attaching.adopt(state.streams[name], sorted(indices), client)
            self._answering.answer_or_wait(waiter)
        elif isinstance(message, service.Delivered):
            self._answering.delivered(client, message.numbers)
        elif isinstance(message, naming.Naming) and (why := naming.refusal(state, message)):
            state.fail(client, message.call, *why)
        elif isinstance(message, service.CancelTasks):
            self._cancelling.cancel(client, message)
        elif isinstance(message, service.RegisterFunction):
            if full := self._keeping.refusal(len(message.body)):
                state.fail(client, message.call, "StoreFull", [full])
                return
            digest = message.record.digest
            state.bodies.keep(digest, message.body)
            operations: list[op.Operation] = [
                op.AddBody(digest, message.body),
                op.AddFunction(message.record),
            ]
            state.store_for(client, message.call, operations)
        elif isinstance(message, service.RegisterContainer):
            state.store_for(client, message.call, [op.AddContainer(message.record)])
        elif isinstance(message, service.GetContainers):
            self._load_records(client, message.call, "containers", (message.container_ids,))
        elif isinstance(message, service.PutBody):
            if full := self._keeping.refusal(len(message.body)):
                state.fail(client, message.call, "StoreFull", [full])
                return
            state.bodies.keep(message.digest, message.body)
            if message.shared:
                client.bodies.add(message.digest)
                self._keeping.dropping.shared.add(message.digest)
            state.store_for(client, message.call, [op.AddBody(message.digest, message.body)])
        elif isinstance(message, service.ForgetBodies):
            client.bodies.difference_update(message.digests)
        elif isinstance(message, service.GetFunctions):
            self._load_records(client, message.call, "functions", (message.function_ids,))
        elif isinstance(message, service.Search):
            arguments = (message.query, message.offset, message.limit)
            self._load_records(client, message.call, "search", arguments)
        elif isinstance(message, service.GetStatus):
            naming.tell_status(state, client, message)
        elif isinstance(message, service.ListTasks):
            state.say(peer, self._listing.answer(message))
        elif isinstance(message, service.GroupTasks):
            known = Causes(self._gathering.trouble)
            state.say(peer, grouping.answer(state, self._listing, known, message))
        elif isinstance(message, service.GetStoreUsage):
            self._keeping.usage(client, message)
        elif isinstance(message, service.PurgeTasks):
            self._keeping.purge(client, message, self._attaching.end_streams)
        elif isinstance(message, service.Resume):
            for stream in list(state.streams.values()):
                self._attaching.adopt(stream, None, client)
            state.say(peer, service.Done(message.call))
        elif isinstance(message, msg.Heartbeat):
            state.say(peer, msg.Heartbeat())
        else:
            self._attaching.client_gone(peer)

    def _load_records(
        self, client: Client, call: int, method: str, arguments: tuple[Any, ...]
    ) -> None:
        def loaded(value: Any, error: Exception | None) -> None:
            if error is not None:
                self._state.fail(client, call, *error_words(error))
                return
            if method == "containers":
                self._state.say(client.peer, service.Containers(call, value))
                return
            records, total = value if method == "search" else (value, len(value))
            self._state.say(client.peer, service.Functions(call, records, total))

        self._state.load(method, arguments, loaded, (client.peer, call))

    # --- interchanges ---------------------------------------------------------------------------

    def _interchange_said(self, endpoint: Endpoint, message: msg.FromInterchange) -> None:
        if isinstance(message, msg.Results):
            self._gathering.results(endpoint.key, message)
        elif isinstance(message, msg.Window):
            endpoint.window_tasks, endpoint.window_bytes = message.tasks, message.bytes
            self._sending.feed_again(endpoint)
        elif isinstance(message, msg.Started):
            self._started(endpoint, message)
        elif isinstance(message, msg.Lost):
            self._state.attempts.lost(message, self._state.streams)
        elif isinstance(message, msg.Status):
            endpoint.status = message
            if message.report is not None:
                endpoint.details = message.report.details
        elif isinstance(message, msg.NeedBody):
            for digest in message.digests:
                self._sending.send_body(endpoint, digest)
        elif isinstance(message, msg.Present):
            streams = list(self._state.by_endpoint.get(endpoint.key, {}).values())
            self._state.attempts.greeted(message.epoch, streams)
            self._settling.greeted(endpoint, message.epoch)
            self._cancelling.greeted(endpoint, message)
            if ended := endpoint.unheld(streams, message.held):
                cancel = msg.Cancel(ended, interrupt=True, forget=True)
                self._state.actions.append(ev.ToInterchange(endpoint.key, cancel))
            endpoint.reconnect(streams, message.held)
            endpoint.incomplete = message.incomplete
            self._cancelling.reconnected(endpoint)
            self._sending.feed(endpoint)

    def _started(self, endpoint: Endpoint, message: msg.Started) -> None:
        pushes: dict[bytes, list[msg.TaskRefs]] = {}
        ended: list[msg.TaskRefs] = []
        for ref in message.tasks:
            stream = self._state.streams.get(ref.stream)
            if stream is None:
                ended.append(msg.TaskRefs(ref.stream, ref.ranges))
                continue
            indices = from_ranges(ref.ranges)
            over = [index for index in indices if stream.state(index) >= STORING]
            if over:
                ended.append(msg.TaskRefs(ref.stream, to_ranges(over)))
            for index in indices:
                # One that is queued runs too, at a manager that was there before its interchange:
                # the interchange is to have it nevertheless, to know whose it is.
                if index < stream.count and stream.states[index] == SENT:
                    stream.states[index] = RUNNING
            self._state.attempts.started(ref.stream, indices, message, self._keeping.wall)
            if stream.pusher in self._state.clients:
                pushes.setdefault(stream.pusher, []).append(ref)
            self._answering.started(ref.stream, indices)
            self._cancelling.started(ref.stream, indices)
        for peer, tasks in pushes.items():
            self._state.say(peer, msg.Started(tasks))
        if ended:
            # It was cancelled while its interchange was away, which could not say that it held it:
            # a manager had it from the interchange before.
            cancel = msg.Cancel(ended, interrupt=True, forget=True)
            self._state.actions.append(ev.ToInterchange(endpoint.key, cancel))

    # --- outcomes and time ----------------------------------------------------------------------

    def _end_of_turn(self) -> None:
        for key in self._gathering.flush():
            if endpoint := self._state.endpoints.get(key):
                self._sending.feed_again(endpoint)
        self._sending.feed_held()
        self._tell_backlogs(at_once=True)

    def _tell_backlogs(self, *, at_once: bool) -> None:
        """Tell interchanges how much waits for them here, so that they ask for nodes."""
        for endpoint in self._state.named:
            count = endpoint.count_backlog(self._state.now, at_once=at_once)
            if count is not None:
                backlog = ev.ToInterchange(endpoint.key, msg.Backlog(count))
                self._state.actions.append(backlog)

    def _ended(self, stream: bytes, outcomes: list[Outcome]) -> None:
        self._cancelling.settle(stream, outcomes)

    def _stored(self, rows: list[StoredRow]) -> None:
        for stream, _, row, _ in rows:
            self._cancelling.settle(stream.info.stream, row.by_index.values())
        self._answering.stored(rows)

    def _tick(self, wall: float) -> None:
        state = self._state
        self._keeping.tick(wall)
        if self._recovered:
            self._recovered = False
            self._attaching.end_left()
        self._attaching.tick()
        self._answering.tick()
        self._settling.tick()
        self._cancelling.tick()
        for endpoint in state.endpoints.values():
            if endpoint.connected and endpoint.queue:
                self._sending.feed(endpoint)  # what the store refused to note as sent
            if endpoint.connected and endpoint.incomplete:
                self._sending.tell_if_all_is_there(endpoint)
        self._gathering.tick()
        self._tell_backlogs(at_once=False)

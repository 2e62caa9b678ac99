"""The forwarder's decisions: what is stored, who gets which task, who gets which outcome.

No I/O: events in, actions out. What clients submit goes into the store and then, as far as its
window allows, to the endpoint's interchange; outcomes go into the store and then to whoever waits.
The store is the only truth: everything here is rebuilt from it at a start.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from fxhpc.errors import ForwarderError
from fxhpc.forwarder import events as ev
from fxhpc.forwarder import operations as op
from fxhpc.forwarder.delivery import Client, Row, RowCache, Waiter, answer, push_rows
from fxhpc.forwarder.feeding import MESSAGE_BYTES, Endpoint, to_run
from fxhpc.forwarder.streams import (
    DELIVERED,
    ENDED,
    PARKED,
    QUEUED,
    RUNNING,
    SENT,
    STORING,
    Segment,
    Stream,
)
from fxhpc.ids import from_ranges, parse_uuid, to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind, pack_loss
from fxhpc.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fxhpc.forwarder.store_read import Recovered

#: The tutorial's endpoint: the `local` of whoever uses it.
LOCAL_ENDPOINT = "4b116d3c-1703-4f8f-9f6f-39921e5864df"

#: A result row is cut at so many tasks or bytes.
ROW_TASKS = 1000
ROW_BYTES = 2**20

#: Arguments that wait in memory; beyond it they are read back from the store when their turn comes.
PAYLOAD_BYTES = 64 * 2**20

#: Functions kept in memory, to be sent along with the first tasks that need them.
BODY_BYTES = 64 * 2**20

#: Seconds after which a cancellation is answered, whatever is known by then.
CANCEL_S = 10.0

#: Seconds between two tries to store outcomes that the store has refused.
RETRY_S = 2.0


class Forwarder:
    """The service of one home, or of one process that embeds it.

    Args:
        epoch: of the store's owner.
        managers: the address where local managers register, told to clients.
        durable: whether what is not kept is stored too. A private forwarder in memory does not.
    """

    def __init__(self, epoch: int, *, managers: str = "", durable: bool = True) -> None:
        self.epoch = epoch
        self._managers = managers
        self._durable = durable
        self._clients: dict[bytes, Client] = {}
        self._streams: dict[bytes, Stream] = {}
        self._endpoints: dict[bytes, Endpoint] = {}
        self._by_endpoint: dict[bytes, dict[bytes, Stream]] = {}
        self._expected: set[bytes] = set()  # local instances of before that will attach again
        # A closing instance: which client asks for which tasks of which stream of it.
        self._adopters: dict[bytes, list[tuple[bytes, bytes, list[int] | None]]] = {}
        self._waiters: dict[bytes, list[Waiter]] = {}  # by stream
        self._cancels: list[_Cancel] = []
        self._cache = RowCache()
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()
        self._bodies_size = 0
        self._payloads_size = 0
        self._next_row = 1
        self._next_token = 1
        self._stored: dict[int, Any] = {}  # what is to be done when a token has come back
        self._loaded: dict[int, Any] = {}
        # Submission rows on their way here, and segments of which it is being stored that they are
        # sent; with the endpoint, and how often it had said by then what it holds.
        self._loading_rows: dict[int, list[_Taken]] = {}
        self._noting: list[_Taken] = []
        self._reading: dict[int, list[Waiter | Client]] = {}  # result rows on their way here
        self._outcomes: dict[bytes, list[msg.ResultRun]] = {}  # gathered in this turn
        self._acknowledge: dict[bytes, list[int]] = {}
        self._refused: list[tuple[float, list[op.Operation], Any]] = []
        self._retrying = 0  # of these, how many the store has been asked for again
        self._unacknowledged: list[dict[bytes, list[int]]] = []  # numbers of Results, by endpoint
        self._recovered = False  # just now: it is not known yet who of before is still there
        self._now = 0.0

    # --- what shells ask ------------------------------------------------------------------------

    def recover(self, recovered: Recovered) -> None:
        """Rebuild everything from what the store holds. Before the first event."""
        self._recovered = True
        self._next_row = max(recovered.next_submission, recovered.next_result)
        for info, owner in recovered.streams:
            self._add_stream(Stream(info, owner))
        for row in recovered.submissions:
            if stream := self._streams.get(row.stream):
                stream.extend(row.row, row.first, row.tasks, row.size)
                if stream.info.retries:
                    # Whether they had been sent is not known here: journals and managers know.
                    stream.states[row.first : row.first + row.tasks] = bytes([SENT]) * row.tasks
        for name, index, kind, _ in recovered.exceptions:
            if kind == op.ExceptionKind.SENT and (stream := self._streams.get(name)):
                stream.states[index] = SENT
        for result in recovered.results:
            if stream := self._streams.get(result.stream):
                stream.end(from_ranges(result.ranges), result.row)

    @property
    def is_idle(self) -> bool:
        """Whether nobody is attached."""
        return not self._clients and not self._expected

    def owners(self) -> set[bytes]:
        """The local instances that pending work belongs to."""
        return {stream.owner for stream in self._streams.values() if stream.pending}

    def knows_endpoint(self, endpoint: str) -> bool:
        """Whether tasks for this endpoint would be accepted."""
        return endpoint == LOCAL_ENDPOINT or endpoint_key(endpoint) in self._endpoints

    def handle(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Take note of an event; what is to be done about it, in this order."""
        self._now = now
        actions: list[ev.Action] = []
        if isinstance(event, ev.ClientSaid):
            self._client_said(event.peer, event.message, actions)
        elif isinstance(event, ev.InterchangeSaid):
            if endpoint := self._endpoints.get(event.key):
                self._interchange_said(endpoint, event.message, actions)
        elif isinstance(event, ev.Stored):
            self._take(self._stored, event.token)(event.error, actions)
        elif isinstance(event, ev.Loaded):
            self._take(self._loaded, event.token)(event.value, event.error, actions)
        elif isinstance(event, ev.EndOfTurn):
            self._flush(actions)
        elif isinstance(event, ev.ClientGone):
            self._client_gone(event.peer, actions)
        elif isinstance(event, ev.LocalExpected):
            self._expected.add(event.instance)
            self._open_local(event.instance, actions)
        elif isinstance(event, ev.LocalGone):
            self._expected.discard(event.instance)
            self._close_local(event.instance, actions)
        elif isinstance(event, ev.LocalClosed):
            self._local_closed(event.instance, actions)
        elif isinstance(event, ev.EndpointKnown):
            key = endpoint_key(event.endpoint)
            if key not in self._endpoints:
                self._new_endpoint(Endpoint(key, event.endpoint, False))
        elif isinstance(event, ev.InterchangeUp):
            if endpoint := self._endpoints.get(event.key):
                # Nothing more is sent before it has said what it holds: that would not be in it.
                endpoint.connected = False
                actions.append(ev.ToInterchange(endpoint.key, msg.Hello(self.epoch, __version__)))
        elif isinstance(event, ev.InterchangeGone):
            if endpoint := self._endpoints.get(event.key):
                endpoint.connected = False
                endpoint.status = None
        else:
            self._tick(actions)
        return actions

    # --- clients --------------------------------------------------------------------------------

    def _client_said(
        self, peer: bytes, message: service.FromClient, actions: list[ev.Action]
    ) -> None:
        if isinstance(message, service.Attach):
            self._attach(peer, message, actions)
            return
        client = self._clients.get(peer)
        if client is None:
            actions.append(ev.ToClient(peer, msg.Reset()))
            return
        if isinstance(message, service.Submit):
            self._submit(client, message, actions)
        elif isinstance(message, service.Fetch):
            self._fetch(client, message, actions)
        elif isinstance(message, service.Delivered):
            self._delivered(client, message.numbers, actions)
        elif isinstance(message, service.CancelTasks):
            self._cancel(client, message, actions)
        elif isinstance(message, service.RegisterFunction):
            self._keep_body(message.record.digest, message.body)
            operations: list[op.Operation] = [
                op.AddBody(message.record.digest, message.body),
                op.AddFunction(message.record),
            ]
            self._store_for(client, message.call, operations, actions)
        elif isinstance(message, service.PutBody):
            self._keep_body(message.digest, message.body)
            self._store_for(
                client, message.call, [op.AddBody(message.digest, message.body)], actions
            )
        elif isinstance(message, service.GetFunctions):
            self._load_records(client, message.call, "functions", (message.function_ids,), actions)
        elif isinstance(message, service.Search):
            arguments = (message.query, message.offset, message.limit)
            self._load_records(client, message.call, "search", arguments, actions)
        elif isinstance(message, service.GetStatus):
            self._status(client, message, actions)
        elif isinstance(message, service.Resume):
            for stream in list(self._streams.values()):
                self._adopt(stream, None, client, actions)
            actions.append(ev.ToClient(peer, service.Done(message.call)))
        elif isinstance(message, msg.Heartbeat):
            actions.append(ev.ToClient(peer, msg.Heartbeat()))
        else:
            self._client_gone(peer, actions)

    def _attach(self, peer: bytes, message: service.Attach, actions: list[ev.Action]) -> None:
        if message.oldest_protocol > msg.PROTOCOL or message.protocol < msg.OLDEST_PROTOCOL:
            reason = (
                f"this client is fxhpc {message.version} (protocol {message.protocol}), the "
                f"forwarder of this home is fxhpc {__version__} (protocol {msg.PROTOCOL}): "
                f"use the same version, or another home (FXHPC_HOME)"
            )
            actions.append(ev.ToClient(peer, msg.Refuse(reason)))
            return
        before = [other for other in self._clients.values() if other.name == message.client]
        client = self._clients[peer] = Client(peer, message)
        for other in before:
            self._drop_calls(other.peer)
            if other.peer != peer:
                # It has come back over a new connection: what it had waits for it still.
                del self._clients[other.peer]
                actions.append(ev.DropClient(other.peer))
        mine = {other.peer for other in before}
        wanted = set(message.streams)
        done = [
            stream
            for stream in self._streams.values()
            if stream.pusher in mine and stream.info.stream not in wanted
        ]
        self._end_streams(done, actions)
        self._expected.discard(message.local)
        older = sum(stream.pending for stream in self._streams.values() if self._is_orphan(stream))
        actions.append(
            ev.ToClient(
                peer,
                service.Attached(self.epoch, __version__, msg.PROTOCOL, self._managers, older),
            )
        )
        self._open_local(message.local, actions)
        forgotten: list[bytes] = []
        for name in message.streams:
            stream = self._streams.get(name)
            if stream is None:
                forgotten.append(name)
                continue
            stream.pusher = peer
            rows = {
                stream.rows_of[index] for index, state in enumerate(stream.states) if state == ENDED
            }
            client.to_push.extend((name, row) for row in sorted(rows))
        if forgotten:
            actions.append(ev.ToClient(peer, service.Forgotten(forgotten)))
        self._push(client, actions)

    def _client_gone(self, peer: bytes, actions: list[ev.Action]) -> None:
        client = self._clients.pop(peer, None)
        if client is None:
            return
        actions.append(ev.DropClient(peer))
        self._drop_calls(peer)
        ended = [stream for stream in self._streams.values() if stream.pusher == peer]
        self._end_streams(ended, actions)
        self._close_local(client.instance, actions)

    def _drop_calls(self, peer: bytes) -> None:
        """Nobody waits for these answers any more: a client that comes back asks again."""
        for name in list(self._waiters):
            left = [waiter for waiter in self._waiters[name] if waiter.peer != peer]
            if left:
                self._waiters[name] = left
            else:
                del self._waiters[name]
        self._cancels = [cancel for cancel in self._cancels if cancel.peer != peer]

    def _open_local(self, instance: bytes, actions: list[ev.Action]) -> None:
        if instance not in self._endpoints:
            self._new_endpoint(Endpoint(instance, LOCAL_ENDPOINT, True))
            actions.append(ev.OpenLocal(instance))

    def _new_endpoint(self, endpoint: Endpoint) -> None:
        self._endpoints[endpoint.key] = endpoint
        endpoint.fill(list(self._by_endpoint.get(endpoint.key, {}).values()))

    def _close_local(self, instance: bytes, actions: list[ev.Action]) -> None:
        """Nobody is left whose `local` this is: it ends."""
        if any(client.instance == instance for client in self._clients.values()):
            return
        if endpoint := self._endpoints.get(instance):
            endpoint.closing = True
            actions.append(ev.CloseLocal(instance))

    def _end_streams(self, streams: Iterable[Stream], actions: list[ev.Action]) -> None:
        """Work that ends with its client: what has not ended is cancelled, and all is forgotten."""
        operations: list[op.Operation] = []
        for stream in streams:
            out = [i for i, state in enumerate(stream.states) if state in (SENT, RUNNING)]
            endpoint = self._endpoint_of(stream)
            if out and endpoint is not None:
                endpoint.came_back(stream, len(out))
                refs = [msg.TaskRefs(stream.info.stream, to_ranges(out))]
                actions.append(ev.ToInterchange(endpoint.key, msg.Cancel(refs, interrupt=True)))
            stream.states[:] = bytes([DELIVERED]) * stream.count
            self._forget_stream(stream)
            operations.append(op.DropStream(stream.info.stream))
        if operations and self._durable:
            self._store(operations, _ignore, actions)

    def _local_closed(self, instance: bytes, actions: list[ev.Action]) -> None:
        endpoint = self._endpoints.pop(instance, None)
        self._expected.discard(instance)
        if endpoint is not None:
            endpoint.connected = False
            self._payloads_size -= sum(segment.memory for segment in endpoint.queue)
        left = [stream for stream in self._streams.values() if stream.owner == instance]
        gone = [s for s in left if not s.info.keep and s.pusher not in self._clients]
        self._end_streams(gone, actions)
        for stream in left:
            if stream.info.stream in self._streams and _is_local(stream):
                self._park(stream, actions)
        if any(client.instance == instance for client in self._clients.values()):
            # Its process closed its last connection, and has made another meanwhile.
            for stream in left:
                stream.unpark(None)
            self._open_local(instance, actions)
        for peer, name, indices in self._adopters.pop(instance, []):
            if (client := self._clients.get(peer)) and (found := self._streams.get(name)):
                self._adopt(found, indices, client, actions)

    # --- work of `local` endpoints that are gone ------------------------------------------------

    def _is_orphan(self, stream: Stream) -> bool:
        return (
            stream.pending > 0
            and _is_local(stream)
            and stream.owner not in self._endpoints
            and stream.owner not in self._expected
        )

    def _adopt(
        self,
        stream: Stream,
        indices: list[int] | None,
        client: Client,
        actions: list[ev.Action],
    ) -> None:
        """Run tasks whose own `local` is gone, or those of them that are asked for, here."""
        if not _is_local(stream) or not stream.pending:
            return
        owner = self._endpoints.get(stream.owner)
        if owner is not None and owner.closing:
            # Not before all of it has ended: nothing must run twice.
            waits = (client.peer, stream.info.stream, indices)
            self._adopters.setdefault(stream.owner, []).append(waits)
            return
        if self._is_orphan(stream):
            self._park(stream, actions)
            self._by_endpoint.get(stream.owner, {}).pop(stream.info.stream, None)
            stream.owner = client.instance
            self._by_endpoint.setdefault(client.instance, {})[stream.info.stream] = stream
            operations: list[op.Operation] = [
                op.SetStreamOwner(stream.info.stream, client.instance)
            ]
            self._store(operations, _ignore, actions)
        endpoint = self._endpoints.get(stream.owner)
        segments = stream.unpark(indices)
        if endpoint is None or not segments:
            return
        for segment in segments:
            endpoint.push(segment)
        actions.extend(
            ev.ToClient(other.peer, service.NeedLocal())
            for other in self._clients.values()
            if other.instance == stream.owner
        )
        self._feed(endpoint, actions)

    def _park(self, stream: Stream, actions: list[ev.Action]) -> None:
        """Nothing of this stream runs any more, until it is asked for."""
        sent = stream.park()
        if stream.info.retries == 0 and sent:
            text = "the process whose `local` endpoint ran it has ended"
            data = pack_loss(Loss(LossCause.MANAGER_LOST, text))
            self._add_outcomes(stream, [Outcome(i, OutcomeKind.LOST, data) for i in sent])

    # --- submissions ----------------------------------------------------------------------------

    def _submit(self, client: Client, message: service.Submit, actions: list[ev.Action]) -> None:
        refused = self._reason_to_refuse(message.submissions)
        if refused is not None:
            self._fail(client, message.call, *refused, actions)
            return
        operations: list[op.Operation] = []
        accepted: list[tuple[Stream, Segment, int]] = []
        again: list[tuple[Stream, int]] = []  # sent again after a lost answer
        for submission in message.submissions:
            info, first, count = submission.info, submission.first, len(submission.payloads)
            stream = self._streams.get(info.stream)
            if stream is None:
                stream = Stream(info, client.instance)
                self._add_stream(stream)
                operations.append(op.AddStream(info, client.instance))
            if not info.keep:
                stream.pusher = client.peer
            if first + count <= stream.accepted:
                again.append((stream, first + count))  # it is stored, or about to be
                continue
            size = sum(map(len, submission.payloads))
            row, self._next_row = self._next_row, self._next_row + 1
            stream.accepted = first + count
            if submission.shared:
                stream.shared[row] = submission.shared
            keep = not self._durable or self._payloads_size + size <= PAYLOAD_BYTES
            segment = Segment(
                stream, row, first, first, count, submission.payloads if keep else None
            )
            accepted.append((stream, segment, size))
            stream.uncommitted += 1
            operations.append(
                op.AddSubmission(row, info.stream, first, submission.payloads, submission.shared)
            )
        kept = self._durable or any(stream.info.keep for stream, _, _ in accepted)

        def stored(error: Exception | None, actions: list[ev.Action]) -> None:
            if error is None and any(stream.refusing for stream, _, _ in accepted):
                # What came before was refused: with this, the numbers would have a gap.
                error = ForwarderError("tasks before these could not be stored")
                rows = [segment.row for _, segment, _ in accepted]
                self._store([op.DropSubmissions(rows)], _ignore, actions)
            if error is not None:
                self._refuse_submission(accepted)
            elif any(stream.count < end for stream, end in again):
                # The first time it was refused, which came out after it was sent again.
                error = ForwarderError("these tasks could not be stored")
            if error is not None:
                self._fail(client, message.call, *_error_words(error), actions)
                return
            self._accept(accepted, actions)
            actions.append(ev.ToClient(client.peer, service.Done(message.call)))

        if kept:
            self._store(operations, stored, actions)
        else:
            stored(None, actions)

    def _reason_to_refuse(
        self, submissions: list[service.Submission]
    ) -> tuple[str, list[str]] | None:
        """What is wrong with a message of submissions, as the error that its client is told."""
        accepted: dict[bytes, int] = {}
        for submission in submissions:
            info, first, count = submission.info, submission.first, len(submission.payloads)
            if not self.knows_endpoint(info.endpoint):
                return "EndpointNotFound", [info.endpoint]
            stream = self._streams.get(info.stream)
            known = accepted.get(info.stream, 0 if stream is None else stream.accepted)
            refusing = stream is not None and stream.refusing
            if first + count > known and (first != known or refusing):
                reason = f"task {first} of a stream came where {known} was next"
                return "ForwarderError", [reason]
            accepted[info.stream] = max(known, first + count)
        return None

    def _accept(
        self, accepted: list[tuple[Stream, Segment, int]], actions: list[ev.Action]
    ) -> None:
        """Submissions are stored: their tasks wait from now on."""
        fed: dict[bytes, Endpoint] = {}
        for stream, segment, size in accepted:
            stream.uncommitted -= 1
            if self._streams.get(stream.info.stream) is not stream:
                continue  # its client has gone meanwhile, and the stream with it
            stream.extend(segment.row, segment.first, segment.count, size)
            endpoint = self._endpoint_of(stream)
            if endpoint is not None:
                if segment.payloads is not None:
                    self._payloads_size += size
                endpoint.push(segment)
                fed[endpoint.key] = endpoint
        for endpoint in fed.values():
            self._feed(endpoint, actions)

    def _refuse_submission(self, accepted: list[tuple[Stream, Segment, int]]) -> None:
        """The store has refused it: the stream goes on from where it stood."""
        for stream, segment, _ in accepted:
            stream.uncommitted -= 1
            # What was sent after it must be refused too, or the numbers would have a gap.
            stream.refusing = stream.uncommitted > 0
            stream.accepted = min(stream.accepted, segment.first)
            known = self._streams.get(stream.info.stream) is stream
            if known and not stream.uncommitted and not stream.count:
                self._forget_stream(stream)

    def _feed(self, endpoint: Endpoint, actions: list[ev.Action]) -> None:
        """Send an interchange what its window has room for."""
        if endpoint.closing:
            return
        ready: list[msg.TaskRun] = []
        taken = endpoint.take()
        self._payloads_size -= endpoint.dropped_bytes
        endpoint.dropped_bytes = 0
        for segment in taken:
            if segment.stream.info.retries == 0 and self._durable and not segment.noted:
                self._note_sent(endpoint, segment, actions)
            elif segment.payloads is not None:
                self._payloads_size -= sum(map(len, segment.payloads))
                ready.append(to_run(segment, segment.payloads))
            elif segment.row in self._loading_rows:
                self._loading_rows[segment.row].append((segment, endpoint, endpoint.greetings))
            else:
                self._loading_rows[segment.row] = [(segment, endpoint, endpoint.greetings)]
                self._load(
                    "load_submission", (segment.row,), self._row_loaded(segment.row), actions
                )
        self._send_runs(endpoint, ready, actions)

    def _note_sent(self, endpoint: Endpoint, segment: Segment, actions: list[ev.Action]) -> None:
        """Tasks that must never run twice: that they are sent is stored before they are."""
        name = segment.stream.info.stream
        indices = range(segment.first, segment.first + segment.count)
        operations: list[op.Operation] = [
            op.AddException(name, index, op.ExceptionKind.SENT) for index in indices
        ]
        taken = (segment, endpoint, endpoint.greetings)
        self._noting.append(taken)

        def stored(error: Exception | None, actions: list[ev.Action]) -> None:
            self._noting.remove(taken)
            self._payloads_size -= segment.memory
            for part in self._still_out(*taken):
                part.noted = error is None
                endpoint.came_back(part.stream, part.count)
                part.stream.states[part.first : part.first + part.count] = bytes(part.count)
                self._payloads_size += part.memory
                endpoint.push_front(part)
            if error is None:
                self._feed(endpoint, actions)

        self._store(operations, stored, actions)

    def _still_out(self, segment: Segment, endpoint: Endpoint, greetings: int) -> list[Segment]:
        """What of a segment that was taken is still to be sent, after something had to be waited
        for: its tasks may have been cancelled, or queued again for an interchange that came back.
        """
        if endpoint.greetings != greetings or not endpoint.connected:
            return []
        return segment.waiting(SENT)

    def _row_loaded(self, row: int) -> Any:
        def loaded(value: Any, error: Exception | None, actions: list[ev.Action]) -> None:
            for taken in self._loading_rows.pop(row):
                for segment in self._still_out(*taken):
                    if error is not None:
                        self._lose_row(segment, error, actions)
                        continue
                    payloads, shared = value
                    if shared:
                        segment.stream.shared[row] = shared
                    start = segment.first - segment.row_first
                    part = payloads[start : start + segment.count]
                    self._send_runs(taken[1], [to_run(segment, part)], actions)

        return loaded

    def _lose_row(self, segment: Segment, error: Exception, actions: list[ev.Action]) -> None:
        """The store cannot give back what it took: the tasks end, and say so."""
        data = pack_loss(Loss(LossCause.UNDELIVERED, f"its arguments could not be read: {error}"))
        self._add_outcomes(
            segment.stream,
            [
                Outcome(index, OutcomeKind.LOST, data)
                for index in range(segment.first, segment.first + segment.count)
            ],
        )
        self._flush(actions)

    def _send_runs(
        self, endpoint: Endpoint, runs: list[msg.TaskRun], actions: list[ev.Action]
    ) -> None:
        batch: list[msg.TaskRun] = []
        size = 0
        for run in runs:
            for digest in (run.function, *run.shared):
                if digest not in endpoint.bodies and digest in self._bodies:
                    endpoint.bodies.add(digest)
                    body = msg.Body(digest, self._bodies[digest])
                    actions.append(ev.ToInterchange(endpoint.key, body))
            batch.append(run)
            size += sum(map(len, run.payloads))
            if size >= MESSAGE_BYTES:
                actions.append(ev.ToInterchange(endpoint.key, msg.Tasks(batch)))
                batch, size = [], 0
        if batch:
            actions.append(ev.ToInterchange(endpoint.key, msg.Tasks(batch)))

    # --- interchanges ---------------------------------------------------------------------------

    def _interchange_said(
        self, endpoint: Endpoint, message: msg.FromInterchange, actions: list[ev.Action]
    ) -> None:
        if isinstance(message, msg.Results):
            for run in message.runs:
                self._results(run)
            self._acknowledge.setdefault(endpoint.key, []).append(message.number)
        elif isinstance(message, msg.Window):
            endpoint.window_tasks, endpoint.window_bytes = message.tasks, message.bytes
            self._feed(endpoint, actions)
        elif isinstance(message, msg.Started):
            self._started(message, actions)
        elif isinstance(message, msg.Status):
            endpoint.status = message
        elif isinstance(message, msg.NeedBody):
            for digest in message.digests:
                self._send_body(endpoint, digest, actions)
        elif isinstance(message, msg.Present):
            streams = list(self._by_endpoint.get(endpoint.key, {}).values())
            if ended := endpoint.unheld(streams, message.held):
                cancel = msg.Cancel(ended, interrupt=True)
                actions.append(ev.ToInterchange(endpoint.key, cancel))
            endpoint.reconnect(streams, message.held)
            self._feed(endpoint, actions)

    def _send_body(self, endpoint: Endpoint, digest: bytes, actions: list[ev.Action]) -> None:
        if digest in self._bodies:
            endpoint.bodies.add(digest)
            actions.append(ev.ToInterchange(endpoint.key, msg.Body(digest, self._bodies[digest])))
            return

        def loaded(value: Any, error: Exception | None, actions: list[ev.Action]) -> None:
            if value is None:
                actions.append(ev.ToInterchange(endpoint.key, msg.NoBody([digest])))
            else:
                self._keep_body(digest, value)
                actions.append(ev.ToInterchange(endpoint.key, msg.Body(digest, value)))

        self._load("load_body", (digest,), loaded, actions)

    def _started(self, message: msg.Started, actions: list[ev.Action]) -> None:
        pushes: dict[bytes, list[msg.TaskRefs]] = {}
        for ref in message.tasks:
            stream = self._streams.get(ref.stream)
            if stream is None:
                continue
            indices = from_ranges(ref.ranges)
            for index in indices:
                if index < stream.count and stream.states[index] <= SENT:
                    stream.states[index] = RUNNING
            if stream.pusher:
                pushes.setdefault(stream.pusher, []).append(ref)
            for cancel in self._cancels:
                if not cancel.interrupt:
                    cancel.settle(ref.stream, indices, False)
        actions.extend(
            ev.ToClient(peer, msg.Started(tasks))
            for peer, tasks in pushes.items()
            if peer in self._clients
        )
        self._answer_cancels(actions)

    def _results(self, run: msg.ResultRun) -> None:
        stream = self._streams.get(run.stream)
        if stream is None:
            return  # nobody knows it any more: it is acknowledged all the same
        known = stream.states
        outcomes = run.outcomes
        if any(out.index >= len(known) or known[out.index] >= STORING for out in outcomes):
            outcomes = [
                out for out in outcomes if out.index < len(known) and known[out.index] < STORING
            ]
        if not outcomes:
            return
        self._add_outcomes(stream, outcomes, run.ended, run.host)

    def _add_outcomes(
        self, stream: Stream, outcomes: list[Outcome], ended: float = 0.0, host: str = ""
    ) -> None:
        """Gather outcomes; they are stored at the end of the turn."""
        known = stream.states
        out = 0
        for outcome in outcomes:
            out += known[outcome.index] in (SENT, RUNNING)
            known[outcome.index] = STORING
        stream.pending -= len(outcomes)
        endpoint = self._endpoint_of(stream)
        if endpoint is not None and out:
            endpoint.came_back(stream, out)
        name = stream.info.stream
        gathered = self._outcomes.setdefault(name, [])
        if gathered and gathered[-1].host == host:
            gathered[-1].outcomes.extend(outcomes)
            gathered[-1].ended = max(gathered[-1].ended, ended)
        else:
            gathered.append(msg.ResultRun(name, 0, 0, list(outcomes), ended, host))

    def _flush(self, actions: list[ev.Action]) -> None:
        """Store what was gathered; then tell whoever waits, and the interchanges."""
        if not (self._outcomes or self._acknowledge):
            return
        gathered, self._outcomes = self._outcomes, {}
        numbers, self._acknowledge = self._acknowledge, {}
        operations: list[op.Operation] = []
        rows: list[tuple[Stream, int, Row, list[int]]] = []
        for name, runs in gathered.items():
            stream = self._streams.get(name)
            if stream is None:
                continue
            if not (self._durable or stream.info.keep):
                self._push_at_once(stream, runs, actions)
                continue
            for run in runs:
                for outcomes in _cut(run.outcomes):
                    number, self._next_row = self._next_row, self._next_row + 1
                    indices = [outcome.index for outcome in outcomes]
                    operations.append(
                        op.AddResults(
                            number, name, to_ranges(indices), outcomes, run.ended, run.host
                        )
                    )
                    row = Row(outcomes, run.ended, run.host)
                    rows.append((stream, number, row, indices))

        def stored(error: Exception | None, actions: list[ev.Action]) -> None:
            if error is not None:
                self._refused.append((self._now + RETRY_S, operations, stored))
                return
            self._results_stored(rows, actions)
            self._unacknowledged.append(numbers)
            self._acknowledge_stored(actions)

        if operations or self._durable:
            self._store(operations, stored, actions)
        else:
            stored(None, actions)
        for key in numbers:
            if endpoint := self._endpoints.get(key):
                self._feed(endpoint, actions)

    def _acknowledge_stored(self, actions: list[ev.Action]) -> None:
        """Tell interchanges what is durable. Not while outcomes wait to be stored once more: what
        has come in may be one of these, sent again."""
        if self._refused or self._retrying:
            return
        for numbers in self._unacknowledged:
            for key, theirs in numbers.items():
                actions.append(ev.ToInterchange(key, msg.ResultsStored(theirs)))
        self._unacknowledged.clear()

    def _push_at_once(
        self, stream: Stream, runs: list[msg.ResultRun], actions: list[ev.Action]
    ) -> None:
        """Nothing of this stream is stored: its client gets it, and it is forgotten."""
        client = self._clients.get(stream.pusher)
        for run in runs:
            for outcome in run.outcomes:
                stream.states[outcome.index] = DELIVERED
            self._settle(stream.info.stream, run.outcomes)
        if client is not None:
            actions.append(ev.ToClient(client.peer, service.Push(0, runs)))

    def _results_stored(
        self, rows: list[tuple[Stream, int, Row, list[int]]], actions: list[ev.Action]
    ) -> None:
        told: set[bytes] = set()
        for stream, number, row, indices in rows:
            stream.end(indices, number)
            self._cache.add(number, row)
            name = stream.info.stream
            if client := self._clients.get(stream.pusher):
                client.to_push.append((name, number))
                told.add(client.peer)
            for waiter in self._waiters.get(name, ()):
                if waits := waiter.pending.get(name):
                    waits.difference_update(indices)
            self._settle(name, row.by_index.values())
        for peer in told:
            self._push(self._clients[peer], actions)
        done = {
            waiter
            for name in {stream.info.stream for stream, _, _, _ in rows}
            for waiter in self._waiters.get(name, ())
            if waiter.satisfied
        }
        for waiter in done:
            self._answer(waiter, actions)
        self._answer_cancels(actions)

    # --- outcomes to clients --------------------------------------------------------------------

    def _fetch(self, client: Client, message: service.Fetch, actions: list[ev.Action]) -> None:
        waiter = Waiter(client.peer, message, self._now + message.wait_s)
        waiter.look(self._streams)
        if message.adopt:
            for name, indices in waiter.pending.items():
                self._adopt(self._streams[name], sorted(indices), client, actions)
        if waiter.satisfied or message.wait_s <= 0:
            self._answer(waiter, actions)
            return
        for name in waiter.pending:
            self._waiters.setdefault(name, []).append(waiter)

    def _answer(self, waiter: Waiter, actions: list[ev.Action]) -> None:
        for name in waiter.pending:
            waiters = self._waiters.get(name, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[name]
        reasons = {name: self._reason(name) for name, _ in waiter.wanted}
        reply, missing = answer(waiter, self._streams, self._cache, reasons)
        if reply is not None:
            actions.append(ev.ToClient(waiter.peer, reply))
            return
        waiter.loading = missing
        for number in missing:
            self._read_row(number, waiter, actions)

    def _reason(self, name: bytes) -> tuple[str, str]:
        stream = self._streams.get(name)
        endpoint = None if stream is None else self._endpoint_of(stream)
        if endpoint is None or not endpoint.connected:
            where = "its endpoint" if endpoint is None else f"endpoint {endpoint.name}"
            return states.WAITING_FOR_ENDPOINT, f"{where} is not running"
        if endpoint.status is None or not endpoint.status.workers:
            why = endpoint.status.reason if endpoint.status else "it has just come up"
            return states.WAITING_FOR_NODES, f"endpoint {endpoint.name} has no workers: {why}"
        return states.WAITING_FOR_LAUNCH, "all workers are busy with other tasks"

    def _read_row(self, number: int, reader: Waiter | Client, actions: list[ev.Action]) -> None:
        if readers := self._reading.get(number):
            if reader not in readers:
                readers.append(reader)
            return
        self._reading[number] = [reader]

        def loaded(value: Any, error: Exception | None, actions: list[ev.Action]) -> None:
            readers = self._reading.pop(number)
            if error is not None or value is None:
                # The row is gone (purged meanwhile): as if it had never been there.
                self._cache.add(number, Row([], 0.0, ""))
                self._forget_row(number)
            else:
                outcomes, ended, host = value
                self._cache.add(number, Row(outcomes, ended, host))
            for reader in readers:
                if isinstance(reader, Client):
                    self._push(reader, actions)
                else:
                    reader.loading.discard(number)
                    if not reader.loading:
                        self._answer(reader, actions)

        self._load("load_results", (number,), loaded, actions)

    def _forget_row(self, number: int) -> None:
        for stream in self._streams.values():
            for index, row in enumerate(stream.rows_of):
                if row == number:
                    stream.states[index] = DELIVERED

    def _push(self, client: Client, actions: list[ev.Action]) -> None:
        if self._clients.get(client.peer) is not client:
            return
        pushes, missing = push_rows(client, self._streams, self._cache)
        actions += pushes
        if missing is not None:
            self._read_row(missing, client, actions)

    def _delivered(self, client: Client, numbers: list[int], actions: list[ev.Action]) -> None:
        for number in numbers:
            name, indices = client.pushed.pop(number, (b"", []))
            if stream := self._streams.get(name):
                for index in indices:
                    stream.states[index] = DELIVERED
        self._push(client, actions)

    # --- cancelling -----------------------------------------------------------------------------

    def _cancel(
        self, client: Client, message: service.CancelTasks, actions: list[ev.Action]
    ) -> None:
        cancel = _Cancel(client.peer, message.call, message.interrupt, self._now + CANCEL_S)
        out: dict[bytes, list[msg.TaskRefs]] = {}
        for part in message.tasks:
            stream = self._streams.get(part.stream)
            if stream is None:
                continue
            queued: list[int] = []
            away: list[int] = []
            unsent = self._unsent(stream)
            for index in from_ranges(part.ranges):
                state = stream.states[index] if index < stream.count else DELIVERED
                if state in (QUEUED, PARKED) or (state == SENT and index in unsent):
                    queued.append(index)
                elif state == SENT or (state == RUNNING and message.interrupt):
                    away.append(index)
            endpoint = self._endpoint_of(stream)
            if queued:
                self._add_outcomes(
                    stream, [Outcome(index, OutcomeKind.CANCELLED) for index in queued]
                )
            if away and endpoint is not None:
                refs = msg.TaskRefs(part.stream, to_ranges(away))
                out.setdefault(endpoint.key, []).append(refs)
            if waits := {*queued, *away}:
                cancel.pending.setdefault(part.stream, set()).update(waits)
        self._cancels.append(cancel)
        actions.extend(
            ev.ToInterchange(key, msg.Cancel(refs, message.interrupt)) for key, refs in out.items()
        )
        self._answer_cancels(actions)

    def _unsent(self, stream: Stream) -> set[int]:
        """Tasks that were taken from the queue, and wait for the store before they are sent."""
        return {
            index
            for taken in [
                *self._noting,
                *(one for row in self._loading_rows.values() for one in row),
            ]
            if taken[0].stream is stream
            for part in self._still_out(*taken)
            for index in range(part.first, part.first + part.count)
        }

    def _settle(self, stream: bytes, outcomes: Iterable[Outcome]) -> None:
        """Let those who have cancelled know what became of it."""
        if self._cancels:
            for outcome in outcomes:
                cancelled = outcome.kind == OutcomeKind.CANCELLED
                for cancel in self._cancels:
                    cancel.settle(stream, [outcome.index], cancelled)

    def _answer_cancels(self, actions: list[ev.Action]) -> None:
        for cancel in list(self._cancels):
            if any(cancel.pending.values()) and self._now < cancel.deadline:
                continue
            self._cancels.remove(cancel)
            tasks = [
                service.StreamRanges(name, to_ranges(indices))
                for name, indices in cancel.cancelled.items()
            ]
            actions.append(ev.ToClient(cancel.peer, service.Cancelled(cancel.call, tasks)))

    # --- status, time ---------------------------------------------------------------------------

    def _status(self, client: Client, message: service.GetStatus, actions: list[ev.Action]) -> None:
        is_local = message.endpoint == LOCAL_ENDPOINT
        key = client.instance if is_local else endpoint_key(message.endpoint)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            self._fail(client, message.call, "EndpointNotFound", [message.endpoint], actions)
            return
        status = endpoint.status or msg.Status(0, 0, 0, 0, 0)
        outstanding = sum(s.pending for s in self._by_endpoint.get(key, {}).values())
        running = min(status.running, outstanding)
        actions.append(
            ev.ToClient(
                client.peer,
                service.EndpointStatus(
                    message.call,
                    online=endpoint.connected,
                    managers=status.managers,
                    workers=status.workers,
                    idle_workers=status.workers - running,
                    pending=outstanding - running,
                    running=running,
                    reason=status.reason,
                ),
            )
        )

    def _tick(self, actions: list[ev.Action]) -> None:
        if self._recovered:
            # Those whose process did not outlive the forwarder before this one.
            self._recovered = False
            streams = self._streams.values()
            self._end_streams(
                [s for s in streams if not s.info.keep and s.owner not in self._endpoints], actions
            )
        late = {
            waiter
            for waiters in self._waiters.values()
            for waiter in waiters
            if self._now >= waiter.deadline
        }
        for waiter in late:
            self._answer(waiter, actions)
        self._answer_cancels(actions)
        for endpoint in self._endpoints.values():
            if endpoint.connected and endpoint.queue:
                self._feed(endpoint, actions)  # what the store refused to note as sent
        refused, self._refused = self._refused, []
        for due, operations, stored in refused:
            if self._now >= due:
                self._retry(operations, stored, actions)
            else:
                self._refused.append((due, operations, stored))

    def _retry(self, operations: list[op.Operation], then: Any, actions: list[ev.Action]) -> None:
        """Ask once more for what the store has refused."""
        self._retrying += 1

        def stored(error: Exception | None, actions: list[ev.Action]) -> None:
            self._retrying -= 1
            then(error, actions)

        self._store(operations, stored, actions)

    # --- small things ---------------------------------------------------------------------------

    def _add_stream(self, stream: Stream) -> None:
        self._streams[stream.info.stream] = stream
        key = stream.owner if _is_local(stream) else endpoint_key(stream.info.endpoint)
        self._by_endpoint.setdefault(key, {})[stream.info.stream] = stream

    def _forget_stream(self, stream: Stream) -> None:
        name = stream.info.stream
        self._streams.pop(name, None)
        for streams in self._by_endpoint.values():
            streams.pop(name, None)

    def _endpoint_of(self, stream: Stream) -> Endpoint | None:
        key = stream.owner if _is_local(stream) else endpoint_key(stream.info.endpoint)
        return self._endpoints.get(key)

    def _keep_body(self, digest: bytes, body: bytes) -> None:
        if digest in self._bodies:
            return
        self._bodies[digest] = body
        self._bodies_size += len(body)
        while self._durable and self._bodies_size > BODY_BYTES and len(self._bodies) > 1:
            _, old = self._bodies.popitem(last=False)
            self._bodies_size -= len(old)

    def _fail(
        self,
        client: Client,
        call: int,
        error: str,
        arguments: list[str],
        actions: list[ev.Action],
    ) -> None:
        actions.append(ev.ToClient(client.peer, service.Failed(call, error, arguments)))

    def _store(self, operations: list[op.Operation], then: Any, actions: list[ev.Action]) -> None:
        token, self._next_token = self._next_token, self._next_token + 1
        self._stored[token] = then
        actions.append(ev.Store(token, operations))

    def _store_for(
        self, client: Client, call: int, operations: list[op.Operation], actions: list[ev.Action]
    ) -> None:
        """Store, and tell the client how it went."""

        def stored(error: Exception | None, actions: list[ev.Action]) -> None:
            if error is None:
                actions.append(ev.ToClient(client.peer, service.Done(call)))
            else:
                self._fail(client, call, *_error_words(error), actions)

        self._store(operations, stored, actions)

    def _load(
        self, method: str, arguments: tuple[Any, ...], then: Any, actions: list[ev.Action]
    ) -> None:
        token, self._next_token = self._next_token, self._next_token + 1
        self._loaded[token] = then
        actions.append(ev.Load(token, method, arguments))

    def _load_records(
        self,
        client: Client,
        call: int,
        method: str,
        arguments: tuple[Any, ...],
        actions: list[ev.Action],
    ) -> None:
        def loaded(value: Any, error: Exception | None, actions: list[ev.Action]) -> None:
            if error is not None:
                self._fail(client, call, *_error_words(error), actions)
                return
            records, total = value if method == "search" else (value, len(value))
            actions.append(ev.ToClient(client.peer, service.Functions(call, records, total)))

        self._load(method, arguments, loaded, actions)

    @staticmethod
    def _take(waiting: dict[int, Any], token: int) -> Any:
        return waiting.pop(token)


_Taken = tuple[Segment, Endpoint, int]


class _Cancel:
    """A CancelTasks that is not answered yet."""

    def __init__(self, peer: bytes, call: int, interrupt: bool, deadline: float) -> None:
        self.peer = peer
        self.call = call
        self.interrupt = interrupt
        self.deadline = deadline
        self.pending: dict[bytes, set[int]] = {}
        self.cancelled: dict[bytes, set[int]] = {}

    def settle(self, stream: bytes, indices: list[int], cancelled: bool) -> None:
        waits = self.pending.get(stream)
        if not waits:
            return
        settled = waits.intersection(indices)
        waits -= settled
        if cancelled and settled:
            self.cancelled.setdefault(stream, set()).update(settled)


def endpoint_key(endpoint: str) -> bytes:
    """What an endpoint is called among the forwarder's keys."""
    return parse_uuid(endpoint).bytes


def _is_local(stream: Stream) -> bool:
    return stream.info.endpoint == LOCAL_ENDPOINT


def _ignore(error: Exception | None, actions: list[ev.Action]) -> None:
    """What was to be stored is a convenience, and is made good at the next start."""


def _error_words(error: Exception) -> tuple[str, list[str]]:
    """An error of the store, as a client is told it."""
    return type(error).__name__, [str(argument) for argument in error.args]


def _cut(outcomes: list[Outcome]) -> list[list[Outcome]]:
    """Outcomes in rows of a bounded size."""
    rows: list[list[Outcome]] = []
    row: list[Outcome] = []
    size = 0
    for outcome in outcomes:
        if row and (len(row) >= ROW_TASKS or size + len(outcome.data) > ROW_BYTES):
            rows.append(row)
            row, size = [], 0
        row.append(outcome)
        size += len(outcome.data)
    if row:
        rows.append(row)
    return rows

"""Submissions: checked, stored, queued. All of a message is accepted, or nothing of it."""

from __future__ import annotations

from collections.abc import Callable

from fxhpc.errors import ForwarderError
from fxhpc.forwarder import argument_limits, too_large
from fxhpc.forwarder.delivery import Client
from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.keeping import Keeping
from fxhpc.forwarder.sending import Sending
from fxhpc.forwarder.state import State, error_words, ignore, is_local
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.streams import Segment, Stream
from fxhpc.ids import LOCAL_ENDPOINT, task_id
from fxhpc.protocol import service
from fxhpc.protocol.messages import StreamInfo

#: Arguments that wait in memory; beyond it they are read back from the store when their turn comes.
PAYLOAD_BYTES = 64 * 2**20


#: Runs those tasks of a stream here that wait for a `local` which is gone.
Adopt = Callable[[Stream, list[int] | None, Client], None]


class Submitting:
    """Takes tasks in.

    Attributes:
        adopt: given what is submitted again under its key.
    """

    adopt: Adopt

    def __init__(self, state: State, sending: Sending, keeping: Keeping) -> None:
        self._state = state
        self._sending = sending
        self._keeping = keeping

    def submit(self, client: Client, message: service.Submit) -> None:
        """Store what a client submits, and queue it when it is stored."""
        refused = self._reason_to_refuse(client, message.submissions)
        if refused is not None:
            self._state.fail(client, message.call, *refused)
            return
        size = sum(len(data) for part in message.submissions for data in part.payloads)
        if full := self._keeping.refusal(size):
            self._state.fail(client, message.call, "StoreFull", [full])
            return
        operations: list[op.Operation] = []
        accepted: list[tuple[Stream, Segment, int]] = []
        again: list[tuple[Stream, int]] = []  # sent again after a lost answer
        for submission in message.submissions:
            info, first, count = submission.info, submission.first, len(submission.payloads)
            stream = self._state.streams.get(info.stream)
            if stream is None:
                stream = Stream(info, client.instance)
                stream.skip_to(self._come_to(info, first))
                self._state.purged.pop(info.stream, None)
                self._state.add_stream(stream)
                operations.append(op.AddStream(info, client.instance))
            if not info.keep:
                stream.pusher = client.peer
            if first + count <= stream.accepted:
                again.append((stream, first + count))  # it is stored, or about to be
                continue
            size = sum(map(len, submission.payloads))
            row, self._state.next_row = self._state.next_row, self._state.next_row + 1
            stream.accepted = first + count
            if wall := self._keeping.wall:
                stream.note_queued(first, wall)
            if submission.shared:
                stream.shared[row] = submission.shared
            keep = not self._state.durable or self._sending.payload_bytes + size <= PAYLOAD_BYTES
            segment = Segment(
                stream, row, first, first, count, submission.payloads if keep else None
            )
            accepted.append((stream, segment, size))
            stream.uncommitted += 1
            operations.append(
                op.AddSubmission(row, info.stream, first, submission.payloads, submission.shared)
            )
        now, before = self._state.now, client.submitted_at
        client.submitted_at = now
        # Results that are pushed are waited for, as far as is known here.
        may_wait = now - before < self._sending.company_s and all(
            stream.info.keep for stream, _, _ in accepted
        )
        kept = self._state.durable or any(stream.info.keep for stream, _, _ in accepted)

        def stored(error: Exception | None) -> None:
            if error is None and any(stream.refusing for stream, _, _ in accepted):
                # What came before was refused: with this, the numbers would have a gap.
                error = ForwarderError("tasks before these could not be stored")
                rows = [segment.row for _, segment, _ in accepted]
                self._state.store([op.DropSubmissions(rows)], ignore)
            if error is not None:
                self._refuse_submission(accepted)
            elif any(stream.count < end for stream, end in again):
                # The first time it was refused, which came out after it was sent again.
                error = ForwarderError("these tasks could not be stored")
            if error is not None:
                self._state.fail(client, message.call, *error_words(error))
                return
            fed = self._accept(accepted)
            self._state.say(client.peer, service.Done(message.call))  # first: somebody waits for it
            for stream, _ in again:
                if stream.info.key and is_local(stream):
                    self.adopt(stream, None, client)
            for endpoint in fed:
                if may_wait:
                    self._sending.feed_soon(endpoint)
                else:
                    self._sending.feed(endpoint)

        if kept:
            self._state.store(operations, stored, (client.peer, message.call))
        else:
            stored(None)

    def _reason_to_refuse(
        self, client: Client, submissions: list[service.Submission]
    ) -> tuple[str, list[str]] | None:
        """What is wrong with a message of submissions, as the error that its client is told."""
        accepted: dict[bytes, int] = {}
        for submission in submissions:
            info, first, count = submission.info, submission.first, len(submission.payloads)
            if not self._state.knows_endpoint(info.endpoint):
                return "EndpointNotFound", [info.endpoint]
            if info.walltime_s and (refusal := self._too_long(info)):
                return refusal
            if info.needs and (refusal := self._too_large(client, info)):
                return refusal
            if info.key and (refusal := self._key_taken(info)):
                return refusal
            stream = self._state.streams.get(info.stream)
            known = self._come_to(info, first) if stream is None else stream.accepted
            known = accepted.get(info.stream, known)
            refusing = stream is not None and stream.refusing
            if first + count > known and (first != known or refusing):
                reason = f"task {first} of a stream came where {known} was next"
                return "ForwarderError", [reason]
            if first + count > known and (
                refusal := argument_limits.refusal(self._state, submission)
            ):
                return refusal
            accepted[info.stream] = max(known, first + count)
        return None

    def _come_to(self, info: StreamInfo, first: int) -> int:
        """How far a stream had come that is not known any more, as far as anybody goes on with it.

        One with a key that comes again from its start is a new submission.
        """
        return 0 if info.key and first == 0 else self._state.purged.get(info.stream, 0)

    def _key_taken(self, info: StreamInfo) -> tuple[str, list[str]] | None:
        """The error for tasks whose key stands for others, or for what is on its way out."""
        streams = self._state.keys.get(info.key, {})
        for stream, content in streams.items():
            if content != info.content:
                return "IdempotencyConflict", [info.key, task_id(stream, 0)]
        if info.stream in streams:
            return None
        if info.stream in self._state.abandoned:
            words = "were purged before they had ended, and parts of them may still run"
            what = "use another key"
        elif self._keeping.dropping.is_going(info.stream):
            words, what = "were purged, and are being removed", "submit again in a moment"
        else:
            return None
        reason = f"The tasks of the key {info.key!r} {words}. Nothing was submitted: {what}."
        return "ForwarderError", [reason]

    def _too_long(self, info: StreamInfo) -> tuple[str, list[str]] | None:
        """The error for tasks that are declared to take longer than any block of the endpoint."""
        endpoint = self._state.named_endpoint(info.endpoint)
        if endpoint is None or not 0 < endpoint.longest_block_s < info.walltime_s:
            return None
        durations = [str(info.walltime_s), str(endpoint.longest_block_s)]
        return "WalltimeTooLong", [endpoint.title, *durations]

    def _too_large(self, client: Client, info: StreamInfo) -> tuple[str, list[str]] | None:
        """The error for tasks that need more than any node of the endpoint has."""
        stream = self._state.streams.get(info.stream)
        if stream is not None and stream.accepted:
            return None  # it was taken: what has come of it ends by itself
        own = info.endpoint == LOCAL_ENDPOINT
        endpoint = (
            self._state.endpoints.get(client.instance)
            if own
            else self._state.named_endpoint(info.endpoint)
        )
        words = None if endpoint is None else too_large.refusal(endpoint, info.needs)
        return None if words is None else ("ResourcesTooLarge", words)

    def _accept(self, accepted: list[tuple[Stream, Segment, int]]) -> list[Endpoint]:
        """Submissions are stored: their tasks wait from now on. The endpoints that they are for."""
        fed: dict[bytes, Endpoint] = {}
        for stream, segment, size in accepted:
            stream.uncommitted -= 1
            if self._state.streams.get(stream.info.stream) is not stream:
                continue  # its client has gone meanwhile, and the stream with it
            stream.extend(segment.row, segment.first, segment.count, size)
            endpoint = self._state.endpoint_of(stream)
            if endpoint is not None:
                if segment.payloads is not None:
                    self._sending.payload_bytes += size
                endpoint.push(segment)
                fed[endpoint.key] = endpoint
        return list(fed.values())

    def _refuse_submission(self, accepted: list[tuple[Stream, Segment, int]]) -> None:
        """The store has refused it: the stream goes on from where it stood."""
        for stream, segment, _ in accepted:
            stream.uncommitted -= 1
            # What was sent after it must be refused too, or the numbers would have a gap.
            stream.refusing = stream.uncommitted > 0
            stream.accepted = min(stream.accepted, segment.first)
            known = self._state.streams.get(stream.info.stream) is stream
            if known and not stream.uncommitted and not stream.count:
                self._state.forget_stream(stream)

"""Clients that come and go, and their `local` endpoints: whose work ends, and whose is adopted."""

from __future__ import annotations

from collections.abc import Iterable

from fxhpc.forwarder import argument_limits
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.answering import Answering
from fxhpc.forwarder.cancelling import Cancelling
from fxhpc.forwarder.delivery import Client
from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.gathering import Gathering
from fxhpc.forwarder.keeping import Keeping
from fxhpc.forwarder.sending import Sending
from fxhpc.forwarder.state import State, ignore, is_local
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.streams import DELIVERED, ENDED, RUNNING, SENT, Stream
from fxhpc.ids import LOCAL_ENDPOINT, to_ranges
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Loss, LossCause, Outcome, OutcomeKind, pack_loss
from fxhpc.protocol.versions import PROTOCOL, common_protocol
from fxhpc.version import __version__

#: Seconds that a client on another host, which has no process and no `local` here, is waited for:
#: laptops sleep, and their users do.
AFAR_S = 24 * 3600.0


class Attaching:
    """Who is attached, and what becomes of the work of those who are not any more.

    Args:
        managers: the address where local managers register, told to clients.
    """

    def __init__(
        self,
        state: State,
        gathering: Gathering,
        sending: Sending,
        answering: Answering,
        cancelling: Cancelling,
        keeping: Keeping,
        managers: str,
    ) -> None:
        self._state = state
        self._gathering = gathering
        self._sending = sending
        self._answering = answering
        self._cancelling = cancelling
        self._keeping = keeping
        self._managers = managers
        self._left_until = 0.0  # work of before a restart, of clients elsewhere, waits for them
        # A closing instance: which client asks for which tasks of which stream of it.
        self._adopters: dict[bytes, list[tuple[bytes, bytes, list[int] | None]]] = {}

    def attach(self, peer: bytes, message: service.Attach) -> None:
        """A client greets, for the first time or again."""
        protocol = common_protocol(message.protocol, message.oldest_protocol)
        if protocol is None:
            reason = (
                f"this client is fxhpc {message.version} (protocol {message.protocol}), the "
                f"forwarder of this home is fxhpc {__version__} (protocol {PROTOCOL}): "
                f"use the same version, or another home (FXHPC_HOME); after an upgrade `fxhpc "
                f"forwarder restart` takes it up, and loses nothing"
            )
            self._state.say(peer, msg.Refuse(reason))
            return
        before = [other for other in self._state.clients.values() if other.name == message.client]
        client = self._state.clients[peer] = Client(peer, message)
        for other in before:
            self._drop_calls(other.peer)
            if other.peer != peer:
                # It has come back over a new connection: what it had waits for it still.
                del self._state.clients[other.peer]
                self._state.actions.append(ev.DropClient(other.peer))
        mine = {other.peer for other in before}
        wanted = set(message.streams)
        done = [
            stream
            for stream in self._state.streams.values()
            if stream.pusher in mine and stream.info.stream not in wanted
        ]
        self.end_streams(done)
        self._state.expected.discard(message.local)
        older = sum(
            stream.pending for stream in self._state.streams.values() if self._is_orphan(stream)
        )
        self._state.actions.append(
            ev.ToClient(
                peer,
                service.Attached(
                    self._state.epoch,
                    __version__,
                    protocol,
                    self._managers,
                    older,
                    self._state.notices,
                    argument_limits.told(self._state),
                    self._state.home,
                ),
            )
        )
        self._state.notices = []
        if message.local:
            self.open_local(message.local)
        forgotten: list[bytes] = []
        for name in message.streams:
            stream = self._state.streams.get(name)
            if stream is None:
                forgotten.append(name)
                continue
            if stream.info.keep:
                continue  # it is asked for, by whomever, and does not end with this client
            stream.pusher = peer
            rows = {
                stream.rows_of[index] for index, state in enumerate(stream.states) if state == ENDED
            }
            client.to_push.extend((name, row) for row in sorted(rows))
        if forgotten:
            self._state.say(peer, service.Forgotten(forgotten))
        self._answering.push(client)

    def client_gone(self, peer: bytes) -> None:
        """A client has left, or its process has ended."""
        client = self._state.clients.pop(peer, None)
        if client is None:
            return
        self._state.actions.append(ev.DropClient(peer))
        self._drop_calls(peer)
        ended = [stream for stream in self._state.streams.values() if stream.pusher == peer]
        self.end_streams(ended)
        self.close_local(client.instance)
        if not self._state.clients:
            self._state.purged.clear()
            self._keeping.dropping.sweep()

    def open_local(self, instance: bytes) -> None:
        """Have an interchange hosted for a client's `local`."""
        if instance not in self._state.endpoints:
            self.new_endpoint(Endpoint(instance, LOCAL_ENDPOINT, True, "local"))
            self._state.actions.append(ev.OpenLocal(instance))

    def new_endpoint(self, endpoint: Endpoint) -> None:
        """An endpoint is known from now on; what waits for it is queued."""
        self._state.endpoints[endpoint.key] = endpoint
        endpoint.left_at = self._state.now
        if not endpoint.is_local:
            self._state.named.append(endpoint)
        endpoint.streams = self._state.by_endpoint.setdefault(endpoint.key, {})
        endpoint.fill(list(endpoint.streams.values()))

    def close_local(self, instance: bytes) -> None:
        """Nobody is left whose `local` this is: it ends."""
        if any(client.instance == instance for client in self._state.clients.values()):
            return
        if endpoint := self._state.endpoints.get(instance):
            endpoint.closing = True
            self._state.actions.append(ev.CloseLocal(instance))

    def local_closed(self, instance: bytes) -> None:
        """A `local` is over: what is kept of its work waits until it is asked for."""
        endpoint = self._state.endpoints.pop(instance, None)
        self._state.expected.discard(instance)
        if endpoint is not None:
            endpoint.connected = False
            self._sending.payload_bytes -= sum(segment.memory for segment in endpoint.queue)
            endpoint.forget_queue()
        left = [stream for stream in self._state.streams.values() if stream.owner == instance]
        gone = [s for s in left if not s.info.keep and s.pusher not in self._state.clients]
        self.end_streams(gone)
        for stream in left:
            if stream.info.stream in self._state.streams and is_local(stream):
                self._park(stream)
        self._cancelling.unreachable(left, for_good=True)
        if any(client.instance == instance for client in self._state.clients.values()):
            # Its process closed its last connection, and has made another meanwhile.
            for stream in left:
                stream.unpark(None)
            self.open_local(instance)
        for peer, name, indices in self._adopters.pop(instance, []):
            if (client := self._state.clients.get(peer)) and (
                found := self._state.streams.get(name)
            ):
                self.adopt(found, indices, client)

    def end_streams(self, streams: Iterable[Stream]) -> None:
        """Work that ends with its client: what has not ended is cancelled, and all is forgotten."""
        streams = list(streams)
        for stream in streams:
            out = [i for i, state in enumerate(stream.states) if state in (SENT, RUNNING)]
            endpoint = self._state.endpoint_of(stream)
            if out and endpoint is not None:
                endpoint.came_back(stream, len(out))
                refs = [msg.TaskRefs(stream.info.stream, to_ranges(out))]
                self._state.actions.append(
                    ev.ToInterchange(endpoint.key, msg.Cancel(refs, interrupt=True, forget=True))
                )
            stream.states[:] = bytes([DELIVERED]) * stream.count
            self._state.forget_stream(stream)
        if streams and self._state.durable:
            self._keeping.forget(streams)

    def end_left(self) -> None:
        """After a restart: end work whose process did not outlive the forwarder of before."""
        streams = self._unheld()
        self.end_streams(s for s in streams if s.owner and s.owner not in self._state.endpoints)
        self._left_until = self._state.now + AFAR_S

    def tick(self) -> None:
        """Time has passed: clients elsewhere that have not come back after a restart are gone."""
        if self._left_until and self._state.now > self._left_until:
            self._left_until = 0.0
            self.end_streams(stream for stream in self._unheld() if not stream.owner)

    def _unheld(self) -> list[Stream]:
        """Streams that end with their client, which is not attached."""
        return [
            stream
            for stream in self._state.streams.values()
            if not stream.info.keep and stream.pusher not in self._state.clients
        ]

    def _drop_calls(self, peer: bytes) -> None:
        self._answering.forget(peer)
        self._cancelling.forget(peer)

    def adopt(self, stream: Stream, indices: list[int] | None, client: Client) -> None:
        """Run tasks whose own `local` is gone, or those of them that are asked for, here."""
        if not is_local(stream) or not stream.pending or not client.instance:
            return
        owner = self._state.endpoints.get(stream.owner)
        if owner is not None and owner.closing:
            # Not before all of it has ended: nothing must run twice.
            waits = (client.peer, stream.info.stream, indices)
            self._adopters.setdefault(stream.owner, []).append(waits)
            return
        if self._is_orphan(stream):
            self._park(stream)
            self._state.by_endpoint.get(stream.owner, {}).pop(stream.info.stream, None)
            stream.owner = client.instance
            self._state.by_endpoint.setdefault(client.instance, {})[stream.info.stream] = stream
            operations: list[op.Operation] = [
                op.SetStreamOwner(stream.info.stream, client.instance)
            ]
            self._state.store(operations, ignore)
        endpoint = self._state.endpoints.get(stream.owner)
        segments = stream.unpark(indices)
        if endpoint is None or not segments:
            return
        for segment in segments:
            endpoint.push(segment)
        self._state.actions.extend(
            ev.ToClient(other.peer, service.NeedLocal())
            for other in self._state.clients.values()
            if other.instance == stream.owner
        )
        self._sending.feed(endpoint)

    def _park(self, stream: Stream) -> None:
        """Nothing of this stream runs any more, until it is asked for."""
        sent = stream.park()
        if stream.info.retries == 0 and sent:
            text = "the process whose `local` endpoint ran it has ended"
            data = pack_loss(Loss(LossCause.MANAGER_LOST, text))
            self._gathering.add(stream, [Outcome(i, OutcomeKind.LOST, data) for i in sent])

    def _is_orphan(self, stream: Stream) -> bool:
        return (
            stream.pending > 0
            and is_local(stream)
            and stream.owner not in self._state.endpoints
            and stream.owner not in self._state.expected
        )

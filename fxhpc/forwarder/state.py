"""What the forwarder's parts share: clients, streams, endpoints, and how the store is asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.attempts import Attempts
from fxhpc.forwarder.delivery import Client
from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.store import operations as op
from fxhpc.forwarder.streams import Stream
from fxhpc.ids import LOCAL_ENDPOINT, parse_uuid
from fxhpc.protocol import service

#: Functions kept in memory, to be sent along with the first tasks that need them, in bytes.
BODY_BYTES = 64 * 2**20

#: What is done when the store has answered: with its error, or None.
Stored = Callable[[Exception | None], None]

#: What is done with what the store was asked for, or its error.
Loaded = Callable[[Any, Exception | None], None]

#: Who waits for an answer: a client's connection, and the number of its call.
Caller = tuple[bytes, int]


class Bodies:
    """Functions and shared arguments that were stored or asked for last.

    Args:
        limit: bytes beyond which the oldest are dropped; None keeps all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._bodies

    def __getitem__(self, digest: bytes) -> bytes:
        return self._bodies[digest]

    def keep(self, digest: bytes, body: bytes) -> None:
        """Keep these bytes, and let the oldest go."""
        if digest in self._bodies:
            return
        self._bodies[digest] = body
        self._size += len(body)
        while self._limit is not None and self._size > self._limit and len(self._bodies) > 1:
            _, old = self._bodies.popitem(last=False)
            self._size -= len(old)

    def drop(self, digests: Iterable[bytes]) -> None:
        """Let these go."""
        for digest in digests:
            self._size -= len(self._bodies.pop(digest, b""))


class State:
    """The forwarder's memory, and the actions that its parts want done.

    Args:
        epoch: of the store's owner.
        durable: whether what is not kept is stored too.
        notices: what a person is to be told of the store, until a client was told.
        home: the store's identity.
    """

    def __init__(
        self, epoch: int, durable: bool, notices: Iterable[str] = (), home: str = ""
    ) -> None:
        self.epoch = epoch
        self.home = home
        self.durable = durable
        self.notices = list(notices)
        self.now = 0.0  # monotonic, of the event that is being handled
        self.actions: list[ev.Action] = []
        # Whose call is being handled, or goes on now that the store has answered.
        self.caller: Caller | None = None
        self.mistakes: list[Exception] = []  # in answering single calls: for the log
        self.clients: dict[bytes, Client] = {}
        self.streams: dict[bytes, Stream] = {}
        self.endpoints: dict[bytes, Endpoint] = {}
        self.named: list[Endpoint] = []  # those of them that are not `local`
        self.by_endpoint: dict[bytes, dict[bytes, Stream]] = {}
        # Streams that were purged while their client was there: the number of their next task.
        self.purged: dict[bytes, int] = {}
        # By idempotency key: its streams, and the digest of what was submitted under it.
        self.keys: dict[str, dict[bytes, bytes]] = {}
        # Streams of keys that were purged before they had ended: something of them may still come.
        self.abandoned: set[bytes] = set()
        self.attempts = Attempts()
        self.expected: set[bytes] = set()  # local instances of before that will attach again
        self.bodies = Bodies(BODY_BYTES if durable else None)
        self.next_row = 1
        self._next_token = 1
        self._stored: dict[int, tuple[Caller | None, Stored]] = {}
        self._loaded: dict[int, tuple[Caller | None, Loaded]] = {}

    # --- streams and endpoints ------------------------------------------------------------------

    def add_stream(self, stream: Stream) -> None:
        """Make a stream known."""
        self.streams[stream.info.stream] = stream
        key = stream.owner if is_local(stream) else endpoint_key(stream.info.endpoint)
        self.by_endpoint.setdefault(key, {})[stream.info.stream] = stream
        if stream.info.key:
            self.keys.setdefault(stream.info.key, {})[stream.info.stream] = stream.info.content

    def forget_stream(self, stream: Stream) -> None:
        """Nobody may ask for it any more."""
        name = stream.info.stream
        self.streams.pop(name, None)
        if of_key := self.keys.get(stream.info.key):
            of_key.pop(name, None)
            if not of_key:
                del self.keys[stream.info.key]
        for streams in self.by_endpoint.values():
            streams.pop(name, None)

    def endpoint_of(self, stream: Stream) -> Endpoint | None:
        """Where a stream's tasks run, if that is known here."""
        key = stream.owner if is_local(stream) else endpoint_key(stream.info.endpoint)
        return self.endpoints.get(key)

    def knows_endpoint(self, endpoint: str) -> bool:
        """Whether tasks for this endpoint would be accepted. What is no UUID is no endpoint."""
        if endpoint == LOCAL_ENDPOINT:
            return True
        named = self.named_endpoint(endpoint)
        return named is not None and not named.deleted

    def named_endpoint(self, endpoint: str) -> Endpoint | None:
        """A named endpoint, by its UUID."""
        try:
            return self.endpoints.get(endpoint_key(endpoint))
        except ValueError:
            return None

    # --- clients --------------------------------------------------------------------------------

    def say(self, peer: bytes, message: service.ToClient) -> None:
        """Send a message to a client."""
        self.actions.append(ev.ToClient(peer, message))

    def fail(self, client: Client, call: int, error: str, arguments: list[str]) -> None:
        """Tell a client that its call is refused, and why."""
        self.say(client.peer, service.Failed(call, error, arguments))

    def mistaken(self, caller: Caller, error: Exception, where: str) -> None:
        """Handling a call has raised what no code here raises on purpose: its client is told."""
        words = (
            f"{where}: {type(error).__name__}: {error}; please report it, with the home's "
            f"forwarder.log"
        )
        self.say(caller[0], service.Failed(caller[1], "ForwarderError", [words]))

    # --- the store ------------------------------------------------------------------------------

    def store(
        self, operations: list[op.Operation], then: Stored, caller: Caller | None = None
    ) -> None:
        """Commit these, all or none, and go on with `then`.

        Args:
            caller: who is told if that raises.
        """
        token, self._next_token = self._next_token, self._next_token + 1
        self._stored[token] = (caller, then)
        self.actions.append(ev.Store(token, operations))

    def store_for(self, client: Client, call: int, operations: list[op.Operation]) -> None:
        """Commit these, and tell the client how it went."""

        def stored(error: Exception | None) -> None:
            if error is None:
                self.say(client.peer, service.Done(call))
            else:
                self.fail(client, call, *error_words(error))

        self.store(operations, stored, (client.peer, call))

    def load(
        self, method: str, arguments: tuple[Any, ...], then: Loaded, caller: Caller | None = None
    ) -> None:
        """Ask the store, and go on with `then`.

        Args:
            caller: who is told if that raises.
        """
        token, self._next_token = self._next_token, self._next_token + 1
        self._loaded[token] = (caller, then)
        self.actions.append(ev.Load(token, method, arguments))

    def store_answered(self, event: ev.Stored | ev.Loaded) -> None:
        """The store has done what it was asked for."""
        if isinstance(event, ev.Stored):
            self.caller, stored = self._stored.pop(event.token)
            stored(event.error)
        else:
            self.caller, loaded = self._loaded.pop(event.token)
            loaded(event.value, event.error)


def endpoint_key(endpoint: str) -> bytes:
    """What an endpoint is called among the forwarder's keys."""
    return parse_uuid(endpoint).bytes


def is_local(stream: Stream) -> bool:
    """Whether it runs on the `local` endpoint of the client that owns it."""
    return stream.info.endpoint == LOCAL_ENDPOINT


def ignore(error: Exception | None) -> None:
    """What was to be stored is a convenience, and is made good at the next start."""


def error_words(error: Exception) -> tuple[str, list[str]]:
    """An error of the store, as a client is told it."""
    return type(error).__name__, [str(argument) for argument in error.args]

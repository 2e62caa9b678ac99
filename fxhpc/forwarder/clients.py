"""The clients of a home: other processes, over ipc. Who is attached, and who has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fxhpc.forwarder import events as ev
from fxhpc.hosts import Watch
from fxhpc.protocol import service
from fxhpc.protocol.messages import Heartbeat
from fxhpc.transport.acceptor import Acceptor

#: Bytes of tasks and functions that are read before anything else is looked at.
READ_BYTES = 16 * 2**20


def _never() -> bool:
    return False


class HomeClients:
    """The socket where clients attach, and a watch on the process of each.

    Attributes:
        is_full: whether nothing more of theirs is to be read for now. They wait, and are told
            every half second that somebody lives here. Whoever changes the answer to no wakes the
            loop.
    """

    def __init__(self, acceptor: Acceptor[service.FromClient]) -> None:
        self.acceptor = acceptor
        acceptor.on_refused = self._refuse
        #: The process of each local instance: its pid and its start time.
        self.processes: dict[bytes, tuple[int, float]] = {}
        self.is_full: Callable[[], bool] = _never
        self._watches: dict[bytes, Watch] = {}
        self._expected: dict[bytes, Watch] = {}  # of before a restart, not attached again yet

    def sockets(self) -> list[Any]:
        """What to poll for reading."""
        watched = [watch.fd for watch in self._watching() if watch.fd >= 0]
        return watched if self.is_full() else [self.acceptor.socket, *watched]

    def expect(self, instance: bytes, pid: int, started: float) -> None:
        """A process that was attached before a restart, and lives."""
        self.processes[instance] = (pid, started)
        self._expected[instance] = Watch(pid, started)

    def waiting(self) -> list[ev.Event]:
        """Nothing: other processes speak through sockets."""
        return []

    def receive(self, ready: set[Any]) -> list[ev.Event]:
        """What clients have said, and which of them have ended."""
        events: list[ev.Event] = []
        if self.acceptor.socket in ready:
            self._read(events)
        if any(watch.fd in ready for watch in self._watching()):
            events += self._ended(any_descriptor=False)
        return events

    def _watching(self) -> list[Watch]:
        return [*self._watches.values(), *self._expected.values()]

    def _read(self, events: list[ev.Event]) -> None:
        size = 0
        for peer, message in self.acceptor.receive():
            if isinstance(message, service.Attach):
                self.processes[message.local] = (message.pid, message.started)
                if peer not in self._watches:
                    self._watches[peer] = Watch(message.pid, message.started)
                if watch := self._expected.pop(message.local, None):
                    watch.close()
            events.append(ev.ClientSaid(peer, message))
            size += _bytes_of(message)
            if size > READ_BYTES:
                return  # hundreds of such messages may have come

    def _refuse(self, peer: bytes, call: int, why: str) -> None:
        """A call cannot be read: whoever made it must not wait for its answer."""
        self.send(peer, service.Failed(call, "ForwarderError", [f"the call was refused: {why}"]))

    def tick(self) -> list[ev.Event]:
        """Look after processes that cannot be watched by a descriptor, and those that wait."""
        if self.is_full():
            for peer in self.acceptor.peers():
                self.send(peer, Heartbeat())
        return self._ended(any_descriptor=True)

    def send(self, peer: bytes, message: Any) -> None:
        """Say something to a client. If it takes nothing, it will notice, and attach again."""
        if not self.acceptor.send(peer, message):
            self.acceptor.forget(peer)

    def forget(self, peer: bytes) -> None:
        """A client is gone."""
        self.acceptor.forget(peer)
        if watch := self._watches.pop(peer, None):
            watch.close()

    def close(self) -> None:
        """The forwarder ends."""
        for watch in self._watching():
            watch.close()
        self.acceptor.close()

    def _ended(self, any_descriptor: bool) -> list[ev.Event]:
        events: list[ev.Event] = []
        for peer, watch in list(self._watches.items()):
            if _is_over(watch, any_descriptor):
                events.append(ev.ClientGone(peer))
        for instance, watch in list(self._expected.items()):
            if _is_over(watch, any_descriptor):
                watch.close()
                del self._expected[instance]
                events.append(ev.LocalGone(instance))
        return events


def _bytes_of(message: service.FromClient) -> int:
    """About how many bytes a message has, as far as it may have many."""
    if isinstance(message, service.Submit):
        return sum(len(data) for part in message.submissions for data in part.payloads)
    if isinstance(message, service.PutBody | service.RegisterFunction):
        return len(message.body)
    return 0


def _is_over(watch: Watch, any_descriptor: bool) -> bool:
    if watch.fd >= 0:
        return watch.has_signalled()
    return any_descriptor and watch.is_over()

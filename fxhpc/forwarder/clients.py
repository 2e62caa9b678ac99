"""The clients of a home: other processes, here or elsewhere. Who is attached, and who has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.access import OWN
from fxhpc.forwarder.attaching import AFAR_S
from fxhpc.hosts import Watch, is_alive
from fxhpc.protocol import service
from fxhpc.protocol.messages import Heartbeat
from fxhpc.transport.acceptor import Acceptor

if TYPE_CHECKING:
    from fxhpc.forwarder.other_hosts import OtherHosts

#: Seconds that a client on another host may be silent before it counts as ended: nobody here sees
#: its process, and networks are down for minutes.
AWAY_S = 600.0

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
        others: where clients on other hosts attach, if they may.
        hosts: the host of each local instance that is not on this one.
    """

    def __init__(self, acceptor: Acceptor[service.FromClient]) -> None:
        self.acceptor = acceptor
        acceptor.on_refused = self._refuse
        #: The process of each local instance: its pid and its start time.
        self.processes: dict[bytes, tuple[int, float]] = {}
        self.is_full: Callable[[], bool] = _never
        self.others: OtherHosts | None = None
        self.hosts: dict[bytes, str] = {}
        self._watches: dict[bytes, Watch] = {}
        self._expected: dict[bytes, Watch] = {}  # of before a restart, not attached again yet
        self._heard: dict[bytes, float] = {}  # clients on other hosts, and when they said something
        self._relayed: dict[bytes, float] = {}  # likewise, those that a relay speaks for
        self._granted: dict[bytes, str] = {}  # those that were granted access, and under which name
        self._expected_until: dict[bytes, float] = {}  # likewise, those of before a restart

    def sockets(self) -> list[Any]:
        """What to poll for reading."""
        watched = [watch.fd for watch in self._watching() if watch.fd >= 0]
        if self.is_full():
            return watched
        return [*(acceptor.socket for acceptor in self._acceptors()), *watched]

    def _acceptors(self) -> list[Acceptor[service.FromClient]]:
        far = self.others.clients if self.others is not None else None
        return [self.acceptor] if far is None else [self.acceptor, far]

    def expect(self, instance: bytes, pid: int, started: float) -> None:
        """A process that was attached before a restart, and lives."""
        self.processes[instance] = (pid, started)
        self._expected[instance] = Watch(pid, started)

    def expect_from(self, host: str, instance: bytes, pid: int, started: float) -> None:
        """The same of a process on another host, where nobody here can look."""
        self.processes[instance], self.hosts[instance] = (pid, started), host
        self._expected_until[instance] = time.monotonic() + AWAY_S

    def waiting(self) -> list[ev.Event]:
        """Nothing: other processes speak through sockets."""
        return []

    def receive(self, ready: set[Any]) -> list[ev.Event]:
        """What clients have said, and which of them have ended."""
        events: list[ev.Event] = []
        for acceptor in self._acceptors():
            if acceptor.socket in ready:
                self._read(acceptor, events)
        if any(watch.fd in ready for watch in self._watching()):
            events += self._ended(any_descriptor=False)
        return events

    def _watching(self) -> list[Watch]:
        return [*self._watches.values(), *self._expected.values()]

    def _read(self, acceptor: Acceptor[service.FromClient], events: list[ev.Event]) -> None:
        size = 0
        is_far = acceptor is not self.acceptor
        for peer, message in acceptor.receive():
            if is_far and peer not in self._relayed:
                self._heard[peer] = time.monotonic()
            if peer in self._relayed:
                self._relayed[peer] = time.monotonic()
            if isinstance(message, service.Attach) and is_far and self.others is not None:
                self._granted[peer] = name = self.others.sender
                if name != OWN:  # a `local` is for processes that see the home, whatever is said
                    message = msgspec.structs.replace(message, local=b"", pid=0, started=0.0)
            if isinstance(message, service.Attach) and not message.local:
                self._relayed[peer] = time.monotonic()  # it has no process here, nor a `local`
                if is_far and self.others is not None:
                    self._heard[peer] = float("inf")  # it is waited for as long as one of ssh
            elif isinstance(message, service.Attach):
                self.processes[message.local] = (message.pid, message.started)
                if is_far:
                    self.hosts[message.local] = message.host
                else:
                    self.hosts.pop(message.local, None)
                    if peer not in self._watches:
                        self._watches[peer] = Watch(message.pid, message.started)
                self._expected_until.pop(message.local, None)
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
            for acceptor in self._acceptors():
                for peer in acceptor.peers():
                    self.send(peer, Heartbeat())
        return self._ended(any_descriptor=True)

    def send(self, peer: bytes, message: Any) -> None:
        """Say something to a client. If it takes nothing, it will notice, and attach again."""
        if peer in self._heard and self.others is not None:
            if isinstance(message, service.Attached):  # its managers are not on this host either
                managers = self.others.managers_address
                message = msgspec.structs.replace(message, managers=managers)
            acceptor = self.others.clients
        else:
            acceptor = self.acceptor
        if acceptor is not None and not acceptor.send(peer, message):
            acceptor.forget(peer)

    def forget(self, peer: bytes) -> None:
        """A client is gone."""
        for acceptor in self._acceptors():
            acceptor.forget(peer)
        self._heard.pop(peer, None)
        self._granted.pop(peer, None)
        self._relayed.pop(peer, None)
        if watch := self._watches.pop(peer, None):
            watch.close()

    def forget_processes(self, is_hosted: Callable[[bytes], bool]) -> None:
        """Those of instances that are over; between two turns, when nobody is just attaching."""
        for instance in [one for one in self.processes if not is_hosted(one)]:
            del self.processes[instance]
            self.hosts.pop(instance, None)

    def lives(self, instance: bytes) -> bool:
        """Whether the process of a local instance is there, attached or not."""
        process = self.processes.get(instance)
        if process is None:
            return False
        return instance in self.hosts or is_alive(*process)

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
        if any_descriptor:
            now = time.monotonic()
            far = [(peer, at) for peer, at in self._heard.items() if peer not in self._relayed]
            gone = [peer for peer, at in far if now - at > AWAY_S]
            gone += [peer for peer, at in self._relayed.items() if now - at > AFAR_S]
            if self.others is not None:
                known = self.others.names
                gone += [peer for peer, name in self._granted.items() if name not in known]
            events += [ev.ClientGone(peer) for peer in gone]
            for instance, until in list(self._expected_until.items()):
                if now > until:
                    del self._expected_until[instance]
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

"""The ports where processes of other hosts attach: there as long as there is reason for them.

One for clients, one for the managers of their `local` endpoints, which has keys of its own. A
reason is a home on a file system of a network, which other hosts see as well; or that somebody was
granted access. Else no port is opened.
"""

from __future__ import annotations

import logging
import os

import zmq

from fxhpc.errors import HomeError
from fxhpc.forwarder.access import OWN, Access, Grant, check_permitted, note_seen, read_access
from fxhpc.forwarder.home import Home
from fxhpc.interchange.addresses import own_addresses
from fxhpc.protocol import codec, messages, service
from fxhpc.site import SITE_FILE
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.keys import KeyPair, load_or_create_keys
from fxhpc.transport.tcp_door import TcpDoor

_LOOPBACK = "127.0.0.1"

log = logging.getLogger("fxhpc.forwarder")


class OtherHosts:
    """The ports, and who is let in.

    Args:
        home: whose.
        network: the kind of its file system, if that is one of a network.

    Attributes:
        clients: reads what clients say there; None: there is no port.
        managers: likewise.
        addresses: where clients attach, with spaces between.
        managers_address: where managers register: likewise, and the public key in a second line.
        server_key: the public key of both.
        trouble: why there is no port, though there is reason for one.
        known: when what is known of access was written; in ns.
        names: of all who may attach, those of the home itself among them.
    """

    def __init__(self, home: Home, network: str) -> None:
        self._home = home
        self._network = network
        self._state: tuple[tuple[int, int] | None, ...] = (None, None, None) if not network else ()
        self._door: TcpDoor | None = None  # the clients'
        self._doors: list[TcpDoor] = []  # all
        self._bound: tuple[int, str, bytes] | None = None
        self._seen: set[str] = set()
        self.clients: Acceptor[service.FromClient] | None = None
        self.managers: Acceptor[messages.FromManager] | None = None
        self.addresses = self.managers_address = self.server_key = self.trouble = ""
        self.known = 0
        self.names: set[str] = set()

    @property
    def is_shared(self) -> bool:
        """Whether others than processes of this host may own the home, or attach to it."""
        return bool(self._network) or bool(self._state and self._state[0])

    @property
    def is_granted(self) -> bool:
        """Whether somebody was granted access, who may come at any time."""
        return len(self.names) > 1

    @property
    def sender(self) -> str:
        """The name of the client whose message was received last."""
        return self._door.sender if self._door is not None else ""

    def look(self) -> bool:
        """See what has changed since the last look. Whether something has."""
        if self._seen:
            note_seen(self._home, self._seen)
            self._seen.clear()
        for door in self._doors:
            door.look()
        files = self._home.access, self._home.forwarder_key
        state = tuple(_changed(os.fspath(path)) for path in files)
        state = *state, _changed(SITE_FILE) if state[0] else None  # what a site says of access
        if state == self._state and not self.trouble:
            return False
        try:
            access = read_access(self._home)
            self._follow(access)
            self.trouble = ""
        except (HomeError, OSError, zmq.ZMQError) as error:
            if str(error) != self.trouble:
                log.error("no port for other hosts: %s", error)
            self.trouble = str(error)
            self._shut()  # nobody knows who may attach, or it is forbidden
        # Looked at before, since somebody may write it meanwhile; but for a key that was made here.
        self._state = state[0], _changed(os.fspath(files[1])), state[2]
        self.known = state[0][0] if state[0] else 0
        return True

    def _follow(self, access: Access | None) -> None:
        granted = access.granted if access is not None else []
        if access is not None:
            granted = self._permitted(granted)
        self.names = {OWN} | {one.name for one in granted}
        hosts = [access.address] if access is not None and access.address else own_addresses()
        if access is None and (not self._network or hosts == [_LOOPBACK]):
            self._shut()
            return
        keys = load_or_create_keys(self._home.forwarder_key, "forwarder")
        own = load_or_create_keys(self._home.client_key, "client")
        admitted = {own.public: OWN}
        admitted |= {one.public.encode(): one.name for one in granted}
        wanted = (access.port if access is not None else 0, " ".join(hosts), keys.public)
        if self._door is None or wanted != self._bound:
            self._shut()
            self._open(wanted, keys, hosts, admitted)
        elif self._door.admit(admitted):
            log.info("access was taken back: whoever is still granted it connects anew")

    def _permitted(self, granted: list[Grant]) -> list[Grant]:
        """Those of them whom the administrators of this host let in.

        Raises:
            HomeError: nobody, and nobody else has reason to come.
        """
        try:
            check_permitted()
        except HomeError as error:
            if not self._network:
                self.names = {OWN}
                raise
            if granted:
                log.error("only the home's own clients are let in from other hosts: %s", error)
            return []
        return granted

    def _open(
        self,
        wanted: tuple[int, str, bytes],
        keys: KeyPair,
        hosts: list[str],
        admitted: dict[bytes, str],
    ) -> None:
        managers = load_or_create_keys(self._home.manager_key, "manager")
        bound: list[str] = []
        try:
            door = self._door = TcpDoor(
                f"tcp://0.0.0.0:{wanted[0] or '*'}", keys, "clients", admitted
            )
            self.clients = Acceptor(door, codec.FROM_CLIENT, service.Attach)
            other = TcpDoor("tcp://0.0.0.0:*", keys, "managers", {managers.public: OWN})
            self.managers = Acceptor(other, codec.FROM_MANAGER, messages.Register)
            self._doors = [door, other]
        except BaseException:
            self._shut()
            raise
        for one in (door, other):
            port = one.address.rpartition(":")[2]
            bound.append(" ".join(f"tcp://{host}:{port}" for host in hosts))
        door.on_admitted = self._seen.add
        self._bound = wanted
        self.server_key = keys.public.decode()
        self.addresses, self.managers_address = bound[0], f"{bound[1]}\n{self.server_key}"
        log.info("listens for clients on other hosts at %s", self.addresses)

    def _shut(self) -> None:
        if self.addresses:
            log.info("listens for other hosts no more at %s", self.addresses)
        self._close()
        self.addresses = self.managers_address = self.server_key = ""

    def close(self) -> None:
        """The forwarder ends."""
        if self._seen:
            note_seen(self._home, self._seen)
        self._close()

    def _close(self) -> None:
        for acceptor in (self.clients, self.managers):
            if acceptor is not None:
                acceptor.close()
        self._door = self._bound = self.clients = self.managers = None
        self._doors = []


def _changed(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino

"""The connection to a home on another host, with an access file: over tcp, encrypted."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from fxhpc import errors
from fxhpc.client.connection.address import TcpAddress
from fxhpc.client.connection.dialing import Address
from fxhpc.client.connection.home import HomeConnection
from fxhpc.forwarder.access_files import read_access_file
from fxhpc.protocol import service
from fxhpc.transport.probing import REFUSED, answers
from fxhpc.transport.sockets import MessageSocket
from fxhpc.transport.tcp_dealer import TcpDealer

#: Seconds without a connection until calls are failed: laptops are away for a night.
PATIENCE_S = 24 * 3600.0

_PROBE_S = 5.0


@dataclass(frozen=True)
class _Where:
    clients: str
    pid: int = 0
    server_key: str = ""


class TcpConnection(HomeConnection):
    """A connection whose address and keys are in an access file, which is read each time.

    Args:
        address: the file, and where to connect if that is not what it says.
        patience: seconds without a connection until calls are failed.

    Raises:
        HomeError: the file cannot be used.
        ForwarderUnreachable: nobody answers there, or the access was taken back.
        VersionMismatch: the fxhpc there and this one do not understand each other.
    """

    def __init__(self, address: TcpAddress, patience: float = PATIENCE_S) -> None:
        self._place = address
        super().__init__(self._find, patience, home=str(address), connect=self._dial)

    def _greeting(self) -> service.Attach:
        # No process there, and no `local`: that would be one of that host.
        return msgspec.structs.replace(super()._greeting(), local=b"", pid=0, started=0.0)

    # --- the connection's thread ----------------------------------------------------------------

    def _find(self) -> Address:
        access = read_access_file(self._place.file)
        addresses = [self._place.address] if self._place.address else access.addresses
        told = answers(addresses, _PROBE_S)
        for one in addresses:
            if not told[one]:
                return _Where(one)
        tried = ", ".join(f"{one.removeprefix('tcp://')}: {why}" for one, why in told.items())
        if REFUSED in told.values():
            tried += f"; start it there, on {access.host or 'its host'}: fxhpc access init"
        raise errors.ForwarderUnreachable(str(self._place), tried)

    def _dial(self, address: Address) -> MessageSocket:
        return TcpDealer(address.clients, read_access_file(self._place.file).curve())

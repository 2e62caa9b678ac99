"""Which managers' connections have ended: found out at once, and forgiven for a moment."""

from __future__ import annotations

import time

from fxhpc.protocol import messages as msg
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.monitor import Monitor
from fxhpc.transport.tcp_sockets import TcpSocket

#: Seconds that a manager whose connection was closed may take to connect again. A process that was
#: killed closes it too, and does not come back.
COME_BACK_S = 0.4

#: Seconds in which it shows which connection it was that ended, and between two looks.
_PROBE_S, PROBE_EVERY_S = 0.5, 0.05

#: Seconds between two looks for each connection that there is: very many cost more than a moment.
_PROBE_EACH_S = 1e-4


class Connections:
    """Looks after the connections of managers.

    The socket's monitor tells that one has ended, not whose: all are tried.
    """

    def __init__(self, managers: Acceptor[msg.FromManager], socket: TcpSocket) -> None:
        self._managers = managers
        self.monitor = Monitor(socket)
        self._probe_until = self._probe_next = 0.0
        self._closed: dict[bytes, float] = {}  # those that ended, and until when to wait

    @property
    def is_busy(self) -> bool:
        """Whether to look again soon."""
        return bool(self._closed) or time.monotonic() < self._probe_until

    def look(self) -> list[bytes]:
        """Those that have ended, and did not come back in time. Their links are forgotten."""
        now = time.monotonic()
        seen = self.monitor.look()
        if seen.ended > seen.unborn:
            self._probe_until = max(now, self._probe_next) + _PROBE_S
        if self._probe_next <= now < self._probe_until:
            peers = self._managers.peers()
            self._probe_next = now + max(PROBE_EVERY_S, _PROBE_EACH_S * len(peers))
            for peer in peers:
                if peer not in self._closed and not self._managers.send(peer, msg.Heartbeat()):
                    self._closed[peer] = now + COME_BACK_S
        gone = [peer for peer, until in self._closed.items() if now >= until]
        for peer in gone:
            del self._closed[peer]
            self._managers.forget(peer)
        return gone

"""The connection to a home on another host, through the user's ssh: made again whenever it ends."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

import msgspec

from fxhpc import errors
from fxhpc.client.connection.address import SshAddress
from fxhpc.client.connection.dialing import Address
from fxhpc.client.connection.home import HomeConnection
from fxhpc.client.connection.ssh import AuthenticationNeeded, Ssh, can_ask, has_master
from fxhpc.client.shown.sparing import SparingLog
from fxhpc.protocol import service
from fxhpc.transport.poller import Poller
from fxhpc.transport.sockets import MAX_FRAME, MessageSocket
from fxhpc.transport.unix_sockets import PipedDealer

_warnings = SparingLog(logging.getLogger(__name__))

#: Seconds without a connection until all is given up: laptops are away for a night.
PATIENCE_S = 24 * 3600.0

#: Seconds between attempts: the first and the last pause, each twice the one before.
_PAUSE_S, _LAST_PAUSE_S = 1.0, 20.0

#: The same, if somebody has to be asked: servers count failed attempts, and shut their doors. A
#: connection that the user makes meanwhile (ControlMaster) is found sooner.
_ASKING_PAUSE_S, _ASKING_LAST_PAUSE_S = 60.0, 900.0
_MASTER_LOOK_S = 5.0

#: Seconds without a connection until calls fail that a thread waits in. Futures go on waiting.
_CALLS_S = 60.0

#: Seconds from the start of an ssh that says nothing until these calls no longer wait for it.
_MUTE_S = 20.0

_WARNING_S = 300.0
_ENDING_S = 1.0


@dataclass(frozen=True)
class _Where:
    clients: str
    pid: int = 0
    server_key: str = ""


class SshConnection(HomeConnection):
    """A connection that keeps an ssh, and starts another when that has ended.

    Somebody may be asked for a passphrase or a code while it is made, and by `ask_again`; what
    happens in the background asks nobody.

    Args:
        address: where it leads.
        patience: seconds without a connection until futures are failed.

    Raises:
        ForwarderUnreachable: it cannot be made; the text has what ssh says.
        HomeError: the home there cannot be used.
        VersionMismatch: the fxhpc there and this one do not understand each other.
    """

    def __init__(self, address: SshAddress, patience: float = PATIENCE_S) -> None:
        self._place = address
        self._ssh: Ssh | None = None
        self._may_ask = can_ask()
        self._pause = _PAUSE_S
        self._refused: AuthenticationNeeded | None = None  # why somebody has to be asked
        self._down_since: float | None = None
        self._try_at = 0.0  # when that is tried again without
        super().__init__(self._start, patience, home=str(address), connect=self._take_over)

    def ask_again(self) -> None:
        """Somebody is at a terminal: if the connection is lost for want of that, they are asked."""
        if self._refused is not None and can_ask():
            self._may_ask = True
            self._patience.retry_at = 0.0
            self._waker.wake()

    def abandon(self) -> None:
        """The ssh is the parent's."""
        super().abandon()
        if self._ssh is not None:
            self._ssh.leave_to_parent()

    def _greeting(self) -> service.Attach:
        # No process there, and no `local`: that would be one of that host.
        return msgspec.structs.replace(super()._greeting(), local=b"", pid=0, started=0.0)

    # --- the connection's thread ----------------------------------------------------------------

    def _start(self) -> Address:
        """Start an ssh, and wait for the relay at its other end."""
        may_ask, self._may_ask = self._may_ask, False
        is_early = not may_ask and time.monotonic() < self._try_at
        if self._refused is not None and is_early and not has_master(self._place):
            raise self._refused
        ssh = Ssh(self._place, self.client_id.hex(), may_ask)
        mute_at = time.monotonic() + _MUTE_S

        def is_given_up() -> bool:
            if not may_ask and time.monotonic() >= mute_at:
                self._fail_overdue(ssh.unreachable(ssh.last_words() or "ssh has no answer yet"))
            return self._stopping

        try:
            ssh.open(is_given_up)
        except BaseException:
            ssh.kill()
            ssh.socket.close()
            ssh.end(_ENDING_S)
            raise
        self._ssh = ssh
        self._refused = self._down_since = None
        self._pause = _PAUSE_S
        return _Where(str(self._place))

    def _take_over(self, address: Address) -> MessageSocket:
        assert self._ssh is not None
        return PipedDealer(address.clients, self._ssh.socket, MAX_FRAME)

    def _missed(self, error: Exception) -> None:
        super()._missed(error)
        if self._stopping:
            return
        now = self._note_down()
        self._fail_overdue(error)
        if isinstance(error, AuthenticationNeeded):
            if error is not self._refused:
                first = self._refused is None
                self._pause = _ASKING_PAUSE_S if first else self._pause
                self._refused, self._try_at = error, now + self._pause
                self._pause = min(2 * self._pause, _ASKING_LAST_PAUSE_S)
                if first and self._first.is_set():
                    _warnings.warning(0.0, "%s", error)
            self._patience.retry_at = now + _MASTER_LOOK_S
            return
        if self._refused is None:
            self._patience.retry_at = now + self._pause
            self._pause = min(2 * self._pause, _LAST_PAUSE_S)
        if isinstance(error, errors.FuncXUnreachable) and self._first.is_set():
            _warnings.warning(_WARNING_S, "%s It is tried again; Ctrl-C ends the wait.", error)

    def _note_down(self) -> float:
        """There is no connection now; return the time."""
        now = time.monotonic()
        if self._down_since is None:
            self._down_since = now
        return now

    def _fail_overdue(self, error: Exception) -> None:
        """Nobody is to sit and wait for a day."""
        if self._down_since is None or time.monotonic() - self._down_since < _CALLS_S:
            return
        if not isinstance(error, errors.FxhpcError):
            error = errors.ForwarderUnreachable(str(self._place), str(error))
        with self._lock:
            awaited = [(n, reply) for n, (_, reply) in self._calls.items() if reply.is_awaited]
            for number, _ in awaited:
                del self._calls[number]
        for _, reply in awaited:
            self._complete(reply, error)

    def _lose_far(self, poller: Poller) -> None:
        why = self._ssh.last_words() if self._ssh is not None else ""
        self._lose(poller, why or "its ssh has ended")

    def _lose(self, poller: Poller, why: str) -> None:
        self._note_down()
        super()._lose(poller, why)

    def _shut(self, poller: Poller) -> None:
        if self.pid != os.getpid():
            return
        ssh, self._ssh = self._ssh, None
        if ssh is not None and not self._stopping:
            # First: a connection that is closed in order would say that this process has ended,
            # and with it what it has submitted.
            ssh.kill()
        super()._shut(poller)
        if ssh is not None:
            ssh.end(_ENDING_S)

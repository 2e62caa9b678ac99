"""The connection to a home's forwarder: one thread with one socket, which outlives forwarders.

When the forwarder dies or falls silent, another is found or started, greeted under a new session,
and told again what nobody has answered: every call has its effect once, however often it is made.
"""

from __future__ import annotations

import logging
import os
import random
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from fxhpc import errors
from fxhpc.client import processes
from fxhpc.client.connection import Connection
from fxhpc.client.open_files import is_exhausted, told
from fxhpc.client.sparing import SparingLog
from fxhpc.protocol import service
from fxhpc.protocol.codec import FROM_CLIENT, TO_CLIENT, DecodeError
from fxhpc.protocol.link import Link, Verdict
from fxhpc.protocol.messages import Bye, Heartbeat, Refuse, Reset
from fxhpc.transport.poller import Poller
from fxhpc.transport.unix_sockets import UnixDealer, dealer
from fxhpc.transport.waker import Waker
from fxhpc.units import format_duration

log = logging.getLogger(__name__)
_warnings = SparingLog(log)

_HEARTBEAT_S = 5.0
_SILENCE_S = 15.0  # without any message: the link is opened again
_GREETING_S = 10.0  # for the answer to a greeting
_GIVE_UP_S = 60.0  # without a forwarder: calls are failed
_ACKNOWLEDGE_S = 0.01  # that pushes may wait for company before they are acknowledged
_ACKNOWLEDGE_AT = 8  # pushes that are acknowledged without waiting
_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)  # between attempts to open the link
_STAYED_S = 1.0  # a forwarder that attached this client and lived for less counts as stillborn
_STILLBORN = 5  # such forwarders in a row until the next ones are waited for
_NEXT_S, _NEXT_LAST_S = 0.5, 5.0  # how long: doubling
_ENDING_MS = 200  # from the end of a process's connections to its own
_WARNING_S, _STILLBORN_WARNING_S = 10.0, 60.0


class Address(Protocol):
    """Where a forwarder is: see `fxhpc.forwarder.attach`."""

    @property
    def clients(self) -> str:
        """The address that clients connect to."""

    @property
    def pid(self) -> int:
        """The forwarder's process; 0 if it is on another host."""


class HomeConnection(Connection):
    """A connection that finds its forwarder by `locate`, as often as it has to.

    Args:
        locate: finds or starts the forwarder. Called in the connection's thread.
        patience: seconds without a forwarder until calls are failed.
        last_words: what forwarders logged last, for an error's text.
        home: which one it is, for an error's text.

    Raises:
        ForwarderUnreachable: there is no forwarder, and none can be started.
        VersionMismatch: the forwarder refuses this client.
    """

    def __init__(
        self,
        locate: Callable[[], Address],
        patience: float = _GIVE_UP_S,
        last_words: Callable[[], str] = str,
        home: str = "",
    ) -> None:
        super().__init__()
        self._locate = locate
        self._patience = patience
        self._last_words = last_words
        self._home = home
        self._stillborn = 0
        self._attached_at = 0.0
        self._outbox: deque[Any] = deque()
        self._waker = Waker()
        self._socket: UnixDealer | None = None
        self._link = Link(0)
        self._greeted = False  # Attached has come in this session
        self._unsent: list[bytes] | None = None  # stamped, and the socket was full
        self._delivered: list[int] = []  # pushes that are not acknowledged
        self._disturbed = False  # a call was interrupted while it was sent
        self._acknowledge_at = 0.0
        self._address = ""
        self._forwarder = 0  # its pid, if it is on this host
        self._dormant = False  # no forwarder, and nobody needs one for now
        self._pidfd = -1
        self._failures = 0
        self._down_since = time.monotonic()
        self._retry_at = 0.0
        self._heard = self._said = self._opened = 0.0
        self._stopping = False
        self._first = threading.Event()  # the first greeting was answered, or failed
        self._first_error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fxhpc-connection", daemon=True)
        self._thread.start()
        try:
            self._first.wait()
        except BaseException:  # Ctrl-C: nobody will ever close what is made here
            self.close(0.0)
            raise
        if self._first_error is not None:
            self.close(0.0)
            raise self._first_error

    # --- any thread -----------------------------------------------------------------------------

    def close(self, timeout: float = 1.0) -> None:
        """Send what waits and goodbye, then end the thread."""
        if self.pid != os.getpid():
            return
        with self._lock:
            if not self._stopping:
                self._stopping = True
                if self._closed is None:
                    self._outbox.append(Bye("closed"))
                    self._closed = errors.ForwarderError("the client was closed")
            self._waker.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def abandon(self) -> None:
        """The socket and the thread are the parent's."""
        super().abandon()
        processes.bury(self._socket, self._waker, self._thread)

    def _transmit(self, message: Any) -> None:
        # Most often it can be sent at once, which spares waking the connection's thread for it.
        try:
            if self._greeted and self._unsent is None and not self._outbox and not self._stopping:
                if self._delivered:
                    self._send_delivered()
                if self._unsent is None:
                    self._send(message)
                    return
            self._outbox.append(message)
            self._waker.wake()
        except BaseException:
            # Ctrl-C, or what else a signal's handler raises: nobody knows what of it was sent.
            self._disturbed = True
            self._waker.wake()
            raise

    def _send(self, message: Any) -> None:
        """Send, or keep it for when the socket takes it. The lock is held."""
        assert self._socket is not None
        frames = FROM_CLIENT.encode(self._link.stamp(message))
        if self._socket.send_message(frames):
            self._said = time.monotonic()
        else:
            self._unsent = frames  # it has its number, so it goes before all others
            self._waker.wake()

    def _send_delivered(self) -> None:
        """Acknowledge pushes: before what else is sent, it costs no wake-up of its own."""
        delivered, self._delivered = self._delivered, []
        self._send(service.Delivered(delivered))

    # --- the connection's thread ----------------------------------------------------------------

    def _run(self) -> None:
        poller = Poller()
        poller.register(self._waker.fileno())
        try:
            while not self._turn(poller):
                pass
        except BaseException as error:  # what calls wait for must never just stay away
            log.exception("the connection to the forwarder has failed")
            self._fail(
                errors.ForwarderError(
                    f"the connection has failed by a mistake in fxhpc: {error!r}. Make "
                    f"another client to go on, and please report this"
                ),
                for_good=True,
            )
        finally:
            self._shut(poller)
            self._fail(errors.ForwarderError("the client was closed"), for_good=True)
            self._waker.close()
            self._first.set()

    def _turn(self, poller: Poller) -> bool:
        """One round of the loop; True if it was the last."""
        now = time.monotonic()
        if self._socket is None and now >= self._retry_at and self._wants_link():
            self._open(poller)
            now = time.monotonic()
        if self._disturbed:
            self._begin_again(poller)
            return False
        blocked = not self._flush()
        if self._stopping and (self._socket is None or not self._greeted or not self._outbox):
            return True
        self._waker.arm()
        timeout = 0.0
        if (blocked or not self._outbox or not self._greeted) and not self._disturbed:
            timeout = self._next_deadline(now) - now
        if self._stopping or blocked:
            timeout = min(timeout, 0.01)
        ready = poller.poll(max(0.0, min(timeout, 5.0)))
        self._waker.clear()
        if self._pidfd in ready:
            # What it still had to say is read first: answers that are there need no second call.
            self._receive(poller)
            self._lose(poller, "its process has ended")
        elif self._socket is not None and self._socket in ready:
            self._receive(poller)
            if self._socket is not None and self._socket.ended:
                self._closed_by_forwarder(poller)
        self._check_time(poller)
        return False

    def _begin_again(self, poller: Poller) -> None:
        """Open the link anew: what was interrupted is sent whole, under a new session."""
        self._disturbed = False
        self._shut(poller)
        self._retry_at = 0.0

    def _closed_by_forwarder(self, poller: Poller) -> None:
        """The connection has ended. A process that ends closes it a moment before it is gone, and
        is not to be found alive when another is looked for.
        """
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(_ENDING_MS):
                self._lose(poller, "its process has ended")
                return
        if self._greeted:
            self._down_since = time.monotonic()
            self._failures = 0
        self._shut(poller)
        self._missed(
            ConnectionError(
                "it lives, and closes the connection: it may open no more files, perhaps"
            )
        )

    def _wants_link(self) -> bool:
        if self._dormant and (self._calls or self._sinks):
            self._dormant = False
            self._down_since = time.monotonic()
            self._failures = 0
        return not self._stopping and not self._dormant and self._closed is None

    def _open(self, poller: Poller) -> None:
        """Find the forwarder, connect and greet."""
        try:
            address = self._locate()
            self._address, self._forwarder = address.clients, address.pid
            try:
                self._socket = dealer(address.clients)
            except (ConnectionRefusedError, FileNotFoundError):
                self._lose(poller, "nobody accepts connections there")  # it has just ended
                return
        except Exception as error:
            self._missed(error)
            return
        poller.register(self._socket)
        if self._watch(address.pid, poller):
            self._greet()
        else:
            self._lose(poller, "its process has ended")

    def _greet(self) -> None:
        """Begin a session: the greeting, and behind it all that nobody has answered."""
        assert self._socket is not None
        with self._lock:
            self._link = Link(random.getrandbits(63))
            self._greeted = False
            self._unsent = None
            self._delivered.clear()  # their numbers were the last session's
            self._opened = self._heard = self._said = time.monotonic()
            self._socket.send_message(FROM_CLIENT.encode(self._link.stamp(self._greeting())))
            parting = [message for message in self._outbox if isinstance(message, Bye)]
            self._outbox.clear()
            self._outbox.extend(self._unanswered())
            self._outbox.extend(parting)

    def _watch(self, pid: int, poller: Poller) -> bool:
        """Have the process's end wake this thread; False if it has ended already."""
        if pid <= 0 or not hasattr(os, "pidfd_open"):
            return True
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        except OSError:
            return True  # the kernel lacks it: silence will tell
        poller.register(self._pidfd)
        return True

    def _shut(self, poller: Poller) -> None:
        if self.pid != os.getpid():
            return
        if self._pidfd >= 0:
            poller.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        with self._lock:
            socket, self._socket = self._socket, None
            self._greeted = False
        if socket is not None:
            poller.unregister(socket)
            socket.close(500 if self._stopping else 0)

    def _lose(self, poller: Poller, why: str) -> None:
        """The link is gone: open it again."""
        now = time.monotonic()
        stayed = self._greeted and now - self._attached_at >= _STAYED_S
        self._stillborn = 0 if stayed else self._stillborn + 1
        if self._stopping:
            self._outbox.clear()
        else:
            _warnings.warning(
                _WARNING_S if self._stillborn < _STILLBORN else _STILLBORN_WARNING_S,
                "the forwarder at %s is gone (%s); looking for another",
                self._address,
                why,
            )
        if stayed:
            self._down_since = now
            self._failures = 0
        self._shut(poller)
        self._retry_at = 0.0
        if self._stillborn >= _STILLBORN and not self._stopping:
            self._hold_back(now)

    def _hold_back(self, now: float) -> None:
        """Forwarders start and die at once: start fewer of them, and fail calls in the end."""
        doublings = min(self._stillborn - _STILLBORN, 10)
        self._retry_at = now + min(_NEXT_S * 2**doublings, _NEXT_LAST_S)
        if self._first.is_set() and now - self._down_since < self._patience:
            return
        self._give_up(
            errors.ForwarderUnreachable(
                self._home or self._address,
                f"{self._stillborn} in a row died as soon as they had started; "
                f"{self._last_words()}",
            )
        )

    def _missed(self, error: Exception) -> None:
        """An attempt to open the link has failed."""
        now = time.monotonic()
        self._retry_at = now + _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
        self._failures += 1
        down = now - self._down_since
        # What is wrong with the home (permissions, a newer store) does not mend itself. That no
        # forwarder starts may, and a lack of descriptors, but at the first attempt somebody sits
        # and waits for the reason.
        if isinstance(error, errors.FuncXUnreachable) or is_exhausted(error):
            may_mend = self._first.is_set()
        else:
            may_mend = not isinstance(error, errors.FxhpcError)
        if down < self._patience and may_mend:
            return
        if not isinstance(error, errors.FxhpcError) or is_exhausted(error):
            error = errors.ForwarderUnreachable(
                self._home or self._address, f"{told(error)} (tried for {format_duration(down)})"
            )
        self._give_up(error)

    def _give_up(self, error: errors.FxhpcError) -> None:
        """Fail what waits; the next call tries again."""
        self._first_error = error if not self._first.is_set() else None
        self._first.set()
        self._fail(error, for_good=False)
        self._dormant = True

    def _flush(self) -> bool:
        """Send what waits; False if the socket takes no more for now."""
        with self._lock:
            if self._unsent is not None and self._socket is not None:
                if not self._socket.send_message(self._unsent):
                    return False
                self._unsent = None
            while self._greeted and self._unsent is None:
                if self._delivered and self._should_acknowledge():
                    self._send_delivered()
                elif self._outbox:
                    self._send(self._outbox.popleft())
                else:
                    break
            return self._unsent is None

    def _acknowledge(self, push: int) -> None:
        with self._lock:
            if not self._delivered:
                self._acknowledge_at = time.monotonic() + _ACKNOWLEDGE_S
            self._delivered.append(push)

    def _should_acknowledge(self) -> bool:
        return (
            bool(self._outbox)
            or len(self._delivered) >= _ACKNOWLEDGE_AT
            or time.monotonic() >= self._acknowledge_at
        )

    def _receive(self, poller: Poller) -> None:
        for _ in range(100):  # then look at the rest of the world
            if self._socket is None:
                return
            frames = self._socket.receive_message()
            if frames is None:
                return
            try:
                envelope = TO_CLIENT.decode(frames)
            except DecodeError as error:
                log.warning("ignored from the forwarder: %s", error)
                continue
            if isinstance(envelope.message, Reset):
                if envelope.session == self._link.session:
                    self._greet()
                continue
            verdict = self._link.check(envelope)
            if verdict is Verdict.BROKEN:
                self._greet()
            if verdict is not Verdict.DELIVER:
                continue
            self._heard = time.monotonic()
            self._take(envelope.message, poller)

    def _take(self, message: Any, poller: Poller) -> None:
        if isinstance(message, Heartbeat):
            return
        if isinstance(message, Bye):
            self._lose(poller, message.reason or "it said goodbye")
            self._stillborn = 0
            self._dormant = True  # whoever ended it does not want it back before it is needed
            return
        if isinstance(message, Refuse):
            self._first_error = errors.VersionMismatch(message.reason)
            self._stopping = True
        elif isinstance(message, service.Attached):
            self._greeted = True
            self._attached_at = time.monotonic()
            self._failures = 0
        self._dispatch(message)
        if isinstance(message, service.Attached | Refuse):
            self._first.set()

    def _next_deadline(self, now: float) -> float:
        if self._socket is None:
            return self._retry_at if self._wants_link() else now + _HEARTBEAT_S
        if not self._greeted:
            return self._opened + _GREETING_S
        deadline = min(self._said + _HEARTBEAT_S, self._heard + _SILENCE_S)
        return min(deadline, self._acknowledge_at) if self._delivered else deadline

    def _check_time(self, poller: Poller) -> None:
        if self._socket is None:
            return
        now = time.monotonic()
        if not self._greeted:
            if now - self._opened >= _GREETING_S:
                self._shut(poller)
                self._missed(TimeoutError(self._unanswering()))
        elif now - self._heard >= _SILENCE_S:
            self._lose(poller, f"silent for {format_duration(now - self._heard)}")
        elif now - self._said >= _HEARTBEAT_S:
            with self._lock:
                self._outbox.append(Heartbeat())

    def _unanswering(self) -> str:
        if not self._forwarder:
            return "it does not answer a greeting"
        return (
            f"its process {self._forwarder} is alive, and does not answer a greeting: if it was "
            f"stopped, `kill -CONT {self._forwarder}` lets it go on; if it hangs, `kill -9` has "
            f"another take its place, and nothing is lost"
        )

"""The connection to a home's forwarder: one thread with one socket, which outlives forwarders.

When the forwarder dies or falls silent, another is found or started, greeted under a new session,
and told again what nobody has answered: every call has its effect once, however often it is made.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from fxhpc import errors, interrupts
from fxhpc.client.connection import dialing
from fxhpc.client.connection.dialing import Address
from fxhpc.client.connection.home_sending import Sending
from fxhpc.client.connection.open_files import is_exhausted, told
from fxhpc.client.connection.patience import Patience
from fxhpc.client.shown.sparing import SparingLog
from fxhpc.client.started import processes
from fxhpc.hosts import Watch
from fxhpc.protocol import service
from fxhpc.protocol.codec import TO_CLIENT, DecodeError
from fxhpc.protocol.link import Link, Verdict
from fxhpc.protocol.messages import Bye, Heartbeat, Refuse, Reset
from fxhpc.shadowed import to_blame
from fxhpc.transport import parts
from fxhpc.transport.poller import Poller
from fxhpc.transport.sockets import NOT_ADMITTED, MessageSocket
from fxhpc.transport.unix_sockets import dealer
from fxhpc.units import format_duration

log = logging.getLogger(__name__)
_warnings = SparingLog(log)

_HEARTBEAT_S = 5.0
_SILENCE_S = 15.0  # without any message: the link is opened again
_GREETING_S = 10.0  # for the answer to a greeting
_GIVE_UP_S = 60.0  # without a forwarder: calls are failed
_ENDING_MS = 200  # from the end of a process's connections to its own


def _connect(address: Address) -> MessageSocket:
    return dealer(address.clients)


class HomeConnection(Sending):
    """A connection that finds its forwarder by `locate`, as often as it has to.

    Args:
        locate: finds or starts the forwarder. Called in the connection's thread.
        patience: seconds without a forwarder until calls are failed.
        last_words: what forwarders logged last, for an error's text.
        home: which one it is, for an error's text.
        connect: connects to what was located; called in the connection's thread, too.

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
        connect: Callable[[Address], MessageSocket] = _connect,
    ) -> None:
        super().__init__()
        self._locate = locate
        self._connect = connect
        self._patience = Patience(patience, time.monotonic())
        self._last_words = last_words
        self._home = home
        self._address = ""
        self._forwarder = 0  # its pid, if it is on this host
        self._assembly = parts.Assembly()
        self._seen = ("", 0)  # which home, and the epoch of its forwarder
        self._dormant = False  # no forwarder, and nobody needs one for now
        self._process: Watch | None = None  # that is on this host
        self._heard = self._opened = 0.0
        self._first = threading.Event()  # the first greeting was answered, or failed
        self._first_error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fxhpc-connection", daemon=True)
        self._thread.start()
        try:
            while not self._first.wait(interrupts.LOOK_S):
                pass
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

    # --- the connection's thread ----------------------------------------------------------------

    def _run(self) -> None:
        poller = Poller()
        poller.register(self._waker.fileno())
        try:
            while not self._turn(poller):
                pass
        except BaseException as error:  # what calls wait for must never just stay away
            log.exception("the connection to the forwarder has failed")
            why = to_blame(error, "make another client to go on, and please report it")
            failure = errors.ForwarderError(f"the connection has failed: {why}")
            if not self._first.is_set():
                self._first_error = failure
            self._fail(failure, for_good=True)
        finally:
            self._shut(poller)
            self._fail(errors.ForwarderError("the client was closed"), for_good=True)
            self._waker.close()
            self._first.set()

    def _turn(self, poller: Poller) -> bool:
        """One round of the loop; True if it was the last."""
        now = time.monotonic()
        if self._socket is None and now >= self._patience.retry_at and self._wants_link():
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
        self._waker.clear(self._waker.fileno() in ready)
        if self._process is not None and self._process.fd in ready:
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
        self._patience.retry_at = 0.0

    def _closed_by_forwarder(self, poller: Poller) -> None:
        """The connection has ended. A process that ends closes it a moment before it is gone, and
        is not to be found alive when another is looked for.
        """
        if self._process is not None and self._process.has_signalled(_ENDING_MS):
            self._lose(poller, "its process has ended")
            return
        if self._socket is not None and self._socket.crosses_hosts:
            self._lose_far(poller)
            return
        if self._greeted:
            self._patience.begin(time.monotonic())
        self._shut(poller)
        self._missed(
            ConnectionError(
                "it lives, and closes the connection: it may open no more files, perhaps"
            )
        )

    def _lose_far(self, poller: Poller) -> None:
        """The connection to another host has ended: its forwarder has, or the network is down."""
        assert self._socket is not None
        why: str = getattr(self._socket, "refused", "")  # sockets of one kind tell
        if self._greeted or not why:
            self._lose(poller, "the connection was closed")
            return
        self._shut(poller)
        text = dialing.not_let_in(self._address, why)
        error = errors.ForwarderUnreachable(self._home or self._address, text)
        if why == NOT_ADMITTED:
            self._give_up(error)  # that does not mend itself
        else:
            self._missed(error)

    def _wants_link(self) -> bool:
        if self._dormant and (self._calls or self._sinks):
            self._dormant = False
            self._patience.begin(time.monotonic())
        return not self._stopping and not self._dormant and self._closed is None

    def _open(self, poller: Poller) -> None:
        """Find the forwarder, connect and greet."""
        try:
            address = self._locate()
            self._address, self._forwarder = address.clients, address.pid
            try:
                self._socket = self._connect(address)
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
            self._socket.send_message(TO_CLIENT.encode(self._link.stamp(self._greeting())))
            parting = [message for message in self._outbox if isinstance(message, Bye)]
            self._outbox.clear()
            self._outbox.extend(self._unanswered())
            self._outbox.extend(parting)

    def _watch(self, pid: int, poller: Poller) -> bool:
        """Have the process's end wake this thread; False if it has ended already."""
        if pid <= 0:
            return True
        process = Watch(pid, 0.0)
        if process.fd < 0:
            return not process.is_over()  # later ends are told by silence
        self._process = process
        poller.register(process.fd)
        return True

    def _shut(self, poller: Poller) -> None:
        if self.pid != os.getpid():
            return
        process, self._process = self._process, None
        if process is not None:
            poller.unregister(process.fd)
            process.close()
        with self._lock:
            socket, self._socket = self._socket, None
            self._greeted = False
        if socket is not None:
            poller.unregister(socket)
            socket.close(500 if self._stopping else 0)

    def _lose(self, poller: Poller, why: str) -> None:
        """The link is gone: open it again."""
        now, patience = time.monotonic(), self._patience
        patience.lost(now, self._greeted)
        if self._stopping:
            self._outbox.clear()
        else:
            _warnings.warning(
                patience.warning_s,
                "the forwarder at %s is gone (%s); looking for another"
                if self._forwarder
                else "the connection to %s is lost (%s); connecting again",
                self._address,
                why,
            )
        self._shut(poller)
        if patience.none_stays and not self._stopping:
            if self._first.is_set() and not patience.is_over(now):
                return
            self._give_up(
                errors.ForwarderUnreachable(
                    self._home or self._address,
                    f"{patience.stillborn} in a row died as soon as they had started; "
                    f"{self._last_words()}",
                )
            )

    def _missed(self, error: Exception) -> None:
        """An attempt to open the link has failed."""
        now = time.monotonic()
        down = self._patience.missed(now)
        # What is wrong with the home (permissions, a newer store) does not mend itself. That no
        # forwarder starts may, and a lack of descriptors, but at the first attempt somebody sits
        # and waits for the reason.
        if isinstance(error, errors.FuncXUnreachable) or is_exhausted(error):
            may_mend = self._first.is_set()
        else:
            may_mend = not isinstance(error, errors.FxhpcError)
        if may_mend and not self._patience.is_over(now):
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

    def _receive(self, poller: Poller) -> None:
        for _ in range(100):  # then look at the rest of the world
            if self._socket is None:
                return
            frames = self._socket.receive_message()
            if frames is None:
                return
            if self._socket.crosses_hosts:
                self._heard = time.monotonic()
                if parts.is_part(frames) and (frames := self._assembly.add(frames)) is None:
                    continue
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
            self._patience.stillborn = 0
            self._dormant = True  # whoever ended it does not want it back before it is needed
            return
        if isinstance(message, Refuse):
            self._first_error = errors.VersionMismatch(message.reason)
            self._stopping = True
        elif isinstance(message, service.Attached):
            if self._is_outdated(message):
                self._lose(poller, "another one owns the home since, and has answered")
                return
            self._greeted = True
            self._patience.attached(time.monotonic())
        self._dispatch(message)
        if isinstance(message, service.Attached | Refuse):
            self._first.set()

    def _is_outdated(self, attached: service.Attached) -> bool:
        """Whether a forwarder answers that had the home before the one that answered last."""
        before, self._seen = self._seen, (attached.home, attached.epoch)
        if before[0] != attached.home or attached.epoch >= before[1]:
            return False
        self._seen = before
        return True

    def _next_deadline(self, now: float) -> float:
        if self._socket is None:
            return self._patience.retry_at if self._wants_link() else now + _HEARTBEAT_S
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
                text = dialing.unanswering(self._address, self._forwarder, self._home)
                self._missed(TimeoutError(text))
        elif now - self._heard >= _SILENCE_S:
            self._lose(poller, f"silent for {format_duration(now - self._heard)}")
        elif now - self._said >= _HEARTBEAT_S:
            with self._lock:
                self._outbox.append(Heartbeat())

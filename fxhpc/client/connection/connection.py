"""A client's connection to a forwarder: calls and their answers, and what comes unasked.

Two kinds carry it: `home` (a forwarder in a process of its own) and `embedded` (in a thread of
this one). Calls may be made from any thread, and are sent in the order in which they were made;
answers and pushes are handled by the connection's one thread, which never waits for a user.
"""

from __future__ import annotations

import abc
import getpass
import itertools
import logging
import os
import platform
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from fxhpc import errors, hosts, interrupts
from fxhpc.client.sending.sendable import check_call
from fxhpc.client.sending.sizes import KnownLimits
from fxhpc.client.started import processes
from fxhpc.ids import from_ranges
from fxhpc.protocol import service
from fxhpc.protocol.messages import Refuse, ResultRun, Started
from fxhpc.version import __version__

try:  # here, and not in the connection's thread: a fork meanwhile would leave the import half done
    import pwd
except ImportError:
    pwd = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

_NESTED = (
    "a signal's handler made this call while the call that it interrupted was being sent, and they "
    "cannot wait for each other: have the handler set a flag, or start a thread, and make the call "
    "there"
)

_ANSWERS = (
    service.Done
    | service.Failed
    | service.States
    | service.Cancelled
    | service.Functions
    | service.Containers
    | service.EndpointStatus
    | service.TaskList
    | service.GroupState
    | service.StoreUsage
    | service.Purged
)


class Sink(Protocol):
    """Whoever wants the results of a stream that are pushed."""

    def take_results(self, run: ResultRun) -> None:
        """Tasks of this stream have ended. Called by the connection's thread; must not wait."""

    def take_started(self, indices: list[int]) -> None:
        """Tasks of this stream run now."""

    def take_loss(self, error: BaseException, stored_only: bool = False) -> None:
        """Nobody knows these tasks any more; `stored_only`: those that had been stored."""


class Reply:
    """What a call will be answered: for one thread that waits, or a function that takes it."""

    __slots__ = ("_lock", "_then", "answer")

    def __init__(self, then: Callable[[Any], None] | None = None) -> None:
        self.answer: Any = None
        self._then = then
        self._lock = threading.Lock()
        self._lock.acquire()

    @property
    def is_awaited(self) -> bool:
        """Whether a thread waits for it, and no function takes it."""
        return self._then is None

    def complete(self, answer: Any) -> None:
        """Hand over the answer, or the error that stands for it."""
        self.answer = answer
        self._lock.release()
        if self._then is not None:
            self._then(answer)

    def wait(self, timeout: float | None = None) -> Any:
        """The answer. Ctrl-C ends the wait at once.

        Raises:
            TimeoutError: it has not come within so many seconds.
            FxhpcError: the forwarder refused the call, or cannot be reached.
        """
        if not interrupts.acquire(self._lock, timeout):
            raise TimeoutError
        self._lock.release()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Connection(abc.ABC):
    """Calls to one forwarder, and the streams that it pushes results of."""

    exit_rank = 2

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.client_id = os.urandom(16)
        self.local_id = os.urandom(16)
        self.attached: service.Attached | None = None
        # Shared arguments that this forwarder was sent and told to keep, and their bytes.
        self.bodies: OrderedDict[bytes, int] = OrderedDict()
        self.limits = KnownLimits()
        self.on_need_local: Callable[[], object] = _ignore
        self.on_attached: Callable[[service.Attached], None] = _ignore
        self._numbers = itertools.count(1)
        self._calls: dict[int, tuple[Any, Reply]] = {}
        self._sinks: dict[bytes, Sink] = {}
        self._lock: Any = threading.RLock()  # a handler's call may come while its thread has it
        self._closed: BaseException | None = None
        processes.add_resident(self)

    # --- for the rest of the client -------------------------------------------------------------

    def call(self, message: Any, then: Callable[[Any], None] | None = None) -> Reply:
        """Make a call; never waits. `then` takes the answer or an error, and must not wait.

        Raises:
            UsageError: it holds what cannot be sent, or a signal's handler makes it in the midst
                of another one.
        """
        is_nested = self._lock._is_owned()
        if is_nested and then is None:
            # Answers are handled under the lock, which the call has that was interrupted.
            raise errors.UsageError(_NESTED)
        return self._call(message, Reply(then), is_nested)

    def _call(self, message: Any, reply: Reply, is_nested: bool) -> Reply:
        """Make a call.

        Args:
            is_nested: a signal's handler makes it while this thread is sending something else.
        """
        check_call(message)
        with self._lock:
            if self._closed is None:
                message.call = next(self._numbers)
                self._calls[message.call] = message, reply
                (self._transmit_later if is_nested else self._transmit)(message)
                return reply
            error = self._closed
        reply.complete(error)
        return reply

    def ask(self, message: Any, timeout: float | None = None) -> Any:
        """Make a call and wait for its answer.

        Raises:
            TimeoutError: there is none within so many seconds; the call stays made.
            FxhpcError: the forwarder refused the call, or cannot be reached.
        """
        return self.call(message).wait(timeout)

    def post(self, message: Any) -> None:
        """Send a message that has no answer, or whose answer nobody wants; never waits."""
        is_nested = self._lock._is_owned()
        if hasattr(message, "call"):
            self._call(message, Reply(), is_nested)
            return
        with self._lock:
            if self._closed is None:
                (self._transmit_later if is_nested else self._transmit)(message)

    def add_sink(self, stream: bytes, sink: Sink) -> None:
        """Let a sink take what is pushed for this stream."""
        self._sinks[stream] = sink

    def remove_sink(self, stream: bytes) -> None:
        """Nobody wants this stream's results any more."""
        self._sinks.pop(stream, None)

    def ask_again(self) -> None:
        """Another client wants this connection: if it needs somebody at a terminal, now is the
        time. Most need nobody.
        """
        return

    @abc.abstractmethod
    def close(self, timeout: float = 1.0) -> None:
        """Say goodbye, and wait for what was sent to be taken, for at most so many seconds."""

    def leave(self, deadline: float) -> None:
        """The interpreter ends."""
        if self.pid == os.getpid():
            self.close(max(0.0, deadline - time.monotonic()))

    def abandon(self) -> None:
        """This is a forked child: the connection is the parent's."""
        self._lock = threading.RLock()
        self._closed = errors.ForwarderError(
            "this connection belongs to the parent process; a forked child makes its own"
        )
        self._sinks = {}
        self._calls = {}

    @property
    def usable(self) -> bool:
        """Whether calls can be made here: it is open, and of this process."""
        return self._closed is None

    # --- for the two kinds ----------------------------------------------------------------------

    def _transmit_later(self, message: Any) -> None:
        """Send, after what this thread is just sending. The lock is held."""
        self._transmit(message)

    @abc.abstractmethod
    def _transmit(self, message: Any) -> None:
        """Send, without waiting. The lock is held, so that the order is that of the calls."""

    def _greeting(self) -> service.Attach:
        return service.Attach(
            client=self.client_id,
            local=self.local_id,
            pid=self.pid,
            host=socket.gethostname(),
            started=hosts.start_time(os.getpid()),
            version=__version__,
            user=author(),
            python=platform.python_version(),
            streams=list(self._sinks),
        )

    def _dispatch(self, message: Any) -> None:
        """Handle one message of the forwarder, in the connection's thread."""
        if isinstance(message, _ANSWERS):
            with self._lock:
                _, reply = self._calls.pop(message.call, (None, None))
            if reply is not None:
                self._complete(reply, message)
        elif isinstance(message, service.Push):
            for run in message.runs:
                sink = self._sinks.get(run.stream)
                if sink is not None:
                    sink.take_results(run)
            self._acknowledge(message.number)
        elif isinstance(message, Started):
            for refs in message.tasks:
                sink = self._sinks.get(refs.stream)
                if sink is not None:
                    sink.take_started(from_ranges(refs.ranges))
        elif isinstance(message, service.Forgotten):
            error = errors.TaskLost(
                "the forwarder of its home, which keeps tasks, was started again and does not have "
                "it in its store: that was removed, or set aside as damaged (forwarder.log)",
                advice="see that the home is whole, and submit the task again.",
            )
            for stream in message.streams:
                sink = self._sinks.get(stream)
                if sink is not None:
                    sink.take_loss(error, stored_only=True)
        elif isinstance(message, service.NeedLocal):
            self.on_need_local()
        elif isinstance(message, service.Limits):
            self.limits.tell(message.limits)
        elif isinstance(message, service.Notice):
            print(f"fxhpc: {message.text}", file=sys.stderr)
        elif isinstance(message, service.Attached):
            self.attached = message
            self.limits.tell(message.limits)
            self.bodies.clear()
            self.on_attached(message)
        elif isinstance(message, Refuse):
            self._fail(errors.VersionMismatch(message.reason), for_good=True)

    def _acknowledge(self, push: int) -> None:
        """A push has been handled."""
        self.post(service.Delivered([push]))

    def _complete(self, reply: Reply, answer: Any) -> None:
        if isinstance(answer, service.Failed):
            answer = errors.error_named(answer.error, answer.arguments)
        try:
            reply.complete(answer)
        except Exception:
            log.exception("handling the answer to a call failed")

    def _fail(self, error: BaseException, *, for_good: bool) -> None:
        """End every call and every stream by this error; for good: refuse later calls too."""
        with self._lock:
            if for_good and self._closed is None:
                self._closed = error
            calls, self._calls = list(self._calls.values()), {}
            sinks = list(self._sinks.values())
        for _, reply in calls:
            self._complete(reply, error)
        for sink in sinks:
            sink.take_loss(error)

    def _unanswered(self) -> list[Any]:
        """The calls without an answer, in order. The lock is held."""
        return [message for message, _ in self._calls.values()]


def author() -> str:
    """The name of this user as people know it, else the one that they log in with."""
    try:
        entry = pwd.getpwuid(os.getuid())
        name = entry.pw_gecos.split(",")[0] or entry.pw_name
        return name.encode(errors="replace").decode()  # it may be in any encoding
    except (AttributeError, KeyError):
        pass
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def _ignore(*_: Any) -> None:
    """Nobody listens yet."""

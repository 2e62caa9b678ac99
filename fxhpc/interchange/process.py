"""A named endpoint's interchange as a process of its own: its sockets, its journal, its spool."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import resource
import signal
import sys
import time

import msgspec
import psutil
import zmq
from setproctitle import setproctitle

from fxhpc.errors import FxhpcError
from fxhpc.interchange import events as ev
from fxhpc.interchange.core import Interchange
from fxhpc.interchange.directory import EndpointDirectory, InterchangeAddress
from fxhpc.interchange.journal import Journal, read_journal
from fxhpc.interchange.spool import Spool
from fxhpc.protocol import codec
from fxhpc.protocol import messages as msg
from fxhpc.protocol.provision import InterchangeSpec
from fxhpc.transport import ipc, sockets
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.authenticator import Authenticator
from fxhpc.transport.directories import OwnedDirectory
from fxhpc.transport.keys import slow_curve_warning
from fxhpc.transport.monitor import Monitor
from fxhpc.version import __version__

#: Seconds between two ticks, and without a word of the forwarder until it counts as away.
TICK_S = 0.5
FORWARDER_SILENCE_S = 15.0

#: Seconds that a manager whose connection was closed may take to connect again. A process that was
#: killed closes it too, and does not come back.
COME_BACK_S = 1.0

#: Seconds in which it shows which connection it was that ended, and between two looks.
_PROBE_S, _PROBE_EVERY_S = 0.5, 0.05

_DOMAIN = "managers"

log = logging.getLogger("fxhpc.interchange")


def main(arguments: list[str]) -> int:
    """Run the interchange of an endpoint.

    Args:
        arguments: the endpoint's directory; a descriptor where it says "ready", or why it cannot
            start. An `InterchangeSpec` comes on standard input.
    """
    report = int(arguments[1])
    spec = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=InterchangeSpec)
    directory = EndpointDirectory(arguments[0], spec.state_dir)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold keys
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s", level="INFO")
    try:
        process = InterchangeProcess(directory, spec)
    except (FxhpcError, OSError, zmq.ZMQError, ValueError) as error:
        log.error("cannot start: %s", error)
        _report(report, str(error))
        return 1
    _report(report, "ready")
    try:
        process.run()
    finally:
        process.close()
    return 0


class InterchangeProcess:
    """One endpoint's interchange: from the lock on its directory to the signal that ends it."""

    def __init__(self, directory: EndpointDirectory, spec: InterchangeSpec) -> None:
        record = directory.read_record()
        if record is None:
            raise FxhpcError(f"there is no endpoint in {directory.path}")
        setproctitle(f"fxhpc: interchange {record.name}")
        self._directory = directory
        self._stopping = False
        self._lock = self._take_lock(record.name)
        if warning := slow_curve_warning():
            log.warning("%s", warning)
        keys = directory.keys("endpoint")
        context = sockets.make_context()
        self._authenticator = Authenticator(context)
        self._authenticator.allow(_DOMAIN, {directory.keys("manager").public: "manager"})
        self._sockets = OwnedDirectory()
        forwarder = ipc.ipc_address(self._sockets.path, "forwarder")
        managers = sockets.router(context, spec.bind, curve=sockets.CurveServer(keys, _DOMAIN))
        self._managers = Acceptor(managers, codec.FROM_MANAGER, msg.Register)
        self._monitor = Monitor(managers)
        self._probe_until = 0.0
        self._closed: dict[bytes, float] = {}  # connections that ended, and until when to wait
        self._forwarders = Acceptor(
            sockets.router(context, forwarder), codec.TO_INTERCHANGE, msg.Hello
        )
        self._forwarder: bytes | None = None
        self._forwarder_epoch = 0
        self._heard = 0.0
        epoch = directory.raise_epoch()
        self._core = Interchange(record.endpoint, epoch)
        self._spool = Spool(str(directory.spool))
        _, recovered = read_journal(str(directory.journal))
        self._journal = Journal(str(directory.journal), managers=recovered.managers)
        recovered = ev.Recovered(
            recovered.managers, recovered.sent, self._spool.found, recovered.incomplete
        )
        self._handle(recovered)
        directory.write_address(
            InterchangeAddress(
                platform.node(),
                "",
                os.getpid(),
                psutil.Process().create_time(),
                forwarder,
                sockets.bound_address(managers),
                keys.public.decode(),
                epoch,
                __version__,
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        log.info("started: fxhpc %s, endpoint %s, epoch %d", __version__, record.name, epoch)
        log.info("listens at %s for managers", sockets.bound_address(managers))

    def run(self) -> None:
        """Serve until told to stop."""
        poller = zmq.Poller()
        for socket in (
            self._managers.socket,
            self._forwarders.socket,
            self._authenticator.socket,
            self._monitor.socket,
        ):
            poller.register(socket, zmq.POLLIN)
        next_tick = time.monotonic()
        while not self._stopping:
            poller.poll(int(max(0.0, next_tick - time.monotonic()) * 1000))
            self._authenticator.handle()
            for peer, manager_said in self._managers.receive():
                self._handle(ev.ManagerSaid(peer, manager_said))
            for peer, forwarder_said in self._forwarders.receive():
                self._hear_forwarder(peer, forwarder_said)
            self._look_after_connections()
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_S
                self._tick()
            if self._closed or time.monotonic() < self._probe_until:
                next_tick = min(next_tick, time.monotonic() + _PROBE_EVERY_S)

    def close(self) -> None:
        """End: managers go on with what they have, and wait for the next interchange."""
        if self._forwarder is not None:
            self._forwarders.send(self._forwarder, msg.Bye("the interchange ends"))
        self._directory.address.unlink(missing_ok=True)
        self._monitor.close()
        self._managers.close()
        self._forwarders.close()
        self._authenticator.close()
        self._journal.close()
        self._spool.close()
        self._sockets.remove()
        os.close(self._lock)
        log.info("ended")

    def _take_lock(self, name: str) -> int:
        lock = os.open(self._directory.lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            found = self._directory.read_address()
            where = f" on host {found.host}, pid {found.pid}" if found else ""
            raise FxhpcError(f"endpoint {name!r} runs already{where}") from None
        return lock

    def _hear_forwarder(self, peer: bytes, message: msg.ToInterchange) -> None:
        if isinstance(message, msg.Hello):
            if message.epoch < self._forwarder_epoch:
                reason = (
                    f"a forwarder of epoch {self._forwarder_epoch} was here; this one, of epoch "
                    f"{message.epoch}, does not own the home's store any more"
                )
                self._forwarders.send(peer, msg.Refuse(reason))
                return
            if message.oldest_protocol > msg.PROTOCOL or message.protocol < msg.OLDEST_PROTOCOL:
                reason = (
                    f"the forwarder is fxhpc {message.version} (protocol {message.protocol}), "
                    f"this interchange is fxhpc {__version__} (protocol {msg.PROTOCOL})"
                )
                self._forwarders.send(peer, msg.Refuse(reason))
                return
            if self._forwarder is not None and self._forwarder != peer:
                self._forwarders.forget(self._forwarder)
            self._forwarder, self._forwarder_epoch = peer, message.epoch
        elif peer != self._forwarder:
            self._forwarders.send(peer, msg.Reset())
            self._forwarders.forget(peer)
            return
        self._heard = time.monotonic()
        if isinstance(message, msg.Heartbeat):
            self._forwarders.send(peer, msg.Heartbeat())
        elif isinstance(message, msg.Bye):
            self._lose_forwarder()
        else:
            self._handle(ev.ForwarderSaid(message))

    def _look_after_connections(self) -> None:
        """A manager's connection has ended: find out whose, and wait a moment for it."""
        now = time.monotonic()
        if self._monitor.look().ended:
            self._probe_until = now + _PROBE_S
        if now < self._probe_until:
            for peer in self._managers.peers():
                if peer not in self._closed and not self._managers.send(peer, msg.Heartbeat()):
                    self._closed[peer] = now + COME_BACK_S
        for peer in [peer for peer, until in self._closed.items() if now >= until]:
            del self._closed[peer]
            self._managers.forget(peer)
            # No effect if it has registered under a new connection meanwhile.
            self._handle(ev.ManagerGone(peer, "its connection was closed"))

    def _lose_forwarder(self) -> None:
        if self._forwarder is None:
            return
        self._forwarders.forget(self._forwarder)
        self._forwarder = None
        self._handle(ev.ForwarderGone())

    def _tick(self) -> None:
        if time.monotonic() - self._heard > FORWARDER_SILENCE_S:
            self._lose_forwarder()
        self._handle(ev.Tick())
        self._journal.retry()
        if self._core.is_idle:
            self._journal.compact()

    def _handle(self, event: ev.Event) -> None:
        for action in self._core.handle(event, time.monotonic()):
            if isinstance(action, ev.ToManager):
                self._managers.send(action.peer, action.message)
            elif isinstance(action, ev.ToForwarder):
                if self._forwarder is None or not self._forwarders.send(
                    self._forwarder, action.message
                ):
                    self._lose_forwarder()
            elif isinstance(action, ev.CloseManager):
                self._managers.forget(action.peer)
            elif isinstance(action, ev.Spool):
                self._handle(ev.Spooled(self._spool.add(action.batch)))
            elif isinstance(action, ev.ReadSpool):
                self._handle(ev.Unspooled(list(self._spool.read(set(action.numbers)))))
            elif isinstance(action, ev.ClearSpool):
                self._spool.clear()
            else:
                self._journal.write(action)

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True


def _report(descriptor: int, text: str) -> None:
    try:
        os.write(descriptor, text.encode())
        os.close(descriptor)
    except OSError:
        pass  # whoever started this process does not wait any more

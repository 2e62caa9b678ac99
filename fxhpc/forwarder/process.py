"""A home's forwarder as a process of its own: starting, recovering, leaving when nobody is left."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import signal
import time
from pathlib import Path

from setproctitle import setproctitle

from fxhpc.errors import ForwarderError, FxhpcError
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.clients import HomeClients
from fxhpc.forwarder.core import Forwarder
from fxhpc.forwarder.filesystems import network_type
from fxhpc.forwarder.home import ForwarderAddress, Home
from fxhpc.forwarder.limits import WatchedLimits
from fxhpc.forwarder.locals import LocalHost
from fxhpc.forwarder.loop import Loop
from fxhpc.forwarder.open_files import allow_open_files
from fxhpc.forwarder.remotes import RemoteInterchanges
from fxhpc.forwarder.spilled import SpilledFiles, spill_directories
from fxhpc.forwarder.store import Store
from fxhpc.forwarder.writer import Writer
from fxhpc.hosts import boot_id, is_alive, start_time
from fxhpc.interchange.journal import Owner, read_journal
from fxhpc.printable import make_logs_safe
from fxhpc.protocol import codec, messages, service
from fxhpc.transport import ipc, unix_sockets
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.directories import OwnedDirectory
from fxhpc.transport.waker import Waker
from fxhpc.version import __version__

#: Seconds that a forwarder stays after its last client has gone; the environment may say otherwise.
GRACE_S = 60.0
GRACE_VARIABLE = "FXHPC_FORWARDER_GRACE"

#: Seconds that clients of a forwarder that was killed may take to come back. A process may live on
#: without: it was just closing its client.
_RETURN_S = 10.0

#: Seconds between two looks whether the home is still there.
_LOOK_S = 1.0

#: Seconds that a task which was submitted alone, soon after another one, waits for company.
_COMPANY_S = 0.003

#: Seconds that a journal is kept which a full disk has left without its owner.
_KEPT_S = 24 * 3600.0

log = logging.getLogger("fxhpc.forwarder")


def main(arguments: list[str]) -> int:
    """Run the forwarder of the home that the first argument names."""
    home, report = Home(arguments[0]), int(arguments[1])
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold users' data
    allow_open_files()
    setproctitle("fxhpc: forwarder")
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s", level="INFO")
    make_logs_safe()
    try:
        lock = home.take_lock()
        if lock is None:
            _report(report, "busy")
            return 0
        process = ForwarderProcess(home, lock, _grace())
    except (FxhpcError, OSError) as error:
        log.error("cannot start: %s", error)
        _report(report, str(error))
        return 1
    _report(report, "ready")
    try:
        process.run()
    finally:
        process.close()
    return 0


class ForwarderProcess:
    """The forwarder of a home, from the lock to the last client."""

    def __init__(self, home: Home, lock: int, grace_s: float) -> None:
        self._home = home
        self._lock = lock
        self._grace_s = grace_s
        self._stopping = False
        self._limits = WatchedLimits(home)
        self._spilled = SpilledFiles(lambda: spill_directories(home))
        before = home.read_owner()
        network = network_type(os.fspath(home.path))
        if network:
            log.info("the home is on %s: every commit is synchronised", network)
        store = self._store = Store(str(home.store), full_sync=bool(network))
        recovered = store.recover()  # which replaces a store that turns out to be damaged
        for notice in store.notices:
            log.warning("%s", notice)
        epoch = store.raise_epoch()
        self._directory = OwnedDirectory(
            _directory_before(before), ("clients", "managers"), os.fspath(home.owner)
        )
        clients = ipc.ipc_address(self._directory.path, "clients")
        managers = ipc.ipc_address(self._directory.path, "managers")
        host = LocalHost(
            Acceptor(unix_sockets.router(managers), codec.FROM_MANAGER, messages.Register),
            epoch,
            str(home.locals),
        )
        self._clients = HomeClients(
            Acceptor(unix_sockets.router(clients), codec.FROM_CLIENT, service.Attach)
        )
        self._waker = Waker()
        self._writer = Writer(store, self._waker.wake, inline=not network)
        self._clients.is_full = self._writer.is_full
        core = Forwarder(epoch, managers=managers, notices=store.notices, company_s=_COMPANY_S)
        core.recover(recovered)
        self._remotes = RemoteInterchanges(home.endpoints)
        self._loop = _HomeLoop(core, self._clients, self._writer, host, self._waker, self._remotes)
        self._set_limits()
        self._expect_clients(host)
        home.write_owner(
            ForwarderAddress(
                platform.node(),
                boot_id(),
                os.getpid(),
                start_time(os.getpid()),
                clients,
                managers,
                epoch,
                __version__,
            )
        )
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        log.info("started: fxhpc %s, epoch %d, home %s", __version__, epoch, home.path)

    def run(self) -> None:
        """Serve until told to stop, or until nobody has been there for a while."""
        began = since = looked = time.monotonic()
        for event in [*self._remotes.tick()]:  # the first question may be about an endpoint's name
            self._loop.feed(event)
        while not self._stopping:
            self._loop.turn()
            if time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                self._directory.touch()
                if not self._home.is_locked_by(self._lock):
                    log.error("the home %s was removed; ending", self._home.path)
                    return
                if self._store.damage:
                    log.error(
                        "the store is damaged (%s); ending, so that the next forwarder saves "
                        "what can be read",
                        self._store.damage,
                    )
                    return
                if self._loop.broken is not None:
                    log.error("ending, so that the next forwarder begins with what is stored")
                    return
                if self._limits.changed() is not None:
                    self._set_limits()
                self._spilled.tick(looked, self._loop.core.knows_stream)
            core = self._loop.core
            waits = not core.is_idle and time.monotonic() - began < _RETURN_S
            if core.has_clients or waits or not self._remotes.is_idle:
                since = time.monotonic()
            elif time.monotonic() - since > self._grace_s:
                log.info("nobody has been here for %.0f s", self._grace_s)
                return

    def close(self) -> None:
        """Leave nothing behind but the store."""
        ours = self._home.is_locked_by(self._lock)  # else files there are a successor's
        if ours:
            with contextlib.suppress(OSError):
                self._home.owner.unlink()
        # Clients that are still there will start another forwarder: journals tell it of today.
        self._loop.host.shut_down(keep_journals=bool(self._clients.processes) or not ours)
        self._clients.close()
        self._remotes.close()
        self._writer.close()
        self._directory.remove()
        log.info("ended")

    def _set_limits(self) -> None:
        limits = self._limits.current
        self._loop.feed(ev.StoreLimits(limits.max_bytes, limits.retention_s))

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True

    def _expect_clients(self, host: LocalHost) -> None:
        """Read the journals: whose processes live will come back, the others' are over."""
        for path in sorted(Path(self._home.locals).glob("*.journal")):
            owner, recovered = read_journal(str(path))
            if owner is None and recovered.incomplete and time.time() - _changed(path) < _KEPT_S:
                continue  # its process may attach, and it is read then
            if owner is None or not is_alive(owner.pid, owner.started):
                path.unlink(missing_ok=True)
                continue
            self._clients.expect(owner.instance, owner.pid, owner.started)
            host.open(owner.instance, owner, recovered)
            self._loop.feed(ev.LocalExpected(owner.instance))


class _HomeLoop(Loop):
    """The loop, with journals that name the process that an instance belongs to."""

    def open_local(self, instance: bytes) -> None:
        assert isinstance(self.clients, HomeClients)
        pid, started = self.clients.processes[instance]
        self.host.open(instance, Owner(instance, pid, started))
        super().open_local(instance)


def _directory_before(before: ForwarderAddress | None) -> str | None:
    """The directory of a forwarder that was killed: its managers look for the next one there."""
    if before is None or before.host != platform.node():
        return None
    return os.path.dirname(ipc.ipc_path(before.clients))


def _grace() -> float:
    text = os.environ.get(GRACE_VARIABLE, "")
    try:
        seconds = float(text) if text else GRACE_S
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise ForwarderError(
            f"{GRACE_VARIABLE} is {text!r}, which is no number of seconds: set it to one, such as "
            f"60, or unset it"
        )
    return seconds


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _report(descriptor: int, text: str) -> None:
    try:
        os.write(descriptor, text.encode())
        os.close(descriptor)
    except OSError:
        pass  # whoever started this process does not wait any more

"""A home's forwarder as a process of its own: starting, recovering, leaving when nobody is left."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from setproctitle import setproctitle

from fxhpc.errors import ForwarderError, FxhpcError, HomeError
from fxhpc.forwarder import events as ev
from fxhpc.forwarder.claim import TAKE_OVER, Claim, Displaced
from fxhpc.forwarder.clients import HomeClients
from fxhpc.forwarder.core import Forwarder
from fxhpc.forwarder.filesystems import network_type
from fxhpc.forwarder.home import MOVE_NOTE, ForwarderAddress, Home
from fxhpc.forwarder.limits import WatchedLimits
from fxhpc.forwarder.locals import LocalHost
from fxhpc.forwarder.loop import Loop
from fxhpc.forwarder.open_files import allow_open_files
from fxhpc.forwarder.remotes import RemoteInterchanges
from fxhpc.forwarder.spilled import SpilledFiles, spill_directories
from fxhpc.forwarder.store.store import Store
from fxhpc.forwarder.store.writer import Writer
from fxhpc.hosts import boot_id, is_alive, start_time
from fxhpc.interchange.journal import Owner, read_journal
from fxhpc.printable import make_logs_safe
from fxhpc.protocol import codec, messages, service
from fxhpc.replaced import Installation
from fxhpc.transport import ipc, unix_sockets
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.directories import OwnedDirectory
from fxhpc.transport.waker import Waker
from fxhpc.version import __version__

if TYPE_CHECKING:
    from fxhpc.forwarder.other_hosts import OtherHosts

#: Seconds that a forwarder stays after its last client has gone; the environment may say otherwise.
GRACE_S = 60.0
GRACE_VARIABLE = "FXHPC_FORWARDER_GRACE"

#: Seconds that clients of a forwarder that was killed may take to come back. A process may live on
#: without: it was just closing its client.
_RETURN_S = 10.0

#: Seconds that whoever needs a forwarder has to attach to the one that it has started.
_FIRST_S = 5.0

#: Seconds between two looks whether the home is still there.
_LOOK_S = 1.0

#: Seconds that a task which was submitted alone, soon after another one, waits for company.
_COMPANY_S = 0.005

#: Seconds that a journal is kept which a full disk has left without its owner, or whose owner is on
#: another host and does not come back: a forwarder there sees that it has ended.
_KEPT_S = 24 * 3600.0

log = logging.getLogger("fxhpc.forwarder")


def main(arguments: list[str]) -> int:
    """Run the forwarder of the home that the first argument names; `take_over` as third argument:
    though another may own it.
    """
    home, report = Home(arguments[0]), int(arguments[1])
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold users' data
    allow_open_files()
    setproctitle("fxhpc: forwarder")
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s", level="INFO")
    make_logs_safe()
    try:
        network = network_type(os.fspath(home.path))
        home.check_store()
        claim = Claim(home)
        if arguments[2:] == [TAKE_OVER]:
            from fxhpc.forwarder.taking_over import take_over  # here: few need it

            lock = take_over(home, claim)
        else:
            lock = home.take_lock()
        if lock is None:
            _report(report, "busy")
            return 0
        if not arguments[2:]:
            claim.make(sync=bool(network))
        if (home.path / MOVE_NOTE).exists():
            from fxhpc.forwarder.store.moving import finish_move  # likewise

            finish_move(home)
        process = ForwarderProcess(home, lock, claim, network, _grace())
    except Displaced as error:  # two began at once, on a file system that keeps no locks
        log.error("ending: %s", error)
        _report(report, "busy")
        os._exit(0)  # without closing the store: see `Writer.leave`
    except (FxhpcError, OSError) as error:
        log.error("cannot start: %s", error)
        _report(report, str(error))
        return 1
    _report(report, "ready")
    try:
        process.run()
    finally:
        process.close()
    if process.is_displaced:
        os._exit(0)  # without closing the store: see `Writer.leave`
    if process.makes_way:
        log.info("starting anew, as what is installed now")
        with contextlib.suppress(OSError):  # then whoever needs a forwarder starts one
            again = [sys.executable, "-m", "fxhpc.forwarder", os.fspath(home.path), "-1"]
            os.execv(sys.executable, again)
    return 0


class ForwarderProcess:
    """The forwarder of a home, from the lock to the last client.

    Args:
        network: the kind of the home's file system, if it is one of a network.

    Attributes:
        is_displaced: another owns the home's files now, or the home was removed.
        makes_way: another version was installed, and is to take its place at once.
    """

    def __init__(self, home: Home, lock: int, claim: Claim, network: str, grace_s: float) -> None:
        self._home = home
        self._lock = lock
        self._claim = claim
        self._network = network
        self._others: OtherHosts | None = None
        self.is_displaced = self.makes_way = False
        self._installation = Installation()
        self._grace_s = grace_s
        self._stopping = False
        self._limits = WatchedLimits(home)
        self._spilled = SpilledFiles(lambda: spill_directories(home))
        before = home.read_owner()
        if network:
            log.info("the home is on %s: every commit is synchronised", network)
        full_sync = bool(network or network_type(os.fspath(home.store.parent)))
        store = self._store = Store(str(home.store), full_sync=full_sync)
        store.claim = claim if network or home.access.exists() else None
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
        core = Forwarder(
            epoch,
            managers=managers,
            notices=store.notices,
            company_s=_COMPANY_S,
            home=store.identity,
        )
        core.recover(recovered)
        self._remotes = RemoteInterchanges(home.endpoints)
        self._loop = _HomeLoop(core, self._clients, self._writer, host, self._waker, self._remotes)
        self._set_limits()
        self._expect_clients(host)
        self._address = ForwarderAddress(
            platform.node(),
            boot_id(),
            os.getpid(),
            start_time(os.getpid()),
            clients,
            managers,
            epoch,
            __version__,
            since=time.time(),
        )
        self._look_at_others()
        home.write_owner(self._address)
        self._is_told = True  # where it is
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        log.info("started: fxhpc %s, epoch %d, home %s", __version__, epoch, home.path)

    def run(self) -> None:
        """Serve until told to stop, or until nobody has been there for a while."""
        began = since = looked = time.monotonic()
        grace_s = max(self._grace_s, _FIRST_S)  # whoever has started it may be slow to attach
        for event in [*self._remotes.tick()]:  # the first question may be about an endpoint's name
            self._loop.feed(event)
        while not self._stopping:
            self._loop.turn()
            if time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                self._directory.touch()
                self._clients.forget_processes(self._loop.host.has)
                if not self._owns():
                    return
                self._tell_address(self._look_at_others())
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
                self._store.beside = self._spilled.size
                if self._is_outdated(began):
                    return
            if self._writer.is_displaced and not self._owns():
                return
            if self._loop.core.has_clients or self._waits(began) or self._is_needed():
                since, grace_s = time.monotonic(), self._grace_s
            elif time.monotonic() - since > grace_s and not self._loop.host.is_closing:
                log.info("nobody has been here for %.0f s", grace_s)
                return

    def _tell_address(self, is_changed: bool) -> None:
        """Say where it is, if that is another address now, or if nobody can read it."""
        self._is_told = self._is_told and not is_changed
        if self._is_told and not (self._others and self._home.read_owner() is None):
            return
        try:
            self._home.write_owner(self._address)
            self._is_told = True
        except HomeError as error:  # a full disk, or no more open files: it serves all the same
            log.warning("%s", error)

    def _waits(self, began: float) -> bool:
        """Whether clients of the forwarder before may still come back."""
        return not self._loop.core.is_idle and time.monotonic() - began < _RETURN_S

    def _is_needed(self) -> bool:
        """Whether there must be a forwarder though nobody is attached."""
        may_come = self._others is not None and self._others.is_granted
        return may_come or not self._remotes.is_idle

    def _is_outdated(self, began: float) -> bool:
        """Whether to end, since another version was installed: while nobody is attached."""
        if self._loop.core.has_clients or self._waits(began) or self._loop.host.is_closing:
            return False
        if not self._installation.is_replaced():
            return False
        log.warning("%s; it ends", self._installation.words())
        self.makes_way = self._is_needed()
        return True

    def close(self) -> None:
        """Leave nothing behind but the store."""
        self.is_displaced = not self._owns()  # then files there are a successor's
        ours = not self.is_displaced
        if ours:
            with contextlib.suppress(OSError):
                self._home.owner.unlink()
        # Clients that are still there will start another forwarder: journals tell it of today.
        self._loop.host.shut_down(lambda instance: not ours or self._clients.lives(instance))
        self._clients.close()
        self._remotes.close()
        if self._others is not None:
            self._others.close()
        if ours:
            self._writer.close()
        else:
            self._writer.leave()
            if self._home.read_owner() == self._address:  # word for who waits: see `taking_over`
                with contextlib.suppress(OSError):
                    self._home.owner.unlink()
        self._directory.remove()
        log.info("ended")

    def _owns(self) -> bool:
        """Whether the home's files are this forwarder's."""
        if not self._home.is_locked_by(self._lock):
            log.error("the home %s was removed, or its lock broken; ending", self._home.path)
            return False
        if not self._claim.holds():
            log.error("another forwarder has taken over the home %s; ending", self._home.path)
            return False
        return True

    def _look_at_others(self) -> bool:
        """Open or close the ports for other hosts. Whether the address is another now."""
        if self._others is None:
            if not self._network and not self._home.access.exists():
                return False
            from fxhpc.forwarder.other_hosts import OtherHosts  # which brings ZeroMQ

            self._others = self._clients.others = self._loop.host.others = OtherHosts(
                self._home, self._network
            )
            self._store.claim = self._claim
        if not self._others.look():
            return False
        self._address = msgspec.structs.replace(
            self._address,
            hosts=self._others.addresses,
            server_key=self._others.server_key,
            access=self._others.known,
        )
        return True

    def _set_limits(self) -> None:
        limits = self._limits.current
        self._loop.feed(ev.StoreLimits(limits.max_bytes, limits.retention_s, limits.groups))

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True

    def _expect_clients(self, host: LocalHost) -> None:
        """Read the journals: whose processes live will come back, the others' are over."""
        for path in sorted(Path(self._home.locals).glob("*.journal")):
            owner, recovered = read_journal(str(path))
            if owner is None and recovered.incomplete and time.time() - _changed(path) < _KEPT_S:
                continue  # its process may attach, and it is read then
            is_far = owner is not None and owner.host not in ("", platform.node())
            if is_far and time.time() - _changed(path) > _KEPT_S:
                path.unlink(missing_ok=True)
                continue
            if owner is not None and is_far:
                self._clients.expect_from(owner.host, owner.instance, owner.pid, owner.started)
            elif owner is None or not is_alive(owner.pid, owner.started):
                path.unlink(missing_ok=True)
                continue
            else:
                self._clients.expect(owner.instance, owner.pid, owner.started)
            host.open(owner.instance, owner, recovered)
            self._loop.feed(ev.LocalExpected(owner.instance))


class _HomeLoop(Loop):
    """The loop, with journals that name the process that an instance belongs to."""

    def open_local(self, instance: bytes) -> None:
        assert isinstance(self.clients, HomeClients)
        pid, started = self.clients.processes[instance]
        host = self.clients.hosts.get(instance, platform.node())
        self.host.open(instance, Owner(instance, pid, started, host))
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

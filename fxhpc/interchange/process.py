"""A named endpoint's interchange as a process of its own: its sockets, its loop, its end."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import time
from collections import deque
from pathlib import Path

import msgspec
import zmq
from setproctitle import setproctitle

from fxhpc.errors import FxhpcError
from fxhpc.hosts import boot_id, start_time
from fxhpc.interchange import addresses
from fxhpc.interchange import events as ev
from fxhpc.interchange.blocks.block_journal import BlockJournal
from fxhpc.interchange.blocks.provisioning import ProvisionerProcess
from fxhpc.interchange.connections import PROBE_EVERY_S, Connections
from fxhpc.interchange.core import Interchange
from fxhpc.interchange.directory import (
    EndpointDirectory,
    EndpointRecord,
    InterchangeAddress,
    replace_file,
)
from fxhpc.interchange.forwarder_door import ForwarderDoor
from fxhpc.interchange.forwarder_link import ForwarderLink
from fxhpc.interchange.journal import Journal, read_journal
from fxhpc.interchange.left_results import LeftResults
from fxhpc.interchange.notices import Notices, OpenFiles, Upgrade, unreadable
from fxhpc.interchange.spool import Spool
from fxhpc.interchange.status_file import StatusFile
from fxhpc.interchange.stopping import Stopping
from fxhpc.protocol import codec
from fxhpc.protocol import messages as msg
from fxhpc.protocol import provision as pro
from fxhpc.protocol.provision import InterchangeSpec
from fxhpc.transport import ipc, tcp_sockets, unix_sockets
from fxhpc.transport.acceptor import Acceptor
from fxhpc.transport.authenticator import Authenticator
from fxhpc.transport.curve import CurveServer
from fxhpc.transport.directories import OwnedDirectory, remove_abandoned
from fxhpc.transport.keys import slow_curve_warning
from fxhpc.version import __version__

#: Seconds between two ticks.
TICK_S = 0.5

#: Seconds between two looks for results that managers have left.
LEFT_S = 5.0

_DOMAIN = "managers"
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING}

log = logging.getLogger("fxhpc.interchange")


class InterchangeProcess:
    """One endpoint's interchange: from the lock on its directory to its end."""

    def __init__(self, directory: EndpointDirectory, spec: InterchangeSpec) -> None:
        record = directory.read_record()
        if record is None:
            raise FxhpcError(f"there is no endpoint in {directory.path}")
        setproctitle(f"fxhpc: interchange {record.name}")
        self._directory = directory
        self._spec = spec
        self._left: ev.Leave | None = None
        self._keeps_blocks = False
        self._lock = self._take_lock(record.name)
        for folder in {directory.state, directory.blocks, directory.manager_logs}:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._stopping = Stopping(directory, spec, record.name)
        # First of all: it takes longer to begin than everything else here.
        self._provisioner = (
            ProvisionerProcess(spec.provisioner) if spec.provisioner is not None else None
        )
        self._look_after_provisioner()
        if warning := slow_curve_warning():
            log.warning("%s", warning)
        keys = directory.keys("endpoint")
        context = tcp_sockets.make_context()
        self._authenticator = Authenticator(context)
        self._authenticator.allow(_DOMAIN, {directory.keys("manager").public: "manager"})
        curve = CurveServer(keys, _DOMAIN)
        silence_s = spec.heartbeat_s * spec.missed_heartbeats
        managers = self._managers_socket = addresses.bind(
            context, spec.bind, curve, record.name, silence_s
        )
        self._sockets = OwnedDirectory()
        forwarder = ipc.ipc_address(self._sockets.path, "forwarder")
        self._managers = Acceptor(managers, codec.FROM_MANAGER, msg.Register)
        self._connections = Connections(self._managers, managers)
        self._door = None
        if spec.forwarder_key:
            self._door = ForwarderDoor(keys, Path(spec.forwarder_key))
        self._forwarder = ForwarderLink(
            Acceptor(unix_sockets.router(forwarder), codec.TO_INTERCHANGE, msg.Hello),
            far=self._door.acceptor if self._door is not None else None,
        )
        self._status = StatusFile(directory)
        self._unnamed: set[int] = set()  # blocks whose names could not be written down
        epoch = self._make_core(record)
        if spec.manager is not None:
            directory.write_manager_spec(spec.manager)
        bound = managers.address
        offered = addresses.offered(bound, spec.addresses)
        directory.write_address(
            InterchangeAddress(
                platform.node(),
                boot_id(),
                os.getpid(),
                start_time(os.getpid()),
                forwarder,
                " ".join(offered),
                keys.public.decode(),
                epoch,
                __version__,
                self._door.addresses if self._door is not None else "",
            )
        )
        directory.failure.unlink(missing_ok=True)
        log.info("started: fxhpc %s, endpoint %s, epoch %d", __version__, record.name, epoch)
        log.info("listens at %s for managers, which try %s", bound, ", ".join(offered))

    def _make_core(self, record: EndpointRecord) -> int:
        """The core, and what it learns of the processes before this one; the epoch."""
        self._events: deque[ev.Event] = deque()
        directory, spec = self._directory, self._spec
        epoch = directory.raise_epoch()
        self._core = Interchange(
            record.endpoint,
            epoch,
            heartbeat_s=spec.heartbeat_s,
            missed_heartbeats=spec.missed_heartbeats,
            scaling=spec.scaling,
            retries=spec.retries,
            name=record.name,
            details=spec.details,
            limits=spec.limits,
            wall_offset_s=time.time() - time.monotonic(),
            notes=True,
            remedy="make another executor" if spec.remove else "",
            made_from=pro.blocks_digest(spec),
        )
        self._spool = Spool(str(directory.spool))
        boot = boot_id()
        _, recovered = read_journal(str(directory.journal), boot)
        self._journal = Journal(
            str(directory.journal),
            None,
            recovered.managers,
            recovered.blocks,
            boot,
            recovered.away,
        )
        self._block_journal = BlockJournal(str(directory.known_blocks))
        damaged = bool(self._spool.damage)
        if damaged:
            self._journal.doubt()  # what was there has ended, and the next process sees no damage
        self._handle(msgspec.structs.replace(recovered, spooled=self._spool.found, damaged=damaged))
        self._handle(self._block_journal.recovered)
        self._files = OpenFiles()
        self._notices = Notices(
            {
                "spool": lambda: self._spool.damage,
                "room": self._spool_trouble,
                "blocks": lambda: self._block_journal.damage,
                "journal": lambda: self._journal.trouble,
                "files": self._files.tell,
                "version": Upgrade("" if spec.remove else record.name).tell,
                "ignored": lambda: unreadable(
                    self._managers.undecodable,
                    self._forwarder.undecodable,
                    self._connections.monitor.refused,
                ),
            }
        )
        self._left_results = LeftResults(directory.manager_results)
        self._look_for_results()
        return epoch

    def run(self) -> None:
        """Serve until it is to end."""
        poller = zmq.Poller()
        for socket in (
            self._managers_socket,
            self._authenticator.socket,
            self._connections.monitor.socket,
        ):
            poller.register(socket, zmq.POLLIN)
        forwarders = self._forwarder.sockets
        for one in forwarders:
            poller.register(one.descriptor, zmq.POLLIN)
        polled: set[int] = set()
        next_tick = time.monotonic()
        while self._left is None and not self._stopping.at_once:
            wanted = {*self._stopping.fds}
            if self._provisioner is not None and self._provisioner.fd >= 0:
                wanted.add(self._provisioner.fd)
            for fd in polled - wanted:
                poller.unregister(fd)
            for fd in wanted - polled:
                poller.register(fd, zmq.POLLIN)
            polled = wanted
            wait = max(0.0, next_tick - time.monotonic())
            if any(one.is_readable() for one in forwarders):
                wait = 0.0
            ready = dict(poller.poll(int(wait * 1000)))
            self._authenticator.handle()
            for peer, manager_said in self._managers.receive():
                self._handle(ev.ManagerSaid(peer, manager_said))
            for event in self._forwarder.receive():
                self._handle(event)
            for peer in self._connections.look():
                # No effect if it has registered under a new connection meanwhile.
                self._handle(ev.ManagerGone(peer, "its connection was closed"))
            if polled & ready.keys():
                self._hear_provisioner()
                self._look_for_stop()
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_S
                self._tick()
            if self._connections.is_busy:
                next_tick = min(next_tick, time.monotonic() + PROBE_EVERY_S)

    def close(self) -> None:
        """End: managers that are left go on with what they have, and wait for the next one."""
        nothing_runs = self._left is not None and self._left.nothing_runs
        self._forwarder.close(msg.Bye("the interchange ends", nothing_runs))
        directory = self._directory
        directory.address.unlink(missing_ok=True)
        if self._left is not None:
            self._status.remove()
            directory.stop_request.unlink(missing_ok=True)
            if not self._keeps_blocks:
                directory.managers_address.unlink(missing_ok=True)
        self._end_provisioner()
        self._connections.monitor.close()
        self._managers.close()
        self._authenticator.close()
        self._journal.close()
        self._block_journal.close()
        self._spool.close()
        self._sockets.remove()
        if self._spec.watch_pid:
            remove_abandoned()  # the one that it belonged to may have been killed
        self._stopping.close()
        os.close(self._lock)
        log.info("ended%s", f": {self._left.reason}" if self._left is not None else "")
        if self._spec.remove and self._left is not None and not self._keeps_blocks:
            directory.remove()

    def note_failure(self, error: BaseException) -> None:
        """Leave word of why it ended, for whoever asks the endpoint's directory."""
        text = f"the interchange ended by an error: {type(error).__name__}: {error}"
        try:
            replace_file(self._directory.failure, text.encode())
        except OSError:
            pass  # it stands in the log

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

    def _tick(self) -> None:
        if self._forwarder.is_lost():
            self._handle(ev.ForwarderGone())
        if self._door is not None:
            self._door.look()
        self._look_for_stop()
        self._hear_provisioner()
        self._look_after_provisioner()
        if time.monotonic() >= self._results_at:
            self._look_for_results()
        self._handle(ev.Tick())
        self._journal.retry()
        if self._core.is_idle:
            self._journal.compact(self._core.has_all)
        self._files.look()
        if self._notices.look():
            self._carry_out(ev.ToForwarder(self._core.status()))
        if self._status.is_due():
            self._status.update(self._with_notices(self._core.status()))

    def _spool_trouble(self) -> str:
        if not self._spool.trouble:
            return ""
        return f"the spool {self._directory.spool} cannot be written: {self._spool.trouble}"

    def _with_notices(self, status: msg.Status) -> msg.Status:
        if status.report is None or not self._notices.told:
            return status
        report = msgspec.structs.replace(status.report, notices=self._notices.told)
        return msgspec.structs.replace(status, report=report)

    def _look_for_results(self) -> None:
        self._results_at = time.monotonic() + LEFT_S
        for path, batch in self._left_results.look():
            self._handle(ev.Left(path, batch))

    def _look_for_stop(self) -> None:
        asked = self._stopping.look()
        if asked is not None:
            self._keeps_blocks = asked.keep_blocks
            self._handle(asked)

    # --- the provisioner ------------------------------------------------------------------------

    def _hear_provisioner(self) -> None:
        if self._provisioner is None:
            return
        said, gone = self._provisioner.receive()
        for message in said:
            self._handle(ev.ProvisionerSaid(message))
        if gone:
            self._handle(ev.ProvisionerGone(gone))

    def _look_after_provisioner(self) -> None:
        if self._provisioner is not None and (killed := self._provisioner.look_after()):
            self._handle(ev.ProvisionerGone(killed))

    def _end_provisioner(self) -> None:
        if self._provisioner is not None:
            self._provisioner.close()

    def _ask_provisioner(self, message: pro.ToProvisioner) -> None:
        if isinstance(message, pro.SubmitBlock) and message.block.number in self._unnamed:
            self._unnamed.discard(message.block.number)
            reason = f"its name cannot be written to {self._directory.known_blocks}"
            refused = pro.NotSubmitted(message.block.number, reason, away=True)
            self._handle(ev.ProvisionerSaid(refused))
        elif self._provisioner is not None:
            self._provisioner.send(message)

    def _note_block(self, record: ev.BlockKnown) -> None:
        try:
            self._block_journal.write(record)
        except OSError as error:
            log.error("%s: %s", self._directory.known_blocks, error.strerror or error)
            if record.present:
                self._unnamed.add(record.block.number)
        else:
            self._unnamed.discard(record.block.number)

    # --- the core -------------------------------------------------------------------------------

    def _handle(self, event: ev.Event) -> None:
        """Let the core know of something, and do what it wants, in order."""
        self._events.append(event)
        if len(self._events) > 1:
            return  # the loop below comes to it
        while self._events:
            for action in self._core.handle(self._events[0], time.monotonic()):
                self._carry_out(action)
            self._events.popleft()

    def _carry_out(self, action: ev.Action) -> None:
        if isinstance(action, ev.ToManager):
            self._managers.send(action.peer, action.message)
        elif isinstance(action, ev.ToForwarder):
            message = action.message
            if isinstance(message, msg.Status):
                message = self._with_notices(message)
                if self._status.is_urgent(message):
                    self._status.update(message)
            if not self._forwarder.send(message):
                self._handle(ev.ForwarderGone())
        elif isinstance(action, ev.CloseManager):
            self._managers.forget(action.peer)
        elif isinstance(action, ev.Spool):
            self._handle(ev.Spooled(self._spool.add(action.batch)))
        elif isinstance(action, ev.ReadSpool):
            found, missing = self._spool.read(action.numbers)
            if missing:
                self._journal.doubt()  # the next process would take these for never begun
            self._handle(ev.Unspooled(found, missing))
        elif isinstance(action, ev.ClearSpool):
            self._spool.clear()
        elif isinstance(action, (ev.Sent, ev.ManagerKnown)):
            self._journal.write(action)
        elif isinstance(action, ev.DiscardLeft):
            self._left_results.discard(action.path)
        else:
            self._handle_of_blocks(action)

    def _handle_of_blocks(
        self, action: ev.ToProvisioner | ev.BlockKnown | ev.Leave | ev.Note
    ) -> None:
        if isinstance(action, ev.Note):
            log.log(_LEVELS.get(action.level, logging.INFO), "%s", action.text)
        elif isinstance(action, ev.ToProvisioner):
            self._ask_provisioner(action.message)
        elif isinstance(action, ev.BlockKnown):
            self._note_block(action)
        else:
            self._left = action

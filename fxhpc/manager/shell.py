"""A manager's process: owns the clock, the link and the loop. It decides nothing."""

from __future__ import annotations

import logging
import os
import platform
import random
import selectors
import signal
import socket
import time

import zmq

from fxhpc.errors import FxhpcError
from fxhpc.manager import events as ev
from fxhpc.manager import processes
from fxhpc.manager.core import Manager
from fxhpc.manager.crew import Crew
from fxhpc.manager.watch import Watch
from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.protocol.codec import TO_MANAGER
from fxhpc.transport import sockets
from fxhpc.transport.keys import load_keys
from fxhpc.transport.monitor import Monitor
from fxhpc.transport.opener import Opener

#: An interchange that says nothing for so many heartbeats is looked for anew.
MISSED_HEARTBEATS = 3

#: Seconds that an interchange has to answer a greeting.
WELCOME_S = 3.0

#: Between attempts to reach an interchange that is away, in seconds: doubling, with some chance.
RECONNECT_FIRST_S, RECONNECT_LAST_S = 0.05, 2.0

#: Free memory that the process may keep.
KEPT_BYTES = 64 * 2**20

#: The workers' pages are looked at no more often than this: there may be a hundred.
LOOK_S = 0.002

log = logging.getLogger("fxhpc.manager")


class Shell:
    """Runs one manager until it leaves."""

    def __init__(self, spec: pool.ManagerSpec, seed: tuple[socket.socket, int]) -> None:
        processes.keep_memory(KEPT_BYTES)
        self._spec = spec
        self._selector = selectors.DefaultSelector()
        self._context = sockets.make_context()
        self._opener: Opener[msg.ToManager] | None = None
        self._monitor: Monitor | None = None
        self._heard = time.monotonic()
        self._welcome = False  # the interchange has answered on this connection
        self._looked = 0.0
        self._retry_at = 0.0
        self._retry_s = RECONNECT_FIRST_S
        self._leave: ev.Leave | None = None
        now = time.monotonic()
        self._core = Manager(_host(spec, now), now)
        self._crew = Crew(self._selector, self._tell, _seed_spec(spec), seed, _core_sets(spec))
        self._watch = Watch(self._selector, spec, self._end)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._do(self._core.start())

    def run(self) -> int:
        """Work until the end; the process's exit code."""
        try:
            while self._leave is None:
                self._once()
        finally:
            self._crew.close()
            self._disconnect()
            self._context.term()
            self._selector.close()
        log.info("leaving: %s", self._leave.reason)
        if self._leave.failed:
            logging.getLogger().error("fxhpc manager: %s", self._leave.reason)
        return 1 if self._leave.failed else 0

    # --- the loop -------------------------------------------------------------------------------

    def _once(self) -> None:
        now = time.monotonic()
        if self._opener is None and now >= self._retry_at:
            self._connect(now)
        for key, mask in self._selector.select(self._timeout(now)):
            key.data(mask)
        if time.monotonic() - self._looked >= LOOK_S:
            self._look()
        self._read_link()
        self._watch.look()
        self._tell(ev.Turn())

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._tell(ev.Looked(self._crew.begun()))

    def _timeout(self, now: float) -> float:
        if self._opener is None:
            return max(0.0, min(self._retry_at - now, self._core.wait_s(now)))
        # The descriptor of a ZeroMQ socket only tells of changes; what is there, the socket tells.
        assert self._monitor is not None
        for one in (self._opener.socket, self._monitor.socket):
            if int(one.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return 0.0
        return min(self._core.wait_s(now), self._watch.wait_s)

    def _tell(self, event: ev.Event) -> None:
        self._do(self._core.handle(event, time.monotonic()))

    def _do(self, actions: list[ev.Action]) -> None:
        for action in actions:
            if isinstance(action, ev.ToWorker):
                self._crew.send(action.worker, action.message, action.payload_bytes)
            elif isinstance(action, ev.Say):
                if self._opener is not None and not self._opener.broken:
                    self._opener.send(action.message)
            elif isinstance(action, ev.Skip):
                self._crew.skip(action.worker, action.begin, action.end)
            elif isinstance(action, ev.ReadPage):
                self._crew.read_page(action.worker)
            elif isinstance(action, ev.StartWorker):
                self._crew.start(action.worker)
            elif isinstance(action, ev.KillWorker):
                self._crew.kill(action.worker)
            elif isinstance(action, ev.Greet):
                if self._opener is not None:
                    self._opener.greet(action.message)
            else:
                self._leave = action

    def _end(self, reason: str) -> None:
        self._tell(ev.Ended(reason))

    def _on_signal(self, number: int, _: object) -> None:
        self._watch.ask_to_end(f"the manager got {signal.Signals(number).name}")

    # --- the link -------------------------------------------------------------------------------

    def _connect(self, now: float) -> None:
        try:
            address, curve = self._address()
            socket_ = sockets.dealer(
                self._context, address, curve=curve, before_connecting=self._monitor_it
            )
        except (FxhpcError, OSError, ValueError, zmq.ZMQError) as error:
            log.info("no interchange yet: %s", error)
            self._later(now)
            return
        self._opener = Opener(socket_, TO_MANAGER)
        assert self._monitor is not None
        self._heard = now
        for one in (socket_, self._monitor.socket):
            self._selector.register(_descriptor(one), selectors.EVENT_READ, _nothing)
        self._greet()

    def _greet(self) -> None:
        self._welcome = False
        self._look()
        self._tell(ev.LinkOpened())

    def _monitor_it(self, socket_: zmq.SyncSocket) -> None:
        self._monitor = Monitor(socket_)

    def _address(self) -> tuple[str, sockets.CurveClient | None]:
        spec = self._spec
        address, server_key = spec.address, spec.server_key
        if spec.address_file:
            with open(spec.address_file, encoding="utf-8") as file:
                lines = file.read().splitlines()
            address, server_key = lines[0].split()[0], lines[1] if len(lines) > 1 else ""
        if not server_key:
            return address, None
        keys = load_keys(spec.key_file, "manager")
        return address, sockets.CurveClient(keys, server_key.encode())

    def _read_link(self) -> None:
        opener, monitor = self._opener, self._monitor
        if opener is None or monitor is None:
            return
        now = time.monotonic()
        for message in opener.receive():
            self._heard = now
            if isinstance(message, msg.Welcome):
                self._welcome = True
                self._tell_ready()
                self._retry_s = RECONNECT_FIRST_S
            if not isinstance(message, msg.Tasks | msg.ResultsStored):
                self._look()  # what runs now matters for what is asked
            self._tell(ev.Said(message))
        ended = monitor.look().ended
        # Whether a connection could be made at all is not always told.
        patience = self._core.heartbeat_s * MISSED_HEARTBEATS if self._welcome else WELCOME_S
        if ended or now - self._heard > patience:
            log.info("the interchange is lost: %s", "it ended" if ended else "it is silent")
            self._disconnect()
            self._later(now)
            self._tell(ev.LinkLost())
        elif opener.broken:
            self._tell(ev.LinkLost())
            if self._welcome:
                self._greet()
            else:  # it does not get any better by saying it again at once
                self._disconnect()
                self._later(now)

    def _tell_ready(self) -> None:
        """Whoever started this manager learns that it could register."""
        fd, self._spec.ready_fd = self._spec.ready_fd, -1
        if fd >= 0:
            try:
                os.write(fd, b"1")
            except OSError:
                pass  # nobody reads it any more
            os.close(fd)

    def _later(self, now: float) -> None:
        self._retry_at = now + self._retry_s * random.uniform(0.5, 1.0)
        self._retry_s = min(2 * self._retry_s, RECONNECT_LAST_S)

    def _disconnect(self) -> None:
        if self._opener is None or self._monitor is None:
            return
        for one in (self._opener.socket, self._monitor.socket):
            self._selector.unregister(_descriptor(one))
        self._monitor.close()
        self._opener.close()
        self._opener = self._monitor = None


def _descriptor(socket_: zmq.SyncSocket) -> int:
    return int(socket_.getsockopt(zmq.FD))


def _nothing(_: int) -> None:
    """Both ZeroMQ sockets are read in each turn anyway."""


def _host(spec: pool.ManagerSpec, now: float) -> ev.Host:
    return ev.Host(
        manager=spec.manager,
        endpoint=spec.endpoint,
        slots=spec.workers,
        host=platform.node(),
        pid=os.getpid(),
        python=platform.python_version(),
        cores=len(_cores()),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        block=spec.block,
        alone_s=spec.alone_s,
        wall_offset_s=time.time() - now,
    )


def _seed_spec(spec: pool.ManagerSpec) -> pool.SeedSpec:
    return pool.SeedSpec(spec.cwd, spec.sys_path, spec.environ, spec.nice)


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _core_sets(spec: pool.ManagerSpec) -> list[list[int]]:
    """For each worker, cores of its own; none if there are not enough, or nobody wants it."""
    cores = _cores()
    if not spec.pin or len(cores) < spec.workers:
        return []
    each = len(cores) // spec.workers
    return [cores[worker * each : (worker + 1) * each] for worker in range(spec.workers)]

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

from fxhpc.errors import FxhpcError
from fxhpc.manager import events as ev
from fxhpc.manager import logs, processes, unsent
from fxhpc.manager.connecting import Connection, connect
from fxhpc.manager.core import Manager
from fxhpc.manager.crew import Crew
from fxhpc.manager.finding import Finder, NotFound
from fxhpc.manager.resources.groups import Groups
from fxhpc.manager.resources.limits import Limits
from fxhpc.manager.resources.node import Node, is_own, places_of
from fxhpc.manager.staff import SETTLE_S
from fxhpc.manager.watch import Watch
from fxhpc.protocol import messages as msg
from fxhpc.protocol import pool
from fxhpc.protocol.codec import TO_MANAGER
from fxhpc.transport.opener import Opener

#: An interchange that says nothing for so many heartbeats is looked for anew.
MISSED_HEARTBEATS = 3

#: Seconds that an interchange has to answer a greeting.
WELCOME_S = 3.0

#: Between attempts to reach an interchange that is away, in seconds: doubling, with some chance.
RECONNECT_FIRST_S, RECONNECT_LAST_S = 0.05, 2.0

#: A manager that has reached nobody for so long says so on standard error.
COMPLAIN_S = 10.0

#: The exit code where no other manager would do better: see `sysexits.h`.
EX_CONFIG = 78

#: The variable with a task's id: all that it starts, on any node, inherits it.
TASK_VARIABLE = "FXHPC_TASK_ID"

#: Free memory that the process may keep.
KEPT_BYTES = 64 * 2**20

#: The workers' pages are looked at no more often than this: there may be a hundred.
LOOK_S = 0.002

log = logging.getLogger("fxhpc.manager")


class Shell:
    """Runs one manager until it leaves.

    Args:
        tie: in a container: a named pipe, whose other end whoever has started that holds.
    """

    def __init__(
        self, spec: pool.ManagerSpec, node: Node, seed: tuple[socket.socket, int], tie: str = ""
    ) -> None:
        processes.keep_memory(KEPT_BYTES)
        self._spec = spec
        self._node = node
        self._selector = selectors.DefaultSelector()
        self._opener: Opener[msg.ToManager] | None = None
        self._connection: Connection | None = None
        self._heard = time.monotonic()
        self._welcome = False  # the interchange has answered on this connection
        self._looked = 0.0
        self._retry_at = 0.0
        self._retry_s = RECONNECT_FIRST_S
        self._nowhere = ""  # why there is nothing to connect to
        self._leave: ev.Leave | None = None
        self._finder = Finder(spec, self._selector)
        self._address = ""  # that it is connected to
        self._chronicle = logs.Chronicle()
        now = time.monotonic()
        self._complain_at = now + COMPLAIN_S
        self._core = Manager(_host(spec, node, now), now)
        self._crew = Crew(
            self._selector,
            self._tell,
            _seed_spec(spec, node),
            seed,
            places_of(node, os.environ),
            logs.worker_logs(spec, logs.file_name(node.host, node.block, spec.manager)),
            Limits(Groups(in_job=bool(node.job))),
            _inside(spec, node),
            spec.container_options,
        )
        self._watch = Watch(self._selector, spec, self._end)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._drain_asked = False
        signal.signal(signal.SIGUSR1, self._on_drain)
        if tie:
            self._watch.hold(tie)
        self._do(self._core.start())

    def run(self) -> int:
        """Work until the end; the process's exit code."""
        try:
            while self._leave is None:
                self._once()
        finally:
            self._finder.close()
            self._crew.close()
            self._disconnect()
            self._selector.close()
        return self._account_for(self._leave)

    def _account_for(self, leave: ev.Leave) -> int:
        """Say why it ends; the exit code for it."""
        log.info("leaving: %s", leave.reason)
        who = f"manager {self._spec.manager} on {self._node.host}"
        if leave.alone:
            logs.say(f"{who} leaves: {leave.reason}: {self._nowhere or self._finder.summary()}")
        elif leave.failed and is_final(leave.reason):
            logs.say(f"fatal: {leave.reason}")
            return EX_CONFIG
        elif leave.failed:
            logs.say(f"{who} was refused: {leave.reason}")
        return 1 if leave.failed else 0

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
        if self._drain_asked:
            self._drain_asked = False
            self._tell(ev.DrainAsked())
        self._tell(ev.Turn())

    def _look(self) -> None:
        self._looked = time.monotonic()
        calls = self._crew.calls(calling) if (calling := self._core.calling) else {}
        self._tell(ev.Looked(self._crew.begun(), calls))
        self._crew.cut_outputs(self._looked)
        self._crew.look_at_memory(self._looked)
        self._crew.look_at_containers(self._looked)

    def _timeout(self, now: float) -> float:
        if self._opener is None:
            until = self._finder.until if self._finder.busy else self._retry_at
            wait_s = min(until - now, self._core.wait_s(now), self._crew.limits.wait_s(now))
            return max(0.0, wait_s)
        assert self._connection is not None
        if self._connection.is_readable():
            return 0.0
        return min(self._core.wait_s(now), self._watch.wait_s, self._crew.limits.wait_s(now))

    def _tell(self, event: ev.Event) -> None:
        self._do(self._core.handle(event, time.monotonic()))

    def _do(self, actions: list[ev.Action]) -> None:
        for action in actions:
            if isinstance(action, ev.ToWorker):
                self._crew.send(action.worker, action.message, action.payload_bytes)
            elif isinstance(action, ev.Say):
                if self._opener is not None and not self._opener.broken:
                    self._opener.send(action.message)
                if not isinstance(action.message, msg.Results):
                    self._chronicle.said(action.message, time.monotonic())
            elif isinstance(action, ev.KeepBody):
                self._crew.bodies.keep(action.digest, action.data)
            elif isinstance(action, ev.DropBodies):
                self._crew.bodies.drop(action.digests)
            elif isinstance(action, ev.Skip):
                self._crew.skip(action.worker, action.begin, action.end)
            elif isinstance(action, ev.ReadPage):
                self._crew.read_page(action.worker)
            elif isinstance(action, ev.StartWorker):
                self._crew.start(
                    action.worker, action.cell, action.lease, action.needs, action.hosts
                )
            elif isinstance(action, ev.KillWorker):
                self._crew.kill(action.worker, action.show_where)
            elif isinstance(action, ev.Greet):
                if self._opener is not None:
                    self._opener.greet(action.message)
            elif isinstance(action, ev.Keep):
                self._keep(action.batch)
            elif isinstance(action, ev.EndMarked):
                ended = processes.end_marked(TASK_VARIABLE, action.task)
                if ended:
                    log.info("task %s is over: ended %d processes of it", action.task, ended)
            else:
                self._leave = action

    def _end(self, reason: str, signalled: bool) -> None:
        # What is given back as not begun must not be begun a moment later.
        self._crew.hold()
        time.sleep(SETTLE_S)
        self._look()
        self._crew.read_pages()
        self._tell(ev.Ended(reason, signalled, self._crew.left()))

    def _on_signal(self, number: int, _: object) -> None:
        self._watch.ask_to_end(f"the manager got {signal.Signals(number).name}")

    def _on_drain(self, number: int, _: object) -> None:
        """Whoever started it by hand wants the node back when running tasks have ended."""
        self._drain_asked = True

    # --- the link -------------------------------------------------------------------------------

    def _connect(self, now: float) -> None:
        try:
            way = self._finder.find(now)
            if way is None:
                return  # addresses are being tried
            self._nowhere, self._address = "", way.address
            connection = self._connection = connect(way)
        except (FxhpcError, OSError, ValueError) as error:
            if isinstance(error, NotFound):
                self._nowhere = str(error)
            else:
                self._finder.failed(self._address, str(error))
            log.info("no interchange yet: %s", error)
            self._complain(now)
            self._later(now)
            return
        others = self._finder.summary(but=way.address)
        log.info("connecting to %s%s", way.address, f"; others: {others}" if others else "")
        self._opener = Opener(connection.socket, TO_MANAGER)
        self._heard = now
        for descriptor in connection.descriptors:
            self._selector.register(descriptor, selectors.EVENT_READ, _nothing)
        self._greet()

    def _complain(self, now: float) -> None:
        """Say once on standard error that nobody can be reached: a batch job shows its own."""
        if now >= self._complain_at and not is_own(self._spec):
            self._complain_at = float("inf")
            logs.say(
                f"manager {self._spec.manager} on {self._node.host} has not reached its "
                f"interchange for {COMPLAIN_S:.0f} s, and goes on trying: "
                f"{self._nowhere or self._finder.summary()}"
            )

    def _greet(self) -> None:
        self._welcome = False
        self._look()
        self._tell(ev.LinkOpened())

    def _read_link(self) -> None:
        opener, connection = self._opener, self._connection
        if opener is None or connection is None:
            return
        now = time.monotonic()
        for message in opener.receive():
            self._heard = now
            if isinstance(message, msg.Welcome):
                self._welcome = True
                self._tell_ready()
                self._finder.welcomed(self._address)
                self._complain_at = now + COMPLAIN_S
                self._retry_s = RECONNECT_FIRST_S
                log.info("registered at %s", self._address)
            if not isinstance(message, msg.Tasks | msg.ResultsStored):
                self._look()  # what runs now matters for what is asked
                self._chronicle.heard(message)
            self._tell(ev.Said(message))
        ended = connection.has_ended()
        # Whether a connection could be made at all is not always told.
        patience = self._core.heartbeat_s * MISSED_HEARTBEATS if self._welcome else WELCOME_S
        if ended or now - self._heard > patience:
            log.info("the interchange is lost: %s", "it ended" if ended else "it is silent")
            self._give_up(now, "it ends connections" if ended else "it gives no welcome")
            self._disconnect(lost=True)
            self._later(now)
            self._tell(ev.LinkLost())
        elif opener.broken:
            self._tell(ev.LinkLost())
            if self._welcome:
                self._greet()
            else:  # it does not get any better by saying it again at once
                self._give_up(now, "it does not take what is said")
                self._disconnect(lost=True)
                self._later(now)

    def _give_up(self, now: float, why: str) -> None:
        """This address is no good, if no interchange has answered there."""
        if not self._welcome:
            self._finder.failed(self._address, why)
            self._complain(now)
        else:
            self._complain_at = now + COMPLAIN_S

    def _keep(self, batch: list[msg.Results]) -> None:
        """Leave results where the endpoint's interchange looks for them."""
        folder = unsent.folder_of(self._spec)
        count = sum(len(run.outcomes) for results in batch for run in results.runs)
        if not folder:
            return
        try:
            path = unsent.write(folder, self._spec.manager, batch)
            log.warning("results of %d tasks are left in %s: nobody has stored them", count, path)
        except OSError as error:
            logs.say(
                f"manager {self._spec.manager} on {self._node.host}: the results of {count} tasks "
                f"are lost with it, which run again: {folder} cannot be written: {error.strerror}"
            )

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

    def _disconnect(self, *, lost: bool = False) -> None:
        if self._opener is None or self._connection is None:
            return
        for descriptor in self._connection.descriptors:
            self._selector.unregister(descriptor)
        self._connection.close(lost=lost)
        self._opener = self._connection = None


def _nothing(_: int) -> None:
    """The connection is read in each turn anyway."""


def is_final(reason: str) -> bool:
    """Whether any other manager of the same installation would be refused too."""
    return "protocol" in reason or "version" in reason


def _host(spec: pool.ManagerSpec, node: Node, now: float) -> ev.Host:
    offset_s = time.time() - now
    return ev.Host(
        manager=spec.manager,
        endpoint=spec.endpoint,
        slots=node.slots,
        host=node.host,
        pid=os.getpid(),
        python=platform.python_version(),
        cores=node.cores,
        memory=node.memory,
        block=node.block,
        job=node.job,
        accelerators=node.accelerators,
        walltime_s=node.walltime_s,
        ends=node.ends - offset_s if node.ends else 0.0,
        alone_s=spec.alone_s,
        wall_offset_s=offset_s,
        keeps=bool(unsent.folder_of(spec)),
        size=node.size,
        labels=tuple(spec.labels),
        most_sized=node.most_sized,
    )


def _seed_spec(spec: pool.ManagerSpec, node: Node) -> pool.SeedSpec:
    own = is_own(spec)
    return pool.SeedSpec(
        spec.cwd if own else node.cwd,
        spec.sys_path,
        {**node.shared_environ, **spec.environ},
        spec.nice,
        task_variables=not own,
        sandbox=spec.sandbox,
        preload=spec.preload,
        spill=spec.spill,
    )


def _inside(spec: pool.ManagerSpec, node: Node) -> pool.SeedSpec:
    """Of seeds in containers: these have the Python, the modules and the paths of their image."""
    inside = _seed_spec(spec, node)
    inside.sys_path, inside.preload, inside.environ = [], [], {**node.shared_environ}
    return inside

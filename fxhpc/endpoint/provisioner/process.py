"""The provisioner as a process: what the interchange asks it, and what it tells.

One thread reads the link and looks for blocks whose scripts have ended; another one runs the
commands, one after the other. If the interchange ends, so does this process, at once; if a command
hangs, the interchange kills it.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec
from setproctitle import setproctitle

from fxhpc.endpoint.launch import install_script
from fxhpc.endpoint.provisioner.commands import CommandError, dies_with
from fxhpc.endpoint.provisioner.providers import ASKED, Batch, ProviderError
from fxhpc.endpoint.provisioner.schedulers import ended_report
from fxhpc.endpoint.provisioner.scripts import BlockFiles
from fxhpc.printable import make_logs_safe
from fxhpc.protocol import provision as pro
from fxhpc.transport.frames import Frames, frame

#: Seconds between two looks for scripts that have ended, and between two clearings.
LOOK_S, CLEAN_S = 1.0, 300.0

#: What shells make of SIGTERM.
_TERMINATED = 128 + signal.SIGTERM

log = logging.getLogger("fxhpc.provisioner")
_encode = msgspec.msgpack.Encoder().encode
_spec_decoder = msgspec.msgpack.Decoder(pro.ProvisionerSpec)
_decoder: msgspec.msgpack.Decoder[pro.ToProvisioner] = msgspec.msgpack.Decoder(pro.ToProvisioner)


def main(arguments: list[str]) -> int:
    """Serve the interchange at the other end of a socket pair.

    Args:
        arguments: the descriptor of this end; the pid of the interchange. The first message is a
            `ProvisionerSpec`.
    """
    if not dies_with(int(arguments[1])):
        return 1
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Who stops a whole session, or a service, speaks to the interchange too, which still has
        # jobs to cancel. A function, since jobs would inherit that a signal is ignored.
        signal.signal(number, lambda number, frame: None)
    link = socket.socket(fileno=int(arguments[0]))
    frames = Frames(link)
    waiting: list[bytes] = []
    while not waiting:
        received = frames.receive()
        if received is None:
            return 1
        waiting += received
    spec = _spec_decoder.decode(waiting.pop(0))
    Provisioner(link, frames, spec).run([_decoder.decode(data) for data in waiting])
    return 0


class Provisioner:
    """Reads the link, and watches blocks."""

    def __init__(self, link: socket.socket, frames: Frames, spec: pro.ProvisionerSpec) -> None:
        setproctitle(f"fxhpc: provisioner {spec.endpoint}")
        self._link = link
        self._frames = frames
        self._spec = spec
        self._sending = threading.Lock()
        self._requests: queue.SimpleQueue[pro.ToProvisioner] = queue.SimpleQueue()
        self._files = BlockFiles(spec.directory)
        self._asked = self._answered = 0  # requests; each is counted by one thread
        self._watched: dict[str, pro.BlockRef] = {}  # those that have not ended, by name
        _log_to(spec)
        _forget_our_path()

    def run(self, requests: list[pro.ToProvisioner]) -> None:
        """Serve until the interchange closes the link.

        Args:
            requests: those that were read already.
        """
        for request in requests:
            self._take(request)
        try:
            spec = self._spec
            install_script(Path(spec.directory), spec.python, spec.container)
            os.chdir(self._spec.directory)  # where batch systems leave what they name themselves
        except OSError as error:
            self._fail(f"{error.filename or self._spec.directory}: {error.strerror or error}")
            return
        threading.Thread(target=self._work, daemon=True).start()
        next_clean = time.monotonic()
        while True:
            # The other thread may be about to have something to watch.
            timeout = LOOK_S if self._watched or self._answered < self._asked else None
            readable, _, _ = select.select([self._link], [], [], timeout)
            if readable:
                received = self._frames.receive()
                if received is None:
                    break
                for data in received:
                    self._take(_decoder.decode(data))
            self._look_for_ends()
            if time.monotonic() >= next_clean:
                next_clean = time.monotonic() + CLEAN_S
                self._files.clean(set(self._watched))
                self._files.clean_logs(self._files.directory.parent / "manager-logs")
        log.info("ended: the interchange has closed the link")
        os._exit(0)  # whatever command is running ends with this process

    def _take(self, request: pro.ToProvisioner) -> None:
        if isinstance(request, pro.WatchBlocks):
            for block in request.blocks:
                self._watched.setdefault(block.name, block)
            return
        self._asked += 1
        self._requests.put(request)

    def _fail(self, reason: str) -> None:
        log.error("%s", reason)
        self._send(pro.ProvisionerFailed(reason))
        while self._frames.receive() is not None:
            pass  # the interchange knows; it ends this process when it likes

    def _work(self) -> None:
        """The thread that runs commands."""
        try:
            batch = Batch(self._spec)
        except ProviderError as error:
            log.error("%s", error)
            self._send(pro.ProvisionerFailed(str(error)))
            return
        self._send(pro.ProvisionerReady(batch.scheduler.name))
        while True:
            request = self._requests.get()
            try:
                self._send(self._answer(batch, request))
                self._answered += 1
            except Exception:
                log.exception("%s failed", type(request).__name__)
                os._exit(1)  # the interchange starts another one, and looks again

    def _answer(self, batch: Batch, request: pro.ToProvisioner) -> pro.FromProvisioner:
        if isinstance(request, pro.SubmitBlock):
            return self._submit(batch, request.block)
        if isinstance(request, pro.AskJobs):
            return self._look(batch, request.blocks)
        return self._cancel(batch, request.blocks)

    def _submit(self, batch: Batch, block: pro.BlockRef) -> pro.Submitted | pro.NotSubmitted:
        log.info("block %d: submitting %s", block.number, block.name)
        try:
            job = batch.submit(block)
        except CommandError as error:
            log.warning("block %d: not submitted: %s", block.number, error)
            return pro.NotSubmitted(block.number, str(error), error.away, error.unclear)
        log.info("block %d: job %s", block.number, job)
        self._watched[block.name] = pro.BlockRef(block.number, block.name, job)
        return pro.Submitted(block.number, job)

    def _look(self, batch: Batch, blocks: list[pro.BlockRef]) -> pro.Jobs:
        batch.adopt([block.job for block in blocks if block.job])
        try:
            reports = batch.scheduler.look(blocks)
        except CommandError as error:
            log.warning("nothing is known of %d jobs: %s", len(blocks), error)
            return pro.Jobs([], str(error))
        jobs = {report.block: report for report in reports}
        for block in blocks:
            report = jobs.get(block.number)
            if report is None or report.phase not in (pro.JobPhase.ENDED, pro.JobPhase.MISSING):
                job = report.job if report is not None else block.job
                self._watched[block.name] = pro.BlockRef(block.number, block.name, job)
            elif self._watched.pop(block.name, None) is not None:
                log.info("block %d: job %s: %s", block.number, report.job, report.words)
        return pro.Jobs(reports)

    def _cancel(self, batch: Batch, blocks: list[pro.BlockRef]) -> pro.CancelDone:
        log.info("cancelling blocks %s", ", ".join(str(block.number) for block in blocks))
        try:
            done, failed = batch.cancel(blocks), ""
        except CommandError as error:
            done, failed = [], str(error)
        if len(done) < len(blocks):
            failed = failed or "they are still there"
            log.warning("not cancelled: %s", failed)
        return pro.CancelDone(done, failed if len(done) < len(blocks) else "")

    def _look_for_ends(self) -> None:
        if not self._watched:
            return
        try:
            ended = self._files.ended() & set(self._watched)
        except OSError as error:
            log.warning("%s: %s", self._spec.directory, error.strerror or error)
            return
        reports = []
        for name in sorted(ended):
            # It may be an old note: of a job that was started again under the same id.
            block = self._watched.pop(name, None)
            if block is not None and self._files.exit_code(name) is not None:
                report = ended_report(self._files, block, block.job, "ended")
                code = self._files.exit_code(name)
                report.killed = code == _TERMINATED and self._spec.provider.get("type") in ASKED
                log.info("block %d: job %s %s", block.number, block.job, report.words)
                reports.append(report)
        if reports:
            self._send(pro.Jobs(reports, unasked=True))

    def _send(self, message: pro.FromProvisioner) -> None:
        try:
            with self._sending:
                self._link.sendall(frame(_encode(message)))
        except OSError:
            os._exit(0)  # the interchange is gone


def _log_to(spec: pro.ProvisionerSpec) -> None:
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    with contextlib.suppress(OSError):  # blocks are worth more than a log of them
        if spec.log_file:
            handler = logging.handlers.RotatingFileHandler(
                spec.log_file, maxBytes=spec.log_bytes, backupCount=1
            )
    logging.basicConfig(
        handlers=[handler], format="%(asctime)s %(process)d %(levelname)s %(message)s", level="INFO"
    )
    make_logs_safe()
    logging.getLogger("parsl").setLevel(logging.ERROR)


def _forget_our_path() -> None:
    """What this process needs to find fxhpc is nothing for jobs: batch systems hand it on."""
    root = os.path.realpath(Path(__file__).parents[3])
    paths = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in paths if path and os.path.realpath(path) != root]
    if kept:
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)

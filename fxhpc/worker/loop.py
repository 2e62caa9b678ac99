"""A worker's loop: takes work from its socket, notes in its page where it is, sends outcomes."""

from __future__ import annotations

import importlib
import mmap
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from fxhpc.protocol.outcome import Outcome
from fxhpc.protocol.pool import (
    ARRAY_32,
    BATCH_HEAD,
    BEGUN,
    CALL,
    DETACHED_BYTES,
    HELD,
    HELD_FROM,
    NO_CALL,
    OUTCOMES,
    OUTCOMES_BYTES,
    SKIP_FROM,
    SKIP_TO,
    WORD_BYTES,
    Bytes,
    Forget,
    SeedSpec,
    Stop,
    ToWorker,
    Work,
    WorkRun,
    attach_payloads,
)
from fxhpc.worker import forks
from fxhpc.worker.calls import CallMaker
from fxhpc.worker.channel import Channel, Closed
from fxhpc.worker.orphans import Orphans
from fxhpc.worker.run import ERROR, Runner
from fxhpc.worker.state import State
from fxhpc.worker.surroundings import Surroundings
from fxhpc.worker.usage import TOLD_FROM_S, Usage

if TYPE_CHECKING:
    from fxhpc.worker.capture import Capture

#: An outcome is not kept back for longer than this, unless a task is running.
FLUSH_S = 0.005

_decode = msgspec.msgpack.Decoder(ToWorker).decode
_encode = msgspec.msgpack.Encoder().encode
_clock = time.perf_counter


class Worker:
    """One worker process.

    Args:
        page: what it shares with its manager.
        kept: a file in which the manager finds how calls of chunks have ended; -1: there is none.
        serializer: the module that unpacks and packs.
        spec: what all workers of the manager have in common.
        captured: the files for what tasks print, if that is asked for; see `Capture`.
    """

    def __init__(
        self,
        sock: socket.socket,
        page: memoryview,
        serializer: str,
        spec: SeedSpec,
        captured: tuple[int, int],
        kept: int = -1,
    ) -> None:
        self._page = page
        self._words = page[:WORD_BYTES].cast("Q")
        self._channel = Channel(sock, self._words)
        self._runner = Runner(importlib.import_module(serializer))
        self._calls = CallMaker(self._runner, self._words, kept)
        self._bodies: dict[bytes, bytes | memoryview] = {}
        self._files: dict[bytes, int] = {}  # what of these is mapped: the descriptors
        self._state = State()
        self._runner.loader.initializing = self._state.keeping
        self._surroundings: Surroundings | None = None
        if spec.task_variables or spec.sandbox:
            self._surroundings = Surroundings(self._state, os.fsdecode(spec.sandbox))
        self._spill = os.fsdecode(spec.spill)
        self._captured = captured
        self._capture: Capture | None = None
        self._orphans = Orphans()
        self._usage = Usage()
        self._pid = os.getpid()
        self._count = 0  # outcomes in the batch
        self._used = 0  # bytes of them
        self._place = 0  # of the first of them
        self._since = 0.0  # when the first of their tasks began
        self._told = 0  # the place after the last one that was told
        forks.watch()

    def serve(self) -> None:
        """Work until there will be no more work."""
        try:
            self._channel.send([BATCH_HEAD.pack(0, 0.0, ARRAY_32, 0)])  # ready
            while True:
                data, rest = self._channel.receive()
                message = _decode(data)
                if isinstance(message, Work):
                    if rest:
                        attach_payloads(message, rest)
                    self._work(message)
                elif isinstance(message, Bytes):
                    self._keep(message)
                elif isinstance(message, Forget):
                    for digest in message.digests:
                        self._forget(digest)
                elif isinstance(message, Stop):
                    return
        except Closed:
            return

    def _keep(self, message: Bytes) -> None:
        self._forget(message.digest)
        data: bytes | memoryview = message.data
        fd = self._channel.fd
        if fd >= 0:
            data = memoryview(mmap.mmap(fd, message.size, prot=mmap.PROT_READ))
            self._files[message.digest] = fd
        self._bodies[message.digest] = data
        self._runner.loader.bodies.put(message.digest, data, fd)

    def _forget(self, digest: bytes) -> None:
        self._bodies.pop(digest, None)
        self._runner.loader.bodies.drop(digest)
        if (fd := self._files.pop(digest, -1)) >= 0:
            os.close(fd)

    def _work(self, work: Work) -> None:
        self._runner.loader.refresh()
        if _clock() >= self._orphans.look_at:
            self._orphans.look()
        self._usage.begin()
        place = work.place
        for run in work.runs:
            place = self._run(run, place)
        if self._told != place:  # else each message more would wake the manager for nothing
            self._flush(place)

    def _run(self, run: WorkRun, place: int) -> int:
        """Run tasks of one stream; returns the place after them."""
        words, runner, state = self._words, self._runner, self._state
        index, limit = run.first, run.result_limit
        function: Callable[..., Any] | None = None
        failure: bytes | None = None
        capture, output = run.capture, b""
        prepared = bool(capture or self._surroundings)
        spills = run.spill and bool(self._spill)
        words[CALL] = NO_CALL
        for payload in run.payloads:
            # In this order: the manager writes what to skip, and then reads what was begun.
            words[BEGUN] = place + 1
            # The end alone mostly tells that nothing is to be skipped. Where it does not, it may be
            # that of a range of before: it is read again after the beginning.
            if place < words[SKIP_TO] and words[SKIP_FROM] <= place < words[SKIP_TO]:
                words[BEGUN] = place
                if self._count:
                    self._flush(place)
                place += 1
                index += 1
                continue
            start = _clock()
            unprepared = self._prepare(run, index) if prepared else None
            if function is None and failure is None:
                # Here and not before the loop: what a module does when it is imported, dying
                # included, is then this task's doing.
                try:
                    function = runner.load(run.function, self._bodies[run.function])
                except BaseException as error:
                    failure = runner.pack_error(error, limit)
            if unprepared is not None or function is None:
                kind, data = ERROR, unprepared or failure or b""
                if run.calls:
                    kind, data = self._calls.failed(run.calls, data)
            elif run.calls:
                first = index * run.calls
                of_calls = (self._spill, run.stream, first) if spills else None
                enter = self._entering(run, first) if self._surroundings else None
                again = run if run.kept is not None else None
                kind, data = self._calls.run(
                    function, payload, limit, run.given_up, of_calls, enter, again
                )
            else:
                spill = (self._spill, run.stream, index) if spills else None
                kind, data = runner.call(function, payload, limit, spill)
            end = _clock()
            if forks.is_child:
                os._exit(0)  # the task forked, and this is its child, which came back from it
            if capture and self._capture is not None:
                output = self._capture.end(capture)
            ran = end - start
            told = output if ran < TOLD_FROM_S else self._usage.told(ran, output)
            state.restore()
            self._add(Outcome(index, kind, data, ran, told), place, start)
            if self._count and end - self._since >= FLUSH_S:
                self._flush(place + 1)
            place += 1
            index += 1
        return place

    def _prepare(self, run: WorkRun, index: int) -> bytes | None:
        """Make ready for a task what its endpoint or its submitter wants; the error, if any."""
        try:
            if self._surroundings is not None and not run.calls:
                self._surroundings.enter(run.stream, index)
            if run.capture:
                if self._capture is None:
                    from fxhpc.worker.capture import Capture  # takes its time; few want it

                    self._capture = Capture(self._captured, self._words)
                self._capture.begin()
        except OSError as error:
            return self._runner.pack_error(error, run.result_limit)
        return None

    def _entering(self, run: WorkRun, first: int) -> Callable[[int], None]:
        """What makes ready for each call of a chunk, whose first has this number."""
        assert self._surroundings is not None
        enter = self._surroundings.enter
        return lambda call: enter(run.stream, first + call)

    def _add(self, outcome: Outcome, place: int, start: float) -> None:
        """Put an outcome into the batch."""
        if len(outcome.data) > DETACHED_BYTES or len(outcome.output) > DETACHED_BYTES:
            self._send_large(outcome, place, start)
            return
        data = _encode(outcome)
        size = len(data)
        if self._used + size > OUTCOMES_BYTES:
            self._flush(place)
        if not self._count:
            self._place = self._words[HELD_FROM] = place
            self._since = start
        at = OUTCOMES + self._used
        self._page[at : at + size] = data
        self._used += size
        self._count += 1
        self._words[HELD] = self._count << 32 | self._used

    def _send_large(self, outcome: Outcome, place: int, start: float) -> None:
        """Send an outcome on its own, its data behind it if they are what is large."""
        if self._count:
            self._flush(place)
        self._check_process()
        head = BATCH_HEAD.pack(place, _clock() - start, ARRAY_32, 1)
        data, behind = outcome.data, b""
        if len(data) > DETACHED_BYTES:
            data, behind = cast(Any, len(data)), bytes(data)
        small = Outcome(outcome.index, outcome.kind, data, outcome.ran, outcome.output)
        self._channel.send([head, _encode(small)], behind)
        self._told = place + 1
        self._state.restore_rest()

    def _flush(self, place: int) -> None:
        """Send the batch, or just the place that the worker has come to."""
        self._check_process()
        self._told = place
        if not self._count:
            self._channel.send([BATCH_HEAD.pack(place, 0.0, ARRAY_32, 0)])
            return
        head = BATCH_HEAD.pack(self._place, _clock() - self._since, ARRAY_32, self._count)
        self._channel.send([head, self._page[OUTCOMES : OUTCOMES + self._used]])
        # From here on the outcomes may be seen twice, in the socket and in the page, if the worker
        # is killed. Their places tell.
        self._words[HELD] = 0
        self._count = self._used = 0
        self._state.restore_rest()

    def _check_process(self) -> None:
        """A child that a task made without Python's notice must not touch the socket."""
        if os.getpid() != self._pid:
            os._exit(0)

"""The workers' side of a manager: seed, sockets, pages and output. No decisions."""

from __future__ import annotations

import dataclasses
import mmap
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import msgspec

from fxhpc.manager import events as ev
from fxhpc.manager import processes
from fxhpc.manager.bodies import Bodies
from fxhpc.manager.channel import Channel, Closed, make_pair
from fxhpc.manager.memory import OomKills
from fxhpc.manager.node import Place
from fxhpc.manager.output import Output
from fxhpc.message_files import anonymous_file
from fxhpc.protocol import pool

#: Seconds between two looks at how much tasks have printed whose output is wanted.
CUT_S = 0.1

_AT_ONCE = 64

_encode = msgspec.msgpack.Encoder().encode
_decode_seed = msgspec.msgpack.Decoder(pool.FromSeed).decode


class Worker:
    """What the manager shares with one worker."""

    def __init__(self, number: int, log: Callable[[bytes], None] | None = None) -> None:
        self.number = number
        self.pid = 0
        self.gone = False
        self.page_fd = anonymous_file()
        os.ftruncate(self.page_fd, pool.PAGE_BYTES)
        self.page = memoryview(mmap.mmap(self.page_fd, pool.PAGE_BYTES))
        self.words = self.page[: pool.WORD_BYTES].cast("Q")
        self.channel, self.their_socket = make_pair(self.words)
        self.output = Output(log)

    def handed_over(self) -> None:
        """The seed has its ends; close them here."""
        self.their_socket.close()
        os.close(self.page_fd)
        os.close(self.output.their_fd)

    def close(self) -> None:
        """Let go of everything."""
        self.channel.close()
        self.output.close()
        self.words.release()


class Crew:
    """All workers of a manager, and the seed that makes them.

    Args:
        selector: where sockets are registered. The data of each key is a function to be called
            with the events that are ready.
        tell: takes the events for the core.
        seed: a socket to a seed that runs already, and its pid; a first message was not sent yet.
        places: what each worker has for itself. As many workers live at a time, at most.
        log_of: what takes all that the worker of this number prints, if it is wanted.

    Attributes:
        bodies: of functions and shared arguments, for all workers.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        tell: Callable[[ev.Event], None],
        spec: pool.SeedSpec,
        seed: tuple[socket.socket, int],
        places: Sequence[Place],
        log_of: Callable[[int], Callable[[bytes], None] | None] = lambda number: None,
    ) -> None:
        self._selector = selector
        self._tell = tell
        self._spec = spec
        self._places = places
        self._free = list(range(len(places)))  # positions of places
        self._place_of: dict[int, int] = {}
        self._log_of = log_of
        self._oom = OomKills()
        self._captures = False  # the output of tasks was asked for
        self._cut = 0.0
        self._workers: dict[int, Worker] = {}
        self.bodies = Bodies()
        self._seed_process: subprocess.Popen[bytes] | None = None
        self._seed = self._adopt_seed(Channel(seed[0]))

    # --- what the core wants --------------------------------------------------------------------

    def start(self, number: int) -> None:
        """Have a worker made."""
        worker = Worker(number, self._log_of(number))
        self._workers[number] = worker
        place = Place()
        if self._free:
            self._place_of[number] = self._free.pop(0)
            place = self._places[self._place_of[number]]
        self._watch(worker.channel, lambda mask: self._on_worker(worker, mask))
        self._selector.register(
            worker.output.fd, selectors.EVENT_READ, lambda _: self._on_output(worker)
        )
        fds = (worker.their_socket.fileno(), worker.page_fd, worker.output.their_fd)
        fork = pool.Fork(number, place.cores, place.environ)
        try:
            self._seed.send(_encode(fork), (*fds, *worker.output.captured))
        except Closed:
            pass  # its end is noticed, and tells of this worker too
        worker.handed_over()
        self._watch_writes(self._seed)

    def send(self, number: int, message: pool.ToWorker, size: int) -> None:
        """Send to a worker; one that is dead will be reported as such. The bytes of a `pool.Bytes`
        are those that `bodies` has. `size`: of its payloads.
        """
        worker = self._workers.get(number)
        if worker is None or worker.gone:
            return
        if isinstance(message, pool.Work) and not self._captures:
            self._captures = any(run.capture for run in message.runs)
        try:
            if isinstance(message, pool.Bytes):
                given, fds = self.bodies.message(message.digest)
                worker.channel.send(_encode(given), fds)
            elif size > pool.DETACHED_BYTES and isinstance(message, pool.Work):
                message, behind = pool.detach_payloads(message)
                worker.channel.send(_encode(message), behind=behind)
            else:
                worker.channel.send(_encode(message))
        except Closed:
            return
        if worker.channel.waits:
            self._watch_writes(worker.channel)

    def skip(self, number: int, begin: int, end: int) -> None:
        """Write into its page what a worker shall not begin."""
        if worker := self._workers.get(number):
            words = worker.words
            # Written so that the worker never sees a range that was not meant.
            if words[pool.SKIP_TO] != end:
                words[pool.SKIP_FROM] = 2**64 - 1
                words[pool.SKIP_TO] = end
            words[pool.SKIP_FROM] = begin

    def hold(self) -> None:
        """Have no worker begin anything more."""
        for number in self._workers:
            self.skip(number, 0, 2**64 - 1)

    def kill(self, number: int, show_where: bool = False) -> None:
        """End a worker, and all that it has started."""
        try:
            self._seed.send(_encode(pool.Kill(number, show_where)))
        except Closed:
            pass

    def begun(self) -> dict[int, int]:
        """What all pages say."""
        return {number: worker.words[pool.BEGUN] for number, worker in self._workers.items()}

    def cut_outputs(self, now: float) -> None:
        """Free the memory of what tasks have printed and nobody can ask for any more."""
        if self._captures and now - self._cut >= CUT_S:
            self._cut = now
            for worker in self._workers.values():
                worker.output.cut()

    def look_at_memory(self, now: float) -> None:
        """Note how often the kernel has killed for memory, to see later whether it has again."""
        self._oom.look(now)

    def read_pages(self) -> None:
        """Take all outcomes that workers have not sent yet."""
        for number in list(self._workers):
            self.read_page(number)

    def read_page(self, number: int) -> None:
        """Take the outcomes in the page of a worker, if it is at the same task all the while."""
        worker = self._workers.get(number)
        if worker is None:
            return
        before = bytes(worker.page[: pool.WORD_BYTES])
        try:
            batch = pool.held_batch(worker.page, worker.words)
        except msgspec.DecodeError:
            return
        # Without outcomes the page does not tell where the worker is.
        if batch.outcomes and bytes(worker.page[: pool.WORD_BYTES]) == before:
            self._tell(ev.WorkerSaid(number, batch))

    def close(self) -> None:
        """End all workers and the seed, and whatever they have left behind."""
        self._seed.close()
        processes.kill_children(set(), within_s=2.0)
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
        self.bodies.close()

    # --- what happens ---------------------------------------------------------------------------

    def _on_worker(self, worker: Worker, mask: int) -> None:
        if worker.number not in self._workers:
            return  # it was buried in this same turn
        try:
            if mask & selectors.EVENT_WRITE:
                worker.channel.flush()
                if not worker.channel.waits:
                    self._watch_reads(worker.channel)
            for batch in self._batches(worker):
                self._tell(ev.WorkerSaid(worker.number, batch))
        except (Closed, msgspec.DecodeError, struct.error):
            # It is dead; or it closed its end, or talks nonsense, and cannot go on. What became of
            # it, its parent will say.
            if not worker.gone:
                worker.gone = True
                self._selector.unregister(worker.channel)
                self.kill(worker.number)

    def _batches(self, worker: Worker) -> Iterator[pool.Batch]:
        for _ in range(_AT_ONCE):
            received = worker.channel.receive()
            if received is None:
                return
            yield pool.decode_batch(received[0], received[1])

    def _on_output(self, worker: Worker) -> None:
        if worker.number in self._workers and not worker.output.read():
            self._selector.unregister(worker.output.fd)

    def _on_seed(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._seed.flush()
                if not self._seed.waits:
                    self._watch_reads(self._seed)
            while received := self._seed.receive():
                message = _decode_seed(received[0])
                if isinstance(message, pool.Forked):
                    if worker := self._workers.get(message.worker):
                        worker.pid = message.pid
                        self._tell(ev.WorkerStarted(message.worker, message.pid))
                else:
                    code = os.waitstatus_to_exitcode(message.status)
                    self._exited(
                        message.worker,
                        ev.WorkerGone(
                            message.worker,
                            0,
                            signal=-code if code < 0 else 0,
                            exit_code=code if code >= 0 else -1,
                            peak_memory=message.peak_memory,
                        ),
                    )
        except Closed:
            self._seed_lost()

    def _exited(self, number: int, gone: ev.WorkerGone) -> None:
        """A worker is dead: read what it has left, then tell of it."""
        worker = self._workers.get(number)
        if worker is None:
            return
        try:
            while not worker.gone and (received := worker.channel.receive()):
                self._tell(ev.WorkerSaid(number, pool.decode_batch(received[0], received[1])))
        except (Closed, msgspec.DecodeError, struct.error):
            pass
        try:
            batch = pool.held_batch(worker.page, worker.words)
        except msgspec.DecodeError:
            pass  # it was killed while it wrote; what is missing then counts as not ended
        else:
            if batch.outcomes:
                self._tell(ev.WorkerSaid(number, batch))
        worker.output.read()
        begins = (worker.words[pool.PRINTED_OUT], worker.words[pool.PRINTED_ERR])
        gone = dataclasses.replace(
            gone,
            begun=worker.words[pool.BEGUN],
            stderr=worker.output.tail(begins),
            printed=worker.output.printed(begins) if self._captures else None,
            oom=self._oom.evidence() if gone.signal == signal.SIGKILL else "",
        )
        self._forget(worker)
        self._tell(gone)

    def _forget(self, worker: Worker) -> None:
        del self._workers[worker.number]
        if not worker.gone:
            self._selector.unregister(worker.channel)
        if worker.output.fd in self._selector.get_map():
            self._selector.unregister(worker.output.fd)
        worker.close()
        if worker.number in self._place_of:
            self._free.append(self._place_of.pop(worker.number))

    def _seed_lost(self) -> None:
        """The seed is dead, and so are all workers: they are killed with it."""
        self._selector.unregister(self._seed)
        self._seed.close()
        processes.kill_children(set())
        lost = list(self._workers)
        ours, theirs = make_pair()
        self._seed_process = subprocess.Popen(
            [sys.executable, "-m", "fxhpc.manager.seed", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd="/",
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._seed = self._adopt_seed(ours)
        for number in lost:
            self._exited(number, ev.WorkerGone(number, 0, signal=signal.SIGKILL, seed_lost=True))

    def _adopt_seed(self, channel: Channel) -> Channel:
        try:
            channel.send(_encode(self._spec))
        except Closed:
            pass
        self._watch(channel, self._on_seed)
        return channel

    # --- the selector ---------------------------------------------------------------------------

    def _watch(self, channel: Channel, call: Callable[[int], None]) -> None:
        self._selector.register(channel, selectors.EVENT_READ, call)

    def _watch_writes(self, channel: Channel) -> None:
        if channel.waits and channel in self._selector.get_map():
            key = self._selector.get_key(channel)
            self._selector.modify(channel, selectors.EVENT_READ | selectors.EVENT_WRITE, key.data)

    def _watch_reads(self, channel: Channel) -> None:
        self._selector.modify(channel, selectors.EVENT_READ, self._selector.get_key(channel).data)

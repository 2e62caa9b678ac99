"""The workers' side of a manager: sockets, pages and output. No decisions."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from fxhpc.manager import events as ev
from fxhpc.manager.bodies import Bodies
from fxhpc.manager.channel import Channel, Closed
from fxhpc.manager.resources.limits import Limits
from fxhpc.manager.resources.memory import OomKills
from fxhpc.manager.resources.places import Places
from fxhpc.manager.seeds.seeds import Seeds
from fxhpc.manager.sharing import Worker
from fxhpc.protocol import pool
from fxhpc.protocol.needs import Lease, needs_of

#: Seconds between two looks at how much tasks have printed whose output is wanted.
CUT_S = 0.1

_AT_ONCE = 64

_NO_OPTIONS: Mapping[str, str] = {}

_encode = msgspec.msgpack.Encoder().encode


class Crew:
    """All workers of a manager, and the seeds that make them.

    Args:
        selector: where sockets are registered. The data of each key is a function to be called
            with the events that are ready.
        tell: takes the events for the core.
        seed: a socket to a seed that runs already, and its pid; a first message was not sent yet.
        places: what each worker has for itself.
        log_of: what takes all that the worker of this name prints, if it is wanted.
        limits: those of workers that have a lease of memory; None: these are looked at.
        inside: what seeds in containers are told; None: the same as others.
        options: more words for the command that starts containers of each kind.

    Attributes:
        limits: as given.
        bodies: of functions and shared arguments, for all workers.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        tell: Callable[[ev.Event], None],
        spec: pool.SeedSpec,
        seed: tuple[socket.socket, int],
        places: Places,
        log_of: Callable[[str], Callable[[bytes], None] | None] = lambda worker: None,
        limits: Limits | None = None,
        inside: pool.SeedSpec | None = None,
        options: Mapping[str, str] = _NO_OPTIONS,
    ) -> None:
        self._selector = selector
        self._tell = tell
        self._places = places
        self._log_of = log_of
        self._oom = OomKills()
        self.limits = Limits(None) if limits is None else limits
        self._captures = False  # the output of tasks was asked for
        self._cut = 0.0
        self._workers: dict[int, Worker] = {}
        self.bodies = Bodies()
        inside = spec if inside is None else inside
        first = Channel(seed[0])
        self._seeds = Seeds(selector, self._on_seed, spec, first, inside, options)

    # --- what the core wants --------------------------------------------------------------------

    def start(
        self,
        number: int,
        cell: int,
        lease: Lease | None = None,
        needs: bytes = b"",
        hosts: Sequence[str] = (),
    ) -> None:
        """Have a worker made, for what a cell has, or for a lease.

        Args:
            hosts: of its task, if that has several nodes.
        """
        if lease is None:
            place = self._places.cell(cell)
        else:
            place = self._places.lease(number, lease, needs_of(needs), hosts)
        worker = Worker(number, self._log_of(place.name or str(number)))
        worker.memory = lease.memory if lease is not None else 0
        self._workers[number] = worker
        self._watch(worker.channel, lambda mask: self._on_worker(worker, mask))
        self._selector.register(
            worker.output.fd, selectors.EVENT_READ, lambda _: self._on_output(worker)
        )
        fork = pool.Fork(number, place.cores, place.environ, place.without)
        container = needs_of(needs).container
        try:
            worker.seed = self._seeds.of(container)
        except OSError as error:
            worker.handed_over()
            worker.trouble = f"{container} cannot be started: {error}"
            self._exited(number, ev.WorkerGone(number, 0, exit_code=1))
            return
        self._seeds.say(worker.seed, fork, worker.their_fds)  # its end tells of this worker too
        worker.handed_over()

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
        worker = self._workers.get(number)
        if worker is not None and worker.seed is not None:
            self._seeds.say(worker.seed, pool.Kill(number, show_where))

    def begun(self) -> dict[int, int]:
        """What all pages say."""
        return {number: worker.words[pool.BEGUN] for number, worker in self._workers.items()}

    def calls(self, numbers: Iterable[int]) -> dict[int, int]:
        """At which calls of their chunks these workers are; -1: at none."""
        return {
            number: _call_in(worker.words)
            for number in numbers
            if (worker := self._workers.get(number))
        }

    def cut_outputs(self, now: float) -> None:
        """Free the memory of what tasks have printed and nobody can ask for any more."""
        if self._captures and now - self._cut >= CUT_S:
            self._cut = now
            for worker in self._workers.values():
                worker.output.cut()

    def look_at_memory(self, now: float) -> None:
        """Note how often the kernel has killed for memory, to see later whether it has again; and
        tell which workers are over their limits.
        """
        self._oom.look(now)
        for over in self.limits.look(now, self._task_of):
            self._tell(ev.MemoryExceeded(over))

    def look_at_containers(self, now: float) -> None:
        """End those that nobody needs any more."""
        for seed in self._seeds.idle(now):
            self._seed_lost(seed)

    def _task_of(self, number: int) -> int:
        worker = self._workers.get(number)
        return worker.words[pool.BEGUN] if worker is not None else 0

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

    def left(self) -> dict[int, ev.WorkerGone]:
        """Of workers that are to be ended: what they have kept of calls, if it is anything, and
        what they printed in the task that they are at.
        """
        found: dict[int, ev.WorkerGone] = {}
        for number, worker in self._workers.items():
            begun = worker.words[pool.BEGUN]
            if not (kept := worker.kept()) or worker.words[pool.BEGUN] != begun:
                continue
            begins = (worker.words[pool.PRINTED_OUT], worker.words[pool.PRINTED_ERR])
            printed = worker.output.printed(begins) if self._captures else None
            found[number] = ev.WorkerGone(number, begun, kept=kept, printed=printed)
        return found

    def close(self) -> None:
        """End all workers and the seed, and whatever they have left behind."""
        self._seeds.close()
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
        self.limits.close()
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

    def _on_seed(self, seed: Channel, mask: int) -> None:
        try:
            for message in self._seeds.heard(seed, mask):
                worker = self._workers.get(message.worker)
                if worker is None or worker.seed is not seed:
                    continue  # a seed in an image speaks of its own alone
                if isinstance(message, pool.Forked):
                    self._forked(worker, seed, message.pid)
                    continue
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
        except (Closed, msgspec.DecodeError):
            if not self._seeds.is_ending(seed, time.monotonic()):
                self._seed_lost(seed)

    def _forked(self, worker: Worker, seed: Channel, pid: int) -> None:
        worker.pid = pid
        if worker.memory:
            if here := self._seeds.pid_here(seed, pid):
                now, grouped = time.monotonic(), not self._seeds.is_inside(seed)
                self.limits.watch(worker.number, here, worker.memory, now, grouped=grouped)
            else:
                worker.trouble = (
                    f"process {pid} of its container cannot be seen from outside, so that nobody "
                    f"would keep its memory's limit"
                )
                self.kill(worker.number)
        self._tell(ev.WorkerStarted(worker.number, pid))

    def _exited(self, number: int, gone: ev.WorkerGone) -> None:
        """A worker is dead: read what it has left, then tell of it."""
        worker = self._workers.get(number)
        if worker is None:
            return
        try:
            # Also if it was found to be gone when something was sent to it.
            while received := worker.channel.receive():
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
        gone = msgspec.structs.replace(
            gone,
            begun=worker.words[pool.BEGUN],
            call=_call_in(worker.words),
            kept=worker.kept(),
            stderr=worker.trouble or gone.stderr or worker.output.tail(begins),
            printed=worker.output.printed(begins) if self._captures else None,
            oom=self._oom.evidence() if gone.signal == signal.SIGKILL else "",
            over=self.limits.ended(number, worker.words[pool.BEGUN]),
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
        self._places.free(worker.number)
        if worker.seed is not None:
            self._seeds.left(worker.seed, time.monotonic())

    def _seed_lost(self, seed: Channel) -> None:
        """A seed is dead, and so are its workers: they are killed with it."""
        gone, are_all = self._seeds.lost(seed)
        for number, worker in list(self._workers.items()):
            if are_all or worker.seed is seed:
                self._exited(number, msgspec.structs.replace(gone, worker=number))

    # --- the selector ---------------------------------------------------------------------------

    def _watch(self, channel: Channel, call: Callable[[int], None]) -> None:
        self._selector.register(channel, selectors.EVENT_READ, call)

    def _watch_writes(self, channel: Channel) -> None:
        if channel.waits and channel in self._selector.get_map():
            key = self._selector.get_key(channel)
            self._selector.modify(channel, selectors.EVENT_READ | selectors.EVENT_WRITE, key.data)

    def _watch_reads(self, channel: Channel) -> None:
        self._selector.modify(channel, selectors.EVENT_READ, self._selector.get_key(channel).data)


def _call_in(words: memoryview) -> int:
    """The call of its chunk that a worker is at, by its page; -1: at none."""
    call: int = words[pool.CALL]
    return -1 if call == pool.NO_CALL else call

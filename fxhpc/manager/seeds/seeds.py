"""A manager's seeds: the one that was forked from it, its successors, and those in containers."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from fxhpc.manager import processes
from fxhpc.manager.channel import Channel, Closed, make_pair
from fxhpc.manager.events import WorkerGone
from fxhpc.manager.seeds.images import Images
from fxhpc.protocol import pool
from fxhpc.protocol.containers import Container
from fxhpc.version import __version__

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(pool.FromSeed).decode

log = logging.getLogger("fxhpc.manager")

_SEED_LOST = WorkerGone(0, 0, signal=signal.SIGKILL, seed_lost=True)


class Seeds:
    """What makes workers. A seed is known by its channel.

    Args:
        selector: where channels are registered, with functions to be called with what is ready.
        hear: called with a seed of which there is something to hear, and with what is ready.
        spec: what the one on the node itself is told; `inside`: what those in containers are.
        first: to a seed on the node, that runs already; a first message was not sent yet.
        options: more words for the command that starts containers of each kind.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        hear: Callable[[Channel, int], None],
        spec: pool.SeedSpec,
        first: Channel,
        inside: pool.SeedSpec,
        options: Mapping[str, str],
    ) -> None:
        self._selector = selector
        self._hear = hear
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._own = first
        self._adopt(first, spec)
        self._images = Images(
            selector,
            inside,
            options,
            lambda channel: self._adopt(channel, inside),
            lambda channel: self._hear(channel, 0),
        )

    def of(self, container: Container | None) -> Channel:
        """The seed in such a container, which is started if it is not there; or that in none. One
        worker is to be made there.

        Raises:
            OSError: it cannot be started; the text says why.
        """
        return self._own if container is None else self._images.seed(container)

    def is_inside(self, seed: Channel) -> bool:
        """Whether it is in a container."""
        return seed is not self._own

    def say(self, seed: Channel, message: pool.ToSeed, fds: Sequence[int] = ()) -> None:
        """Tell it something. The end of one that is dead is noticed elsewhere."""
        with contextlib.suppress(Closed):
            seed.send(_encode(message), fds)
            self._watch(seed)

    def heard(self, seed: Channel, mask: int) -> Iterator[pool.Forked | pool.Exited]:
        """What it says; `mask`: what is ready.

        Raises:
            Closed: it is dead.
        """
        if mask & selectors.EVENT_WRITE:
            seed.flush()
            self._watch(seed)
        while received := seed.receive():
            message = _decode(received[0])
            if isinstance(message, pool.Forked):
                self._images.began(seed)
            yield message

    def pid_here(self, seed: Channel, pid: int) -> int:
        """What a worker's pid is outside of its container, if that is seen; else 0."""
        return self._images.pid_here(seed, pid) if self.is_inside(seed) else pid

    def left(self, seed: Channel, now: float) -> None:
        """A worker of this seed is gone."""
        self._images.left(seed, now)

    def idle(self, now: float) -> list[Channel]:
        """Those in containers that nobody needs any more: they are to be given up, see `lost`."""
        return self._images.look(now)

    def is_ending(self, seed: Channel, now: float) -> bool:
        """Whether what has started a seed that is dead has still to say why: it is to be given up
        when it is heard of once more, or named as idle.
        """
        if not self._images.is_ending(seed, now):
            return False
        self._unwatch(seed)  # its end would be told all the while
        return True

    def lost(self, seed: Channel) -> tuple[WorkerGone, bool]:
        """A seed is dead, or given up. If it is the one on the node, whatever it has left behind is
        killed, and it gets a successor; containers end then too.

        Returns how its workers have ended, without their numbers; and whether these are all.
        """
        self._unwatch(seed)
        if (gone := self._images.forget(seed)) is not None:
            return gone, False
        for channel in self._images.channels():
            self._unwatch(channel)
        self._images.close()
        self._own.close()
        processes.kill_children(set())
        ours, theirs = make_pair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fxhpc.manager.seeds.seed", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd="/",
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._own = ours
        self._adopt(ours, self._spec)
        _leave_if_replaced()
        return _SEED_LOST, True

    def close(self) -> None:
        """End all, and whatever they have left behind."""
        self._own.close()
        self._images.close()
        processes.kill_children(set(), within_s=2.0)

    def _adopt(self, seed: Channel, spec: pool.SeedSpec) -> None:
        with contextlib.suppress(Closed):
            seed.send(_encode(spec))
        self._selector.register(seed, selectors.EVENT_READ, lambda mask: self._hear(seed, mask))

    def _unwatch(self, seed: Channel) -> None:
        if seed in self._selector.get_map():
            self._selector.unregister(seed)

    def _watch(self, seed: Channel) -> None:
        """Have the selector tell when it takes what waits for it."""
        if seed not in self._selector.get_map():
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if seed.waits else 0)
        key = self._selector.get_key(seed)
        if key.events != wanted:
            self._selector.modify(seed, wanted, key.data)


def _leave_if_replaced() -> None:
    """End the manager in order if another version was installed: the seed that was just started is
    of that one, and what they say to each other is nobody else's, so that nothing keeps it alike.
    """
    from fxhpc.replaced import Installation  # here: hardly any seed is ever killed

    installation = Installation()
    if installation.version() not in ("", __version__):
        log.warning("the seed was killed, and %s: the manager ends", installation.words())
        os.kill(os.getpid(), signal.SIGTERM)

"""Where tasks run, and what became of earlier attempts: for display, in memory. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from fxhpc.forwarder.streams import RUNNING, SENT, Stream
from fxhpc.protocol import messages as msg
from fxhpc.protocol.outcome import ERROR, VALUE, Outcome, Output

#: Tasks that are remembered; the oldest are forgotten first. And of each, so many last attempts.
TASKS = 2000
STORIES = 5

#: Running tasks of which it is remembered where that is; the oldest are forgotten first.
RUNNING_TASKS = 10_000


class Running(NamedTuple):
    """Where a task runs, and since when, by the wall clock."""

    host: str
    manager: str
    since: float


_NOWHERE = Running("", "", 0.0)

_decode = msgspec.msgpack.Decoder(Output).decode
_encode = msgspec.msgpack.Encoder().encode


class _Story:
    """What became of one task so far."""

    __slots__ = ("attempt", "last", "then", "times")

    def __init__(self) -> None:
        self.times = 0
        self.last: list[str] = []  # what became of the last attempts, the oldest first
        self.then = ""  # where it runs next, if not as any other task
        self.attempt = (-1, 0)  # the last one that was lost: its epoch, and which one


class Attempts:
    """The stories of losses, as interchanges tell them while their tasks are pending again.

    The final error of a task that is lost for good has them all, from its interchange.
    """

    def __init__(self) -> None:
        self._stories: OrderedDict[tuple[bytes, int], _Story] = OrderedDict()
        self._running: OrderedDict[tuple[bytes, int], Running] = OrderedDict()

    def started(
        self, stream: bytes, indices: Iterable[int], message: msg.Started, wall: float
    ) -> None:
        """These tasks of a stream run now, says an interchange."""
        for index in indices:
            known = self._running.pop((stream, index), None)
            if not message.manager:  # said anew after a broken link: where that is has been said
                if known is not None:
                    self._running[stream, index] = known
                continue
            since = known.since if known and known.manager == message.manager else wall
            self._running[stream, index] = Running(message.host, message.manager, since)
        while len(self._running) > RUNNING_TASKS:
            self._running.popitem(last=False)

    def running(self, stream: bytes, index: int) -> Running:
        """Where a task runs that does run, as far as that is known."""
        return self._running.get((stream, index), _NOWHERE)

    def lost(self, message: msg.Lost, streams: Mapping[bytes, Stream]) -> None:
        """Attempts were lost, and there will be others: these tasks wait again."""
        for lost in message.tasks:
            stream = streams.get(lost.stream)
            if stream is not None and stream.state(lost.index) in (SENT, RUNNING):
                stream.states[lost.index] = SENT
                self._add(lost)

    def greeted(self, epoch: int, streams: list[Stream]) -> None:
        """The interchange of these is there: a later one knows nothing of what one before meant."""
        names = {stream.info.stream for stream in streams} if self._stories else set()
        for (name, _), story in self._stories.items():
            if name in names and story.attempt < (epoch, 0):
                story.then = ""

    def _add(self, lost: msg.LostTask) -> None:
        key = (lost.stream, lost.index)
        self._running.pop(key, None)
        story = self._stories.setdefault(key, _Story())
        attempt = (lost.epoch, lost.attempt)
        if attempt != story.attempt:  # or it is told again after a broken link
            story.times += 1
            story.last = [*story.last, lost.loss.text.rstrip(". ")][-STORIES:]
            story.then, story.attempt = lost.loss.then, attempt
        self._stories.move_to_end(key)
        while len(self._stories) > TASKS:
            self._stories.popitem(last=False)

    def ended(self, stream: bytes, outcomes: Iterable[Outcome]) -> None:
        """Tasks of a stream have ended: those that were lost before carry with them how often, and
        what became of these attempts. That of one which is lost for good says so itself.
        """
        if not self._stories:
            return  # as nearly always
        for outcome in outcomes:
            story = self._stories.pop((stream, outcome.index), None)
            if story is not None and outcome.kind in (VALUE, ERROR):
                outcome.output = _told(outcome.output, story)

    def tell(self, stream: bytes, index: int, reason: str, running: bool = False) -> str:
        """Why a task is pending, with what became of its earlier attempts, if it had any."""
        story = self._stories.get((stream, index)) if self._stories else None
        if story is None:
            return reason
        if story.times == 1:
            told = f"it was lost once: {story.last[0]}"
        else:
            first = story.times - len(story.last) + 1
            each = "; ".join(f"{number}. {text}" for number, text in enumerate(story.last, first))
            times = "twice" if story.times == 2 else f"{story.times} times"
            told = f"it was lost {times}{', at last' if first > 1 else ''}: {each}"
        then = f"{'now' if running else 'next'} it runs {story.then}" if story.then else ""
        return "; ".join(filter(None, (reason, told, then)))


def _told(packed: bytes, story: _Story) -> bytes:
    """What is told of a task, and of its earlier attempts."""
    try:
        output = _decode(packed) if packed else Output()
    except msgspec.DecodeError:
        return packed  # of another version
    output.lost, output.attempts = story.times, list(story.last)
    return _encode(output)

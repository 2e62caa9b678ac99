"""What became of earlier attempts at tasks that are tried again: for display, in memory. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from fxhpc.forwarder.streams import RUNNING, SENT, Stream
from fxhpc.protocol import messages as msg

#: Tasks that are remembered; the oldest are forgotten first.
TASKS = 2000


class Attempts:
    """The stories of losses, as interchanges tell them while their tasks are pending again.

    The final error of a task that is lost for good has them all, from its interchange.
    """

    def __init__(self) -> None:
        self._stories: OrderedDict[tuple[bytes, int], list[str]] = OrderedDict()

    def lost(self, message: msg.Lost, streams: Mapping[bytes, Stream]) -> None:
        """Attempts were lost, and there will be others: these tasks wait again."""
        for lost in message.tasks:
            stream = streams.get(lost.stream)
            if stream is not None and stream.state(lost.index) in (SENT, RUNNING):
                stream.states[lost.index] = SENT
                self._add(lost.stream, lost.index, lost.loss.text)

    def _add(self, stream: bytes, index: int, story: str) -> None:
        stories = self._stories.setdefault((stream, index), [])
        if story not in stories[-1:]:  # told again after a broken link
            stories.append(story.rstrip(". "))
        self._stories.move_to_end((stream, index))
        while len(self._stories) > TASKS:
            self._stories.popitem(last=False)

    def tell(self, stream: bytes, index: int, reason: str) -> str:
        """Why a task is pending, with what became of its earlier attempts, if it had any."""
        stories = self._stories.get((stream, index)) if self._stories else None
        if not stories:
            return reason
        count = len(stories)
        times = "once" if count == 1 else "twice" if count == 2 else f"{count} times, at last"
        told = "; then ".join(stories[-2:])
        return f"{f'{reason}; ' if reason else ''}it was lost {times}: {told}"

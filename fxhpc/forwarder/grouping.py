"""What a task group has: its streams, with counts by state and which tasks have ended. No I/O.

It is asked again and again by whoever wants a group's results as they come: a stream is looked at
as the bytes that its states are, never task by task.
"""

from __future__ import annotations

import re

from fxhpc.forwarder.causes import Cause, Causes
from fxhpc.forwarder.listing import Listing, counts_of
from fxhpc.forwarder.state import State
from fxhpc.forwarder.streams import DELIVERED, ENDED, Stream
from fxhpc.ids import calls_of
from fxhpc.protocol import service

#: Streams in an answer at most.
STREAMS = 5_000

_OVER = re.compile(b"[%c%c]+" % (ENDED, DELIVERED))


def answer(
    state: State, listing: Listing, known: Causes, message: service.GroupTasks
) -> service.GroupState:
    """The streams of a group, by name, from the one after which the caller wants them."""
    after = message.after
    names = sorted(
        name
        for name, stream in state.streams.items()
        if stream.info.group == message.group and name > after and stream.count
    )
    found = []
    for name in names[:STREAMS]:
        stream = state.streams[name]
        summary = listing.summary(stream, known, count=False)
        summary.counts = _counts(stream, listing.cause(stream, known))
        found.append(service.GroupStream(summary, stream.count, ended(stream)))
    return service.GroupState(message.call, found, len(names) > STREAMS)


def _counts(stream: Stream, cause: Cause) -> dict[str, int]:
    """How many of a stream's tasks are in which state; of chunks, how many of their calls."""
    most = calls_of(stream.info.stream)
    states, kinds = stream.states, stream.kinds or b""
    if not most:
        return counts_of(states, kinds, cause)
    sizes = stream.info.sizes
    if not sizes:  # an Executor's: not known, as `StreamInfo.sizes` says
        sizes = (most, len(states))
    parts: dict[int, list[slice]] = {}  # by how many calls the chunks have
    first = 0
    for size, alike in zip(sizes[::2], sizes[1::2], strict=False):
        parts.setdefault(min(size, most), []).append(slice(first, first + alike))
        first += alike
    found: dict[str, int] = {}
    for size, places in parts.items():
        codes = b"".join(states[place] for place in places)
        counts = counts_of(codes, b"".join(kinds[place] for place in places), cause)
        for state, count in counts.items():
            found[state] = found.get(state, 0) + count * size
    return found


def ended(stream: Stream) -> list[int]:
    """The tasks of a stream that have ended, as ranges."""
    ranges: list[int] = []
    for run in _OVER.finditer(stream.states):
        first, stop = run.span()
        ranges += (first, stop - first)
    return ranges

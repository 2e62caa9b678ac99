"""Numbering tasks: streams, and how their payloads are cut into submissions and messages."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING

from fxhpc import ids
from fxhpc.client.sending.shared import bodies_of
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.service import StreamRanges, Submission

if TYPE_CHECKING:
    from fxhpc.serialize.sharing import SharedBody

#: A submission is one row of the store: so many tasks or bytes at most, and one task at least.
ROW_TASKS = 1000
ROW_BYTES = 1 << 20

#: Bytes of payloads in one message.
MESSAGE_BYTES = 8 << 20

#: Submission times of a stream that lie closer together are not told apart, in seconds.
_SAME_TIME_S = 0.05


class Stream:
    """One stream of this client: its next number, and when its tasks were submitted."""

    def __init__(self, info: StreamInfo) -> None:
        self.info = info
        self.lock = threading.RLock()  # held from numbering to sending: numbers arrive in order
        self.next = 0
        # From numbering to sending, and ever after if that was interrupted: it may have a gap.
        self.is_broken = False
        self._submitted: list[tuple[int, float]] = []  # first numbers, and when

    def take(self, count: int, now: float) -> int:
        """The first of `count` numbers, submitted at this monotonic time. The lock is held."""
        if self.next + count > ids.STREAM_TASKS:
            raise OverflowError("a stream numbers 2**32 tasks")
        first = self.next
        self.next += count
        if not self._submitted or now - self._submitted[-1][1] > _SAME_TIME_S:
            self._submitted.append((first, now))
        return first

    def submitted(self, index: int) -> float:
        """The monotonic time when a task of this stream was submitted, to 50 ms."""
        if not self._submitted:
            return time.monotonic()
        position = bisect_right(self._submitted, index, key=itemgetter(0)) - 1
        return self._submitted[max(position, 0)][1]


def _no_body(body: SharedBody) -> None:
    raise ValueError("these arguments refer to a body, and nobody said how it is stored")


def cut(
    info: StreamInfo,
    first: int,
    payloads: list[bytes],
    put: Callable[[SharedBody], object] = _no_body,
) -> Iterator[Submission]:
    """Consecutive tasks as submissions, each fit for one row of the store.

    Args:
        put: has the bodies stored that a submission refers to, before it is given out.
    """
    begin = 0
    while begin < len(payloads):
        row = payloads[begin : begin + ROW_TASKS]
        if len(row) > 1 and sum(map(len, row)) > ROW_BYTES:
            row = row[: _fitting(row)]
        yield _row(info, first + begin, row, put)
        begin += len(row)


def _fitting(payloads: list[bytes]) -> int:
    """How many of these, from the first on, fit into a row; at least one."""
    size = len(payloads[0])
    for count, payload in enumerate(payloads[1:], 1):
        size += len(payload)
        if size > ROW_BYTES:
            return count
    return len(payloads)


def _row(
    info: StreamInfo, first: int, payloads: list[bytes], put: Callable[[SharedBody], object]
) -> Submission:
    sent, bodies = bodies_of(payloads)
    for body in bodies:
        put(body)
    return Submission(info, first, sent, [body.digest for body in bodies])


def pack_messages(submissions: Iterable[Submission]) -> Iterator[list[Submission]]:
    """Submissions as the contents of messages, each stored as a whole or not at all."""
    message: list[Submission] = []
    size = 0
    for submission in submissions:
        length = sum(map(len, submission.payloads))
        if message and size + length > MESSAGE_BYTES:
            yield message
            message, size = [], 0
        message.append(submission)
        size += length
    if message:
        yield message


def tasks_of(submissions: Iterable[Submission]) -> list[StreamRanges]:
    """The tasks of some submissions, as a message names them."""
    return [StreamRanges(s.info.stream, [s.first, len(s.payloads)]) for s in submissions]

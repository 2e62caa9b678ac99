"""Where tasks are that somebody cancels: here, or where they would have to be ended."""

from __future__ import annotations

from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.sending import Sending
from fxhpc.forwarder.streams import PARKED, QUEUED, RUNNING, SENT, STORING, Stream


class Found:
    """Tasks of one stream, by where they are."""

    def __init__(self) -> None:
        self.queued: list[int] = []  # here
        self.again: list[int] = []  # here, and were sent before: a manager may have them
        self.loading: list[int] = []  # likewise, on their way from here
        self.asked: list[int] = []  # likewise, and their interchange is asked who has them
        self.sent: list[int] = []
        self.running: list[int] = []
        self.storing: list[int] = []  # ended, maybe by another call: the answer shall be the same
        self.early: list[int] = []  # on their way into the store


def find(stream: Stream, indices: list[int], endpoint: Endpoint | None, sending: Sending) -> Found:
    """Where these tasks are, as far as they have not ended.

    Args:
        endpoint: where they are to run; None: nowhere for now.
    """
    found = Found()
    doubtful = endpoint is not None and (endpoint.doubtful or not endpoint.connected)
    again: set[int] | None = None
    unsent: dict[int, bool] | None = None
    for index in indices:
        if index >= stream.count:
            found.early.append(index)
            continue
        state = stream.states[index]
        if state == QUEUED and doubtful and endpoint is not None:
            if again is None:
                again = _within(endpoint.sent_before(stream), indices)
            (found.again if index in again else found.queued).append(index)
        elif state in (QUEUED, PARKED):
            found.queued.append(index)
        elif state == SENT:
            if unsent is None:
                unsent = sending.unsent(stream)
            if index in stream.asked:
                found.asked.append(index)
            elif index in unsent and not (doubtful and unsent[index]):
                found.queued.append(index)
            elif index in unsent:
                found.loading.append(index)
            else:
                found.sent.append(index)
        elif state == RUNNING:
            found.running.append(index)
        elif state == STORING:
            found.storing.append(index)
    return found


def _within(segments: list[tuple[int, int]], indices: list[int]) -> set[int]:
    """Those of these tasks that are in segments, given by first and count."""
    wanted = set(indices)
    found: set[int] = set()
    for first, count in segments:
        if count <= len(wanted):
            found.update(wanted.intersection(range(first, first + count)))
        else:
            found.update(index for index in wanted if first <= index < first + count)
    return found

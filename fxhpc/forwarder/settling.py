"""What is not known yet after a restart: which tasks of before run. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.state import State
from fxhpc.forwarder.streams import QUEUED, SENT, Stream

#: Seconds after a restart of forwarder or interchange until all that runs is known to run. Until
#: then nothing of before counts as not begun.
SETTLED_S = 3.0


class Settling:
    """Tells which tasks may run although nobody has said so yet."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._began: float | None = None

    def tick(self) -> None:
        """Time has passed."""
        if self._began is None:
            self._began = self._state.now

    def greeted(self, endpoint: Endpoint, epoch: int) -> None:
        """An interchange says what it holds: if it is another one, its managers come to it now."""
        if epoch != endpoint.epoch or not endpoint.epochs:
            endpoint.epoch = epoch
            endpoint.epochs += 1
            endpoint.settles_at = self._state.now + SETTLED_S

    def is_settled(self, stream: Stream) -> bool:
        """Whether it is known which of its tasks run, as far as that can be."""
        endpoint = self._state.endpoint_of(stream)
        if endpoint is None or not stream.pending:
            return True
        now = self._state.now
        began = now if self._began is None else self._began
        if stream.recovered and now < began + SETTLED_S:
            return False
        return not (stream.recovered or endpoint.epochs > 1) or now >= endpoint.settles_at

    def doubtful(self, stream: Stream, indices: Iterable[int]) -> set[int]:
        """Those that a manager of before may run."""
        endpoint = self._state.endpoint_of(stream)
        again = sorted(endpoint.sent_before(stream)) if endpoint is not None else []

        def is_sent_again(index: int) -> bool:
            at = bisect_right(again, index, key=lambda span: span[0]) - 1
            return at >= 0 and index < sum(again[at])

        return {
            index
            for index in indices
            if stream.state(index) == SENT
            or (again and stream.state(index) == QUEUED and is_sent_again(index))
        }

"""What `map_run` returns: the ids of its calls, and their values in order."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fxhpc import ids
from fxhpc.client import tasks
from fxhpc.client.declared import arguments
from fxhpc.client.futures.completions import Completions
from fxhpc.client.names import task_name
from fxhpc.client.selection import Selection
from fxhpc.client.values import Missing

if TYPE_CHECKING:
    from fxhpc.client.results import Results

#: Values that are asked for at a time: at first those of one task, then twice as many as long as
#: they come within so many seconds and are of so few bytes, up to so many.
_QUICK_S = 0.05
_SLOW_S = 0.2
_ROOM_BYTES = 16 * 2**20
_MOST = 20_000


class MapIds(list[str]):
    """The ids of the calls of a `map_run`, in the order of its elements."""

    def __init__(self, task_ids: list[str], results: Results) -> None:
        super().__init__(task_ids)
        self._results = results

    def results(self, timeout: float | None = None) -> Completions[Any]:
        """The values of the calls, in order, as an iterator that waits for each; for `async for`,
        too.

        It asks for some at a time, so that the first come while others still run, and that few are
        in memory at once. Ctrl-C while it waits ends all that run on `local` and were not read.

        Args:
            timeout: seconds from now in which all have to end; None waits for ever.

        Raises:
            UsageError: timeout is no number.

        Raises (the iterator does, at the first call that has no value):
            TaskPending: it has not ended by then.
            TaskLost, TaskCancelled: it ended without a value.
            Exception: what the function raised.
        """
        return Completions(self._read(tasks.deadline_of(arguments.timeout(timeout))))

    def _read(self, deadline: float | None) -> Iterator[Any]:
        found: list[Any] = []
        first, size = 0, 1
        try:
            while first < len(self):
                end = self._end(first, size)
                selection = Selection(self[first:end])
                begun = time.monotonic()
                room = _ROOM_BYTES if size > 1 else math.inf
                found, came = self._results.values(selection, tasks.left(deadline), room)
                took = time.monotonic() - begun
                asked, size = size, end - first  # it may be more: whole chunks
                if took > _SLOW_S or came > _ROOM_BYTES:
                    size = max(1, min(asked, len(found)) // 2)
                elif took < _QUICK_S and came <= _ROOM_BYTES // 2:
                    size = min(2 * size, _MOST)
                first += len(found)
                found.reverse()
                while found:  # none is kept that was given out
                    value = found.pop()
                    if isinstance(value, Missing):
                        raise value.error
                    yield value
        except KeyboardInterrupt:
            self._results.interrupt(Selection(self[first - len(found) :]))
            raise

    def _end(self, first: int, size: int) -> int:
        """Where so many calls end that are asked for at once, the last chunk of them whole."""
        end = min(first + size, len(self))
        stream, number = task_name(self[end - 1])
        calls = ids.calls_of(stream)
        if not calls:
            return end
        following = ids.task_id(stream, number // calls + 1)
        return bisect_left(self, following, end, min(end + calls, len(self)))

    def __reduce__(self) -> Any:
        return list, (list(self),)  # to whom it is sent, it is ids alone

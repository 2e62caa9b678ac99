"""How calls of chunks ended that run again, within bounds: what goes along so that only the rest
is made again."""

from __future__ import annotations

from fxhpc.interchange.held import Task
from fxhpc.protocol import kept


class KeptCalls:
    """What is kept of each chunk; see `fxhpc.protocol.kept`. Empty in good times.

    Attributes:
        size: bytes of all of it.
    """

    def __init__(self, most: int = kept.ALL_BYTES) -> None:
        self._most = most
        self._of: dict[Task, bytes] = {}
        self.size = 0

    def keep(self, task: Task, records: bytes) -> bytes:
        """A worker died and left this of a chunk; what goes with the chunk now.

        A worker that lived long enough leaves all that it was given, too. Where there is no room
        for more, calls that have ended are made again.
        """
        before = self._of.get(task, b"")
        more = len(records) - len(before)
        if more <= 0 or self.size + more > self._most:
            return before
        self.size += more
        self._of[task] = records
        return records

    def forget(self, task: Task) -> None:
        """The chunk has ended."""
        self.size -= len(self._of.pop(task, b""))

"""Decides who is to blame that a worker is over its memory: the task that it is at, or those before
it, since what these have left there counts.

No I/O.
"""

from __future__ import annotations

from fxhpc.manager.held import Part, Slot
from fxhpc.manager.resources.nearing import Over

#: Tasks that were spared and may come again; those of long ago are forgotten.
_REMEMBERED = 10_000


class Blame:
    """Remembers whom it has spared, so that each is spared once."""

    def __init__(self) -> None:
        self._spared: dict[tuple[bytes, int], None] = {}

    def is_shared(self, part: Part, slot: Slot, over: Over) -> bool:
        """Whether a task, the first of this part, is to run again, elsewhere or in a new worker.

        That is so if half of its limit was used before it began. It may need too much all the
        same, and finds its next worker no emptier: then it is to blame.
        """
        task = (part.run.stream, part.first)
        if not slot.done or 2 * over.before < over.limit or task in self._spared:
            return False
        while len(self._spared) >= _REMEMBERED:
            del self._spared[next(iter(self._spared))]
        self._spared[task] = None
        return True

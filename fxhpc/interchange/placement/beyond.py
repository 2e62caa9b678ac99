"""What nodes blocks have brought so far, and which tasks none of them could ever run.

For such tasks no further block is asked for: the next would mostly bring the same, find nothing to
do, and be given back, over and over, at the cost of the allocation. Since the nodes of a partition
may differ, that is so after the third block.
"""

from __future__ import annotations

from fxhpc.interchange.held import Manager
from fxhpc.interchange.placement.sized import Line
from fxhpc.protocol.needs import Size, could_ever, needs_of
from fxhpc.protocol.needs_words import has, labelled, nodes, wanted

#: Blocks that are there before it is said that another is of no use: as many as may fail in a row.
TRIES = 3

#: Kinds of nodes that are remembered.
KINDS = 100

#: Labels that a node has of itself: no block is asked for to have another of these. Which host it
#: brings is the batch system's choice, and its number is a new one.
_OF_ITSELF = ("host:", "block:")


class Brought:
    """The kinds of nodes that blocks have brought since the start."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Size, frozenset[str]], None] = {}
        self._blocks: set[str] = set()  # the first ones
        self._version = 0  # of all that is known

    def note(self, manager: Manager) -> None:
        """A manager is there."""
        if not manager.block or manager.ledger is None:
            return
        if len(self._blocks) < TRIES:
            self._blocks.add(manager.block)
            self._version += 1
        own = (one for one in manager.ledger.labels if not one.startswith(_OF_ITSELF))
        kind = (manager.ledger.size, frozenset(own))
        if kind in self._kinds:
            return
        if len(self._kinds) >= KINDS:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[kind] = None
        self._version += 1

    def is_beyond(self, line: Line) -> bool:
        """Whether none of these could ever run tasks of this line, and they were enough."""
        if line.beyond_of != self._version:
            line.beyond_of, line.beyond = self._version, not self._could(line.packed)
        return line.beyond

    def why(self, line: Line) -> str:
        """What its tasks need, and what there was."""
        needs = needs_of(line.packed)
        what = nodes(needs) if needs.nodes > 1 else f"{wanted(needs)} on one node"
        sizes = [size for size, labels in self._kinds if labels.issuperset(needs.labels)]
        if any(label.startswith(_OF_ITSELF) for label in needs.labels):
            there = "which nodes a block brings is the batch system's choice"
        elif not sizes:
            there = f"no node that blocks have brought had {labelled(needs.labels)}"
        else:
            largest = max(sizes, key=lambda size: (size.cores, size.devices, size.memory))
            there = f"the largest node that blocks have brought had {has(largest)}"
        return f"needs {what}, and {there}: no more blocks are asked for that"

    def _could(self, packed: bytes) -> bool:
        if len(self._blocks) < TRIES:
            return True
        needs = needs_of(packed)
        return any(
            own.issuperset(needs.labels) and could_ever(size, needs) for size, own in self._kinds
        )

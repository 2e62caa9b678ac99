"""How many workers' cells all tasks together want: what blocks are asked for by."""

from __future__ import annotations

import math

from fxhpc.interchange.state import State
from fxhpc.protocol.needs import UNIT, needs_of


def cells_wanted(state: State) -> int:
    """How many cells are wanted by tasks here and at managers, if each takes what it needs.

    What no node of the blocks that are there or were there could run asks for none: the next would
    be the same.
    """
    cells = len(state.queue) + len(state.apart)
    brought = state.brought
    for line in state.sized.lines():
        if line.unfit and any(manager.block for manager in state.managers.values()):
            continue
        if brought.is_beyond(line):
            continue
        each = line.cells or max(1, math.ceil(needs_of(line.packed).cores / UNIT))
        cells += each * len(line.turns)
    whole = _cells_of_a_node(state) if state.several else 1
    for line in state.several.lines():
        if brought.is_beyond(line):
            continue
        cells += needs_of(line.packed).nodes * whole * len(line.turns)
    for manager in state.managers.values():
        if manager.lent is not None and not manager.held_tasks:
            cells += manager.workers
        cells += manager.held_tasks
        if manager.ledger is not None and manager.ledger:
            cells += manager.ledger.extra_cells
    return cells + sum(map(len, state.waiting.values()))


def _cells_of_a_node(state: State) -> int:
    """Of the largest that is there; as long as there is none, it is not known."""
    return max((manager.workers for manager in state.managers.values()), default=1)

"""Why tasks with needs of their own wait, in words: one sentence for each class that does."""

from __future__ import annotations

from itertools import islice

from fxhpc.interchange.held import Manager
from fxhpc.interchange.placement.ledger import Ledger
from fxhpc.interchange.placement.placing import Placing
from fxhpc.interchange.placement.sized import Line
from fxhpc.interchange.state import State
from fxhpc.protocol.messages import WaitingReport
from fxhpc.protocol.needs import UNIT, Size, needs_of
from fxhpc.protocol.needs_words import has, labelled, nodes, wanted

#: Classes that are told about.
TOLD = 32


def waiting_reports(state: State, placing: Placing, comes: bool) -> list[WaitingReport]:
    """What waits, by class.

    Args:
        comes: whether blocks are asked for when they are needed.
    """
    if not (state.sized or placing.reserved or state.several):
        return []
    reports = [_for_nodes(state, line) for line in islice(state.several.lines(), TOLD)]
    lines = {line.packed: line for line in islice(state.sized.lines(), TOLD)}
    for packed in {**lines, **placing.reserved}:
        line, manager = lines.get(packed), placing.reserved.get(packed)
        tasks = (len(line.turns) if line else 0) + (manager is not None)
        if manager is not None:
            why = _emptied(packed, manager)
        elif line is not None and (state.managers or line.unfit):
            why = _unfit(state, line, comes) if line.unfit else _busy(packed)
        else:
            why = ""  # as all that waits
        reports.append(WaitingReport(packed, tasks, why))
    return reports


def _for_nodes(state: State, line: Line) -> WaitingReport:
    """What waits for several nodes."""
    what = nodes(needs_of(line.packed))
    by_block: dict[str, list[Manager]] = {}
    for manager in state.managers.values():
        if manager.ledger is not None and manager.ledger.wanted(line.packed).cells:
            by_block.setdefault(manager.block, []).append(manager)
    emptied = [
        manager.host or manager.name
        for managers in by_block.values()
        for manager in managers
        if manager.lent is not None and manager.lent.stream in line.streams and manager.held_tasks
    ]
    most = max(map(len, by_block.values()), default=0)
    if not state.managers:
        why = ""  # as all that waits
    elif most < needs_of(line.packed).nodes:
        why = f"needs {what} of one block, and of those that are here one has {most}, at most"
    elif emptied:
        told = ", ".join(emptied[:5]) + (" and others" if len(emptied) > 5 else "")
        why = f"waits for {what} of one block: what runs on {told} is to end first"
    else:
        why = f"waits for {what} of one block: others that wait have their turn"
    return WaitingReport(line.packed, len(line.turns), why)


def why_never(packed: bytes, size: Size) -> str:
    """What a task needs that a node has not."""
    needs = needs_of(packed)
    return f"it needs {wanted(needs)} on one node, and this one has {has(size, needs)}"


def why_unfit(packed: bytes, node: Ledger) -> str:
    """The same, or which label it has not."""
    labels = needs_of(packed).labels
    if node.labels.issuperset(labels):
        return why_never(packed, node.size)
    return f"it needs {labelled(labels)} on one node, and this one has {labelled(node.labels)}"


def _emptied(packed: bytes, manager: Manager) -> str:
    assert manager.ledger is not None
    ledger = manager.ledger
    need = ledger.wanted(packed)
    free = ledger.cores
    if not ledger.waiting:  # it has been entered
        free += need.cores
    free = max(0, min(need.cores, free - manager.in_way * ledger.cell_cores))
    where = manager.host or manager.name
    cores = f"{free / UNIT:g} of {need.cores / UNIT:g} cores are free"
    what = wanted(needs_of(packed))
    return f"waits for {what} on one node: {where} is being emptied for it, {cores}"


def _unfit(state: State, line: Line, comes: bool) -> str:
    managers = state.managers.values()
    needs = needs_of(line.packed)
    what = wanted(needs)
    sizes = [one.ledger.size for one in managers if one.ledger is not None]
    if not sizes:
        return f"needs {what}, and the managers that are here are of a version without such needs"
    largest = max(sizes, key=lambda size: (size.cores, size.devices, size.memory))
    there = f"the largest node that is here has {has(largest, needs)}" if len(sizes) > 1 else ""
    there = there or f"the node that is here has {has(largest, needs)}"
    labels = needs.labels
    if labels and not any(
        one.ledger is not None and one.ledger.labels.issuperset(labels) for one in managers
    ):
        there = "no node that is here has that label" + ("s" if len(labels) > 1 else "")
    more = "; it waits for a block that has" if comes else "; it waits for a manager that has"
    return f"needs {what} on one node, and {there}{more}"


def _busy(packed: bytes) -> str:
    return f"waits for {wanted(needs_of(packed))} on one node: others that wait have their turn"

"""What waits at an endpoint, a dictionary for each size of tasks, for people and their programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from fxhpc.protocol.messages import WaitingReport
from fxhpc.protocol.needs import UNIT, Needs, needs_of
from fxhpc.protocol.needs_words import nodes, wanted


def waiting(reports: Iterable[WaitingReport]) -> list[dict[str, Any]]:
    """`needs` in words, `tasks`, and `reason`: a sentence, empty if they wait as all others do.

    What there is most of comes first.
    """
    told = [
        {"needs": _needs(one.needs), "tasks": one.tasks, "reason": one.reason} for one in reports
    ]
    return sorted(told, key=lambda one: -one["tasks"])


def waiting_in(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The same of an `EndpointReport` as plain values, maybe of another version."""
    try:
        return waiting(msgspec.convert(report.get("waiting", []), list[WaitingReport]))
    except msgspec.ValidationError:
        return []


def _needs(packed: bytes) -> str:
    """ "4 cores, no accelerator, its own MODE, priority 5": all that makes it another size."""
    try:
        needs = needs_of(packed)
    except msgspec.DecodeError:
        return "something that this version does not know"
    parts = [nodes(needs) if needs.nodes > 1 else wanted(needs)]
    if needs.gpus == 0:
        parts.append("no accelerator")
    parts += _of_ranks(needs)
    if needs.environ:
        parts.append("its own " + ", ".join(name for name, _ in needs.environ))
    if needs.priority is not None:
        parts.append(f"priority {needs.priority / UNIT:g}")
    return ", ".join(parts)


def _of_ranks(needs: Needs) -> list[str]:
    if not needs.ranks:
        return []
    ranks = f"{needs.ranks} rank{'s' if needs.ranks > 1 else ''}"
    options = needs.launcher_options
    return [ranks, f"launched with {options}"] if options else [ranks]

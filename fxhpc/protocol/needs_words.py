"""What tasks need, and what a node has, in words."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fxhpc.protocol import containers
from fxhpc.protocol.needs import NO_NEEDS, UNIT, Needs, Size
from fxhpc.units import format_bytes


def wanted(needs: Needs) -> str:
    """ "4 cores and 8 GB of memory": what has to be free for a task. Empty: a worker."""
    parts: list[str] = []
    if needs.cores:
        parts.append(cores(needs.cores))
    if needs.gpus > 0:
        parts.append(devices(needs.gpus))
    if needs.memory:
        parts.append(f"{format_bytes(needs.memory)} of memory")
    if needs.labels:
        labels = ", ".join(map(repr, needs.labels))
        parts.append(f"the label{'s' if len(needs.labels) > 1 else ''} {labels}")
    if needs.container is not None:
        parts.append(str(needs.container))
    return _listed(parts) or "a worker"


def nodes(needs: Needs) -> str:
    """ "2 whole nodes with 4 cores each"."""
    each = wanted(msgspec.structs.replace(needs, nodes=0))
    each = "" if each == "a worker" else f" with {each} each"
    return f"{needs.nodes} whole nodes{each}"


def has(size: Size, needs: Needs = NO_NEEDS) -> str:
    """ "4 cores, 1 accelerator and 16 GB of memory": what a node has for tasks that need this."""
    parts = [cores(size.cores), devices(size.devices * UNIT)]
    if size.memory:
        parts.append(f"{format_bytes(size.memory)} of memory")
    if needs.container is not None:
        parts.append(containers.told(size.containers))
    return _listed(parts)


def cores(thousandths: int) -> str:
    """ "4 cores"."""
    return _count(thousandths, "core")


def devices(thousandths: int) -> str:
    """ "0.5 accelerator"."""
    return _count(thousandths, "accelerator")


def labelled(labels: Iterable[str]) -> str:
    """ "the labels 'big', 'fat'"; "no label" if there are none."""
    told = ", ".join(map(repr, sorted(labels)))
    return f"the label{'s' if told.count(', ') else ''} {told}" if told else "no label"


def _count(thousandths: int, what: str) -> str:
    return f"{thousandths / UNIT:g} {what}{'' if 0 < thousandths <= UNIT else 's'}"


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))

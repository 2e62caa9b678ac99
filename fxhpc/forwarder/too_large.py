"""Tasks that need more than any node of their endpoint has, as far as that is certain. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fxhpc.forwarder.feeding import Endpoint
from fxhpc.protocol.containers import can_have, told
from fxhpc.protocol.needs import UNIT, Needs, could_ever, needs_of
from fxhpc.protocol.needs_words import cores, devices, has, labelled, nodes, wanted
from fxhpc.units import format_bytes

#: What to do about it.
_LABELS = "Submit them to an endpoint whose nodes have it (`labels` of its configuration)."
_MORE = (
    "Ask for less (resource_specification), give it more workers ({}), or submit them to an "
    "endpoint with larger nodes."
)
_OF_LOCAL = "max_workers of an Executor, FXHPC_WORKERS"
_OF_NODES = "max_workers_per_node, cores_per_worker"


def refusal(endpoint: Endpoint, packed: bytes) -> list[str] | None:
    """The arguments of ResourcesTooLarge, or nothing.

    An endpoint that has one manager has told what its node has. The configuration of one that asks
    for blocks says how many accelerators there are on a node, and maybe how many cores; what it
    does not say nobody knows before a node is there, and the next may be larger.
    """
    needs = needs_of(packed)
    report = endpoint.status.report if endpoint.status is not None else None
    details = endpoint.details if report is None else report.details
    if report is not None and report.only is not None:
        if needs.nodes > 1:
            return [endpoint.title, nodes(needs), "1 node", "block"]
        if container := _contained(endpoint, needs, report.only.containers):
            return container
        if report.labels is not None and not {*report.labels}.issuperset(needs.labels):
            return [endpoint.title, wanted(needs), labelled(report.labels), "node", _LABELS]
        if could_ever(report.only, needs):
            return None
        more = [] if needs.cores <= report.only.cores else ["node", _MORE.format(_OF_LOCAL)]
        return [endpoint.title, wanted(needs), has(report.only), *more]
    # One of an older version tells of its configuration, and nothing of containers.
    if details and (container := _contained(endpoint, needs, details.get("containers", ()))):
        return container
    given = details.get("nodes_per_block")
    if isinstance(given, int) and needs.nodes > max(1, given):
        told = f"{given} node{'s' if given > 1 else ''} (nodes_per_block)"
        return [endpoint.title, nodes(needs), told, "block"]
    if beyond := _beyond(needs, details):
        return [endpoint.title, wanted(needs), *beyond]
    return None


def _contained(endpoint: Endpoint, needs: Needs, allowed: Iterable[str]) -> list[str] | None:
    """The same, if it is the container that its nodes cannot have."""
    container = needs.container
    if container is None or can_have(allowed, container):
        return None
    remedy = (
        f"Install {container.kind} where its tasks run, allow that image (`containers` in its "
        f"configuration), or submit them to an endpoint that has it. An endpoint whose workers are "
        f"in a container themselves (container_type) has none for functions."
    )
    return [endpoint.title, str(container), told(allowed), "node", remedy]


def _beyond(needs: Needs, details: dict[str, Any]) -> list[str]:
    """What a node has at most of what is needed, if that is less, and maybe what to do."""
    there = details.get("accelerators_in_all")
    if isinstance(there, int) and needs.gpus > there * UNIT:
        return [devices(there * UNIT) + " (available_accelerators)"]
    labels = details.get("labels")
    if isinstance(labels, list):
        own = [label for label in needs.labels if not label.startswith(("host:", "block:"))]
        if not {*labels}.issuperset(own):
            return [labelled(labels), "node", _LABELS]
    given = details.get("cores_per_node")
    if isinstance(given, int) and 0 < given * UNIT < needs.cores:
        return [cores(given * UNIT) + " for its job (cores_per_node)"]
    together = details.get("cores_for_tasks")
    if isinstance(together, int | float) and 0 < (most := round(together * UNIT)) < needs.cores:
        return [cores(most) + " for tasks", "node", _MORE.format(_OF_NODES)]
    memory = details.get("memory_for_tasks")
    if isinstance(memory, int) and 0 < memory < needs.memory:
        return [f"{format_bytes(memory)} of memory for tasks"]
    return []

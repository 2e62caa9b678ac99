"""What a resource_specification says of tasks, and what it means for them.

`said` reads what is written, key by key, so that a submission's keys can be laid over those of its
function (`over`). `settled` then adds what follows from all that was said.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from fxhpc.client.declared import specification_keys as keys
from fxhpc.errors import InvalidResourceSpecification
from fxhpc.protocol.needs import NO_NEEDS, UNIT, Needs, needs_of, pack

#: Thousandths of a core, and ranks, that no node and no job has.
_TOO_MANY = 10**6


class Said(NamedTuple):
    """What somebody has said of tasks; what is not said has its default."""

    walltime_s: float = 0.0  # 0: nothing
    needs: Needs = NO_NEEDS


def said(specification: Mapping[str, Any] | None) -> Said:
    """What a resource_specification says. A key whose value is None says nothing.

    Raises:
        InvalidResourceSpecification: it is no dictionary, has a key that nobody knows or a value
            that cannot be meant so, contradicts itself.
    """
    if specification is None:
        return Said()
    if not isinstance(specification, Mapping):
        kind = type(specification).__name__
        raise InvalidResourceSpecification(
            f"resource_specification is a dictionary, not {kind}. {keys.known()}"
        )
    if unknown := [key for key in specification if not keys.name_of(key)]:
        raise keys.unknown(unknown, keys.known())
    values: dict[str, Any] = {}
    for key, given in specification.items():
        name = keys.name_of(key)
        if given is None:
            continue
        if name in values:
            other = next(alias for alias, meant in keys.ALIASES.items() if meant == name)
            raise _together(f"has {name!r} and {other!r}, which mean the same", name, other)
        values[name] = keys.read(key, given)
    walltime_s = values.pop("walltime", 0.0)
    environ = values.pop("environment", ())
    needs = Needs(**values, environ=environ)
    _check_size(needs)
    _completed(needs)
    return Said(walltime_s, needs)


def over(own: Said, default: Said) -> Said:
    """What a submission says, and what its function says where that says nothing.

    Variables are laid over each other one by one. A function that has a container has no other.
    """
    changes = {
        field: value
        for field in Needs.__struct_fields__
        if (value := getattr(own.needs, field)) != getattr(NO_NEEDS, field)
    }
    if "environ" in changes:
        variables = {**dict(default.needs.environ), **dict(own.needs.environ)}
        changes["environ"] = tuple(sorted(variables.items()))
    if default.needs.container is not None:
        changes.pop("container", None)
    return Said(own.walltime_s or default.walltime_s, replace(default.needs, **changes))


@functools.lru_cache(1024)
def settled(needs: bytes) -> bytes:
    """What was said of needs, packed, as a stream has it: with all that follows from it.

    Raises:
        InvalidResourceSpecification: it does not fit together.
    """
    complete = _completed(needs_of(needs))
    for field in ("cores_per_rank", "launcher_options"):
        if getattr(complete, field) and not complete.ranks and complete.nodes < 2:
            raise _together(f"has {field!r}, and says nothing of ranks", field)
    if complete.container is not None and complete.nodes > 1:
        # What starts ranks on other nodes is not in the image, nor are these in containers.
        raise _together(
            f"has {complete.nodes} nodes, and the function runs in {complete.container}: a "
            f"container has one node",
            "nodes",
        )
    _check_size(complete)
    return pack(complete)


def check_ranks(function: str, needs: bytes) -> None:
    """Of tasks of an MPIFunction: whether there is anything to start them on.

    Args:
        needs: settled.

    Raises:
        InvalidResourceSpecification: they have neither ranks nor several nodes.
    """
    found = needs_of(needs)
    if not found.ranks and found.nodes < 2:
        raise InvalidResourceSpecification(
            f"{function}: the tasks of an MPIFunction need ranks, and nothing says how many. "
            f"Nothing was submitted. Give a resource_specification, for example "
            f"{{'num_nodes': 2, 'ranks_per_node': 4}}, or {{'num_ranks': 4}} for one node.",
            ("num_nodes", "num_ranks", "ranks_per_node"),
        )


def _completed(needs: Needs) -> Needs:
    """Needs with what follows from them: of nodes, ranks and ranks_per_node, two make the third."""
    nodes, ranks, each = needs.nodes, needs.ranks, needs.ranks_per_node
    if not ranks and not each:
        return replace(needs, nodes=0) if nodes == 1 else needs
    if not ranks:
        ranks = (nodes or 1) * each
    nodes = nodes or (-(-ranks // each) if each else 1)
    each = each or ranks // nodes
    if ranks != nodes * each:
        told = [
            f"{getattr(needs, field)} {field}"
            for field in ("nodes", "ranks_per_node", "ranks")
            if getattr(needs, field)
        ]
        raise _together(f"has {', '.join(told)}: each node has as many ranks as any", "ranks")
    per_rank = needs.cores_per_rank or max(1, needs.cores // (each * UNIT))
    cores = each * per_rank * UNIT
    if needs.cores not in (0, cores):
        raise _together(
            f"has {needs.cores / UNIT:g} cores on a node for {each} ranks, and each rank has "
            f"{per_rank} (cores_per_rank)",
            "cores",
        )
    if ranks > _TOO_MANY or cores > _TOO_MANY * UNIT:
        raise _together(f"has {ranks} ranks of {per_rank} cores, which no job has", "ranks")
    return replace(
        needs, cores=cores, nodes=nodes, ranks=ranks, ranks_per_node=each, cores_per_rank=per_rank
    )


def _check_size(needs: Needs) -> None:
    try:
        pack(needs)
    except UnicodeError as error:
        raise _together(f"has a text that is no valid Unicode: {error}") from None
    except ValueError as error:
        raise _together(f"says too much: {error}") from None


def _together(why: str, *fields: str) -> InvalidResourceSpecification:
    return InvalidResourceSpecification(f"resource_specification {why}.", fields)

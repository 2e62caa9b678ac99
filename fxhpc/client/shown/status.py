"""The answer to `get_endpoint_status`, in the shapes that scripts of several years expect."""

from __future__ import annotations

from typing import Any

import msgspec

from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol.messages import EndpointReport
from fxhpc.protocol.service import EndpointStatus

#: What scripts read of an endpoint's configuration, where nobody has said otherwise.
_CONFIGURATION: dict[str, Any] = {
    "new_core_hrs": None,
    "total_core_hrs": None,
    "scheduler_mode": "soft",
    "worker_mode": "no_container",
    "scaling_enabled": False,
    "mem_per_worker": None,
    "cores_per_worker": None,
    "prefetch_capacity": 0,
    "max_blocks": 0,
    "min_blocks": 0,
    "nodes_per_block": 1,
    "max_workers_per_node": None,
    "provider_type": None,
    "engine_type": None,
}


def status_dict(status: EndpointStatus, now: float) -> dict[str, Any]:
    """An endpoint's status: `status`, `logs` with one entry, and the entry again as `details`.

    The entry has its numbers flat, and once more under `info`. `outstanding_tasks` counts what
    has not ended; `pending_tasks` what has not begun. `reason` says why nothing runs, in the words
    that tasks have too. `total_mem` is in GB; `blocks` has a dictionary for each batch job,
    `failed_blocks` one for each of the last that failed (`block`, `why`, `when`), `waiting` one for
    each size of tasks that have reached the endpoint and wait there for more than a worker
    (`needs`, `tasks`, `reason`), and `node_info` for each job or host a list of its managers. What
    is not known is None.
    """
    from fxhpc.protocol.waiting_words import waiting  # here: few clients ask

    outstanding = status.pending + status.running
    told = status.report or EndpointReport()
    details: dict[str, Any] = {
        **_CONFIGURATION,
        **({"provider_type": "local"} if status.endpoint == LOCAL_ENDPOINT else {}),
        **told.details,
        "endpoint_id": status.endpoint,
        "endpoint_name": status.name,
        "total_cores": told.total_cores,
        "total_mem": round(told.total_memory / 2**30, 2),
        "total_workers": status.workers,
        "idle_workers": status.idle_workers,
        "managers": status.managers,
        "active_managers": sum(not manager.draining for manager in told.managers)
        if len(told.managers) == status.managers
        else status.managers,
        "pending_tasks": status.pending,
        "running_tasks": status.running,
        "outstanding_tasks": outstanding,
        "outstanding_tasks_by_type": {"RAW": outstanding},
        "reason": status.reason,
        "paused": told.paused,
        "set_aside": told.set_aside,
        "scheduler": told.scheduler,
        "scheduler_trouble": told.scheduler_trouble,
        "blocks": [msgspec.to_builtins(block) for block in told.blocks],
        "failed_blocks": [msgspec.to_builtins(block) for block in told.failed_blocks],
        "waiting": waiting(told.waiting),
        "node_info": _nodes(told),
    }
    entry = {"task_id": -2, **details, "info": details, "timestamp": status.seen or now}
    return {
        "status": "online" if status.online else "offline",
        "logs": [entry],
        "details": details,
    }


def _nodes(report: EndpointReport) -> dict[str, list[dict[str, Any]]]:
    """The managers of each job; of each host, where there is no job."""
    jobs = {str(block.block): block.job for block in report.blocks}
    found: dict[str, list[dict[str, Any]]] = {}
    for manager in report.managers:
        name = jobs.get(manager.block) or manager.host
        found.setdefault(name, []).append(
            {
                "manager": manager.manager,
                "host": manager.host,
                "block": manager.block,
                "worker_count": manager.workers,
                "idle_workers": manager.idle_workers,
                "cores": manager.cores,
                "mem": round(manager.memory / 2**30, 2),
                "accelerators": manager.accelerators,
                "python_version": manager.python,
                "endpoint_version": manager.version,
                "draining": manager.draining,
            }
        )
    return found

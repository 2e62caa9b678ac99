"""The answer to `get_endpoint_status`, in the shapes that scripts of several years expect."""

from __future__ import annotations

from typing import Any

from fxhpc.protocol.service import EndpointStatus


def status_dict(status: EndpointStatus, now: float) -> dict[str, Any]:
    """An endpoint's status: `status`, `logs` with one entry, and the entry again as `details`.

    The entry has its numbers flat, and once more under `info`. `outstanding_tasks` counts what
    has not ended; `pending_tasks` what has not begun.
    """
    outstanding = status.pending + status.running
    report: dict[str, Any] = {
        "total_workers": status.workers,
        "idle_workers": status.idle_workers,
        "managers": status.managers,
        "active_managers": status.managers,
        "pending_tasks": status.pending,
        "running_tasks": status.running,
        "outstanding_tasks": outstanding,
        "outstanding_tasks_by_type": {"RAW": outstanding},
        "reason": status.reason,
    }
    timestamp = status.seen or now
    entry = {"task_id": -2, **report, "info": report, "timestamp": timestamp}
    return {
        "status": "online" if status.online else "offline",
        "logs": [entry],
        "details": report,
    }

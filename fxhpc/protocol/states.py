"""The states that `get_task` shows: funcX's names, and when each holds."""

from __future__ import annotations

WAITING_FOR_ENDPOINT = "waiting-for-ep"  #: stored; its endpoint is away
WAITING_FOR_NODES = "waiting-for-nodes"  #: its endpoint has it, and no worker is free
WAITING_FOR_LAUNCH = "waiting-for-launch"  #: at a manager, not begun
RUNNING = "running"
SUCCESS = "success"
FAILED = "failed"  #: the function raised, or the task was lost for good
CANCELLED = "cancelled"
UNKNOWN = "unknown"  #: nobody ever stored such a task, or it was purged

PENDING = frozenset({WAITING_FOR_ENDPOINT, WAITING_FOR_NODES, WAITING_FOR_LAUNCH, RUNNING})

"""Why tasks have not begun, in words: one sentence that everybody who asks is told. No I/O.

`get_task`, `TaskPending`, `get_endpoint_status` and `fxhpc task explain` have it from here.
"""

from __future__ import annotations

from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.streams import Stream
from fxhpc.protocol import states

#: Of tasks whose own `local` is gone.
PARKED = (
    "the process whose `local` endpoint it was submitted to has ended; ask for its result, "
    "or call resume(), to run it here"
)


def of_stream(stream: Stream, endpoint: Endpoint | None, trouble: str = "") -> tuple[str, str]:
    """The status of a stream's tasks that have not begun, and why.

    Args:
        stream: whose.
        endpoint: where they are to run, if it is known here.
        trouble: why outcomes cannot be stored at the moment.
    """
    if endpoint is None:
        name = stream.info.endpoint
        return states.WAITING_FOR_ENDPOINT, (
            f"this home has no endpoint {name} any more; cancel them with: "
            f"fxhpc task cancel --endpoint {name}, and submit them to another"
        )
    if trouble:
        return (
            states.WAITING_FOR_ENDPOINT,
            f"nothing starts while nothing can be kept: {trouble}",
        )
    return of_endpoint(endpoint)


def of_endpoint(endpoint: Endpoint) -> tuple[str, str]:
    """The status of tasks that wait for this endpoint, and why."""
    title = endpoint.title
    status = endpoint.status
    if not endpoint.connected:
        return states.WAITING_FOR_ENDPOINT, endpoint.away or f"endpoint {title} is not running"
    if status is None:
        return states.WAITING_FOR_NODES, f"endpoint {title} has just come up"
    if status.reason or not status.workers:
        return states.WAITING_FOR_NODES, status.reason or "no manager has registered yet"
    if not status.idle_workers:
        workers = f"all {status.workers:,} workers" if status.workers > 1 else "the one worker"
        verb = "are" if status.workers > 1 else "is"
        waiting = endpoint.out_tasks + len(endpoint.queue) - status.running
        ahead = f"; {waiting:,} tasks wait there in turn" if waiting > 1 else ""
        busy = f"{workers} of endpoint {title} {verb} busy{ahead}"
        return states.WAITING_FOR_LAUNCH, busy
    return states.WAITING_FOR_LAUNCH, f"on its way to a worker of endpoint {title}"

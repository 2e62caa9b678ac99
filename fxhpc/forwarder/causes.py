"""Why tasks have not begun, in words: one sentence that everybody who asks is told. No I/O.

`get_task`, `TaskPending`, `get_endpoint_status` and `fxhpc task explain` have it from here.
"""

from __future__ import annotations

from typing import NamedTuple

from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.streams import Stream
from fxhpc.protocol import states
from fxhpc.protocol.needs import needs_of
from fxhpc.units import format_duration

#: Of tasks whose own `local` is gone.
PARKED = (
    "the process whose `local` endpoint it was submitted to has ended; ask for its result, "
    "or call resume(), to run it here"
)

_BEFORE = "it may have been sent before the forwarder of this home was started again"
_UNKNOWN = "it is not known yet whether it runs: waiting to hear from"


class Cause(NamedTuple):
    """The status of tasks that have not begun, and why they have not.

    `begun` is the reason of those that had begun when their endpoint went away: nobody knows
    whether they still run. It is empty where those that have begun run.
    """

    status: str
    reason: str
    begun: str = ""


class Causes:
    """Causes for one answer: what an endpoint's tasks share is found out once, not by stream.

    Args:
        trouble: why outcomes cannot be stored at the moment.
    """

    def __init__(self, trouble: str = "") -> None:
        self._trouble = trouble
        self._known: dict[bytes, Cause] = {}

    def of_stream(self, stream: Stream, endpoint: Endpoint | None) -> Cause:
        """The cause of a stream's tasks, at the endpoint where they are to run, if it is known."""
        if endpoint is None:
            return _of_stream(stream, None, self._trouble)
        cause = self._known.get(endpoint.key)
        if cause is None:
            cause = self._known[endpoint.key] = _of_stream(stream, endpoint, self._trouble)
        if never := _never(stream, endpoint):
            status = states.WAITING_FOR_NODES if endpoint.connected else cause.status
            cause = cause._replace(status=status, reason=never)
        elif stream.info.needs:
            waits = _waits_for_more(stream, endpoint) or cause.reason + _inside(stream, cause)
            cause = cause._replace(reason=waits)
        if not cause.begun:
            return cause
        again = "it runs again" if stream.info.retries else "it is lost, as its retries=0 wants"
        return cause._replace(begun=f"{cause.begun}: if it has been ended there, {again}")


def _never(stream: Stream, endpoint: Endpoint) -> str:
    """Why a stream's tasks would never start, or nothing.

    A submission that declares too much is refused; this one came before it was known how long the
    endpoint's blocks last, or before they were made shorter.
    """
    walltime_s, longest_s = stream.info.walltime_s, endpoint.longest_block_s
    if endpoint.deleted or not 0 < longest_s < walltime_s:
        return ""
    title = endpoint.title
    return (
        f"tasks that are declared to take up to {format_duration(walltime_s)} would never start at "
        f"endpoint {title}, whose blocks last {format_duration(longest_s)}; raise `walltime` in "
        f"its configuration and restart it (fxhpc endpoint restart {title}), or cancel them, and "
        f"split them or declare less (resource_specification)"
    )


def _waits_for_more(stream: Stream, endpoint: Endpoint) -> str:
    """What tasks that need more than a worker wait for, as their interchange tells it."""
    status = endpoint.status
    if not endpoint.connected or status is None or status.report is None:
        return ""
    if status.reason and status.managers:
        return ""  # without managers, only what no block will be asked for has a reason of its own
    needs = stream.info.needs
    return next((one.reason for one in status.report.waiting if one.needs == needs), "")


def _inside(stream: Stream, cause: Cause) -> str:
    """What else those wait for that are about to be launched in a container, or nothing."""
    container = needs_of(stream.info.needs).container
    if container is None or cause.status != states.WAITING_FOR_LAUNCH:
        return ""
    return f"; it runs in {container}, which may have to be fetched and started first"


def _of_stream(stream: Stream, endpoint: Endpoint | None, trouble: str) -> Cause:
    """The cause of a stream's tasks.

    Args:
        stream: whose.
        endpoint: where they are to run, if it is known here.
        trouble: why outcomes cannot be stored at the moment.
    """
    if endpoint is None:
        name = stream.info.endpoint
        return Cause(
            states.WAITING_FOR_ENDPOINT,
            f"this home has no endpoint {name} any more; cancel them with: "
            f"fxhpc task cancel --endpoint {name}, and submit them to another",
        )
    if trouble and endpoint.connected:
        return Cause(
            states.WAITING_FOR_ENDPOINT,
            f"nothing starts while nothing can be kept: {trouble}",
        )
    return of_endpoint(endpoint)


def in_doubt(stream: Stream, endpoint: Endpoint) -> str:
    """The reason of tasks that may run, soon after a restart: nobody has said yet whether."""
    if not endpoint.connected:
        of_it = _of_stream(stream, endpoint, "").reason
        return f"{_BEFORE}, and {_UNKNOWN} its endpoint ({of_it})"
    waiting = f"{_UNKNOWN} the managers of endpoint {endpoint.title}"
    if stream.recovered:
        return f"{_BEFORE}, and {waiting}"
    return f"it has been sent, and {waiting}, which was started again a moment ago"


def of_endpoint(endpoint: Endpoint) -> Cause:
    """The cause of tasks that wait for this endpoint."""
    title = endpoint.title
    status = endpoint.status
    if not endpoint.connected:
        away = endpoint.away or f"endpoint {title} is not running"
        begun = f"{away}; this task was running when the endpoint went away"
        return Cause(states.WAITING_FOR_ENDPOINT, away, begun)
    if status is None:
        return Cause(states.WAITING_FOR_NODES, f"endpoint {title} has just come up")
    if status.reason or not status.workers:
        reason = status.reason or "no manager has registered yet"
        return Cause(states.WAITING_FOR_NODES, reason)
    if not status.idle_workers:
        workers = f"all {status.workers:,} workers" if status.workers > 1 else "the one worker"
        verb = "are" if status.workers > 1 else "is"
        waiting = endpoint.waiting
        ahead = f"; {waiting:,} tasks wait there in turn" if waiting > 1 else ""
        busy = f"{workers} of endpoint {title} {verb} busy{ahead}"
        return Cause(states.WAITING_FOR_LAUNCH, busy)
    return Cause(states.WAITING_FOR_LAUNCH, f"on its way to a worker of endpoint {title}")

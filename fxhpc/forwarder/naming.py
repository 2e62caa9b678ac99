"""What calls name: groups and endpoints that nobody knows are refused, others described.

Whoever has mistyped a name is told so. An answer without any task would look like success.
"""

from __future__ import annotations

from fxhpc.forwarder import causes
from fxhpc.forwarder.delivery import Client
from fxhpc.forwarder.feeding import Endpoint
from fxhpc.forwarder.state import State
from fxhpc.ids import LOCAL_ENDPOINT, parse_uuid
from fxhpc.protocol import messages as msg
from fxhpc.protocol import service

#: Calls that `refusal` looks at.
Naming = service.CancelTasks | service.GroupTasks | service.ListTasks | service.PurgeTasks

_SHOWN = 20  # names of endpoints in an error's text

#: An error's name, and what it is made with.
Refusal = tuple[str, list[str]]


def refusal(state: State, message: Naming) -> Refusal | None:
    """Why a call is refused that names a group, or an endpoint, of which nothing is known."""
    if isinstance(message, service.CancelTasks):
        return _of_groups(state, message.groups)
    if isinstance(message, service.GroupTasks):
        return _of_groups(state, [message.group])
    if isinstance(message, service.ListTasks):
        return _of_endpoint(state, message.endpoint)
    groups = [message.group] if message.group else []
    return _of_groups(state, groups) or _of_endpoint(state, message.endpoint)


def _of_groups(state: State, groups: list[str]) -> Refusal | None:
    """A group is known as long as the home has tasks of it."""
    if not groups or any(stream.info.group in groups for stream in state.streams.values()):
        return None
    return "TaskGroupNotFound", [", ".join(groups)]


def _of_endpoint(state: State, endpoint: str) -> Refusal | None:
    """An endpoint is known while it is there, and while the home has tasks of it."""
    if not endpoint or state.knows_endpoint(endpoint):
        return None
    if any(stream.info.endpoint == endpoint for stream in state.streams.values()):
        return None
    return "EndpointNotFound", [endpoint]


def _meant(state: State, client: Client, given: str) -> Endpoint | None:
    """The endpoint of this UUID, or of this name: clients on other hosts cannot read the home."""
    if given == LOCAL_ENDPOINT:
        return state.endpoints.get(client.instance)
    if state.knows_endpoint(given):
        return state.named_endpoint(given)
    named = [one for one in state.named if one.title == given and not one.deleted]
    return named[0] if named else None


def _is_uuid(text: str) -> bool:
    try:
        parse_uuid(text)
    except ValueError:
        return False
    return True


def _known(state: State) -> str:
    """What to do about a name that no endpoint has."""
    names = sorted(endpoint.title for endpoint in state.named if not endpoint.deleted)
    shown = ", ".join([*names[:_SHOWN], "..."] if len(names) > _SHOWN else names)
    has = f"has {shown}" if names else "has none"
    return f"The home {has}. Make one on its host: fxhpc endpoint configure NAME."


def tell_status(state: State, client: Client, message: service.GetStatus) -> None:
    """Answer GetStatus: how an endpoint is."""
    endpoint = _meant(state, client, message.endpoint)
    if endpoint is None:
        words = [] if _is_uuid(message.endpoint) else [_known(state)]
        state.fail(client, message.call, "EndpointNotFound", [message.endpoint, *words])
        return
    status = endpoint.status or msg.Status(0, 0, 0, 0, 0)
    outstanding = endpoint.outstanding
    running = min(status.running, outstanding)
    reason = status.reason
    if outstanding > running or not endpoint.connected:
        reason = causes.of_endpoint(endpoint).reason
    answer = service.EndpointStatus(
        message.call,
        online=endpoint.connected,
        managers=status.managers,
        workers=status.workers,
        idle_workers=status.workers - running,
        pending=outstanding - running,
        running=running,
        reason=reason,
        seen=0.0 if endpoint.connected else endpoint.seen,
        endpoint=endpoint.name,
        name=endpoint.title,
        # Of one that is away: how it is configured, as far as it has ever said.
        report=status.report or msg.EndpointReport(details=endpoint.details),
    )
    state.say(client.peer, answer)

"""Endpoints' own limits of arguments: clients are told of them, and held to them. No I/O.

A client that knows them refuses what is too large before it is sent, or sends it apart from its
task. What one sends all the same that does not know them yet is refused here.
"""

from __future__ import annotations

from fxhpc.forwarder.state import State
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import service
from fxhpc.protocol.sizes import CHUNK_BYTES, EndpointLimits, SizeLimits


def told(state: State) -> list[EndpointLimits]:
    """The limits that clients are told: of all endpoints that have any for arguments."""
    return [
        EndpointLimits(endpoint.name, endpoint.title, endpoint.limits)
        for endpoint in state.named
        if endpoint.limits.argument
    ]


def change(state: State, key: bytes, limits: SizeLimits) -> None:
    """An endpoint has these limits from now on; all clients are told if they are others."""
    endpoint = state.endpoints[key]
    before, endpoint.limits = endpoint.limits, limits
    if (before.argument, before.spill) != (limits.argument, limits.spill):
        for peer in state.clients:
            state.say(peer, service.Limits(told(state)))


def refusal(state: State, submission: service.Submission) -> tuple[str, list[str]] | None:
    """The error for arguments that are larger than their endpoint wants them.

    Those that lie apart from their task are not counted: only the client knows whose they are.
    """
    info = submission.info
    if info.endpoint == LOCAL_ENDPOINT:
        return None
    endpoint = state.named_endpoint(info.endpoint)
    if endpoint is None or not endpoint.limits.argument:
        return None
    if info.spill or endpoint.limits.spill:
        return None
    size = max(map(len, submission.payloads), default=0)
    if size <= endpoint.limits.argument + CHUNK_BYTES:  # what a client knows of, it has looked at
        return None
    return "PayloadTooLarge", [
        str(size),
        str(endpoint.limits.argument),
        "arguments",
        "limits.argument",
        endpoint.title,
    ]

"""Large arguments that tasks share: put into the store once by each connection, before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fxhpc.protocol import service

if TYPE_CHECKING:
    from fxhpc.client.connection import Connection, Reply
    from fxhpc.serialize.sharing import SharedBody


def put(
    connection: Connection, body: SharedBody, then: Callable[[Any], None] | None = None
) -> Reply | None:
    """Have the forwarder store a body, if it was not asked to already; never waits.

    Calls arrive in order: tasks that are submitted from now on may refer to it.

    Args:
        then: takes the answer or an error, and must not wait.
    """
    digest = body.digest
    if digest in connection.bodies:
        return None
    connection.bodies.add(digest)

    def answered(answer: Any) -> None:
        if isinstance(answer, BaseException):
            connection.bodies.discard(digest)  # the next task that needs it tries again
        if then is not None:
            then(answer)

    return connection.call(service.PutBody(0, digest, bytes(body.data)), answered)


def bodies_of(payloads: list[bytes]) -> tuple[list[bytes], list[SharedBody]]:
    """The payloads as they are sent, and the bodies that they refer to."""
    if set(map(type, payloads)) <= {bytes}:
        return payloads, []
    bodies: dict[bytes, SharedBody] = {}
    for payload in payloads:
        for body in getattr(payload, "bodies", ()):
            bodies[body.digest] = body
    return [bytes(payload) for payload in payloads], [*bodies.values()]

"""Large arguments that tasks share: put into the store once by each connection, before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fxhpc.protocol import service

#: Bytes of bodies that a forwarder is to keep for tasks to come, beside the last one.
HELD_BYTES = 128 * 2**20

if TYPE_CHECKING:
    from fxhpc.client.connection.connection import Connection, Reply
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
    bodies = connection.bodies
    if digest in bodies:
        bodies.move_to_end(digest)
        return None
    bodies[digest] = len(body.data)

    def answered(answer: Any) -> None:
        if isinstance(answer, BaseException):
            bodies.pop(digest, None)  # the next task that needs it tries again
        if then is not None:
            then(answer)

    message = service.PutBody(0, digest, bytes(body.data), shared=True)
    reply = connection.call(message, answered)
    forget: list[bytes] = []
    while len(bodies) > 1 and sum(bodies.values()) > HELD_BYTES:
        forget.append(bodies.popitem(last=False)[0])
    if forget:
        connection.post(service.ForgetBodies(forget))
    return reply


def bodies_of(payloads: list[bytes]) -> tuple[list[bytes], list[SharedBody]]:
    """The payloads as they are sent, and the bodies that they refer to."""
    if set(map(type, payloads)) <= {bytes}:
        return payloads, []
    bodies: dict[bytes, SharedBody] = {}
    for payload in payloads:
        for body in getattr(payload, "bodies", ()):
            bodies[body.digest] = body
    return [bytes(payload) for payload in payloads], [*bodies.values()]

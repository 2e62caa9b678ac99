"""Packed arguments that turn out to be too large: what is large of them goes apart from their task.

`calls` does the same while it packs; this is for what was packed before anybody knew for whom.
"""

from __future__ import annotations

from fxhpc.serialize import segments
from fxhpc.serialize.segments import Header, Piece
from fxhpc.serialize.sharing import SharedBody, SharedPayload

#: What is larger than this goes apart.
APART_BYTES = 1024


def size_of(payload: bytes) -> int:
    """Bytes of packed arguments, those of bodies that they refer to included."""
    return len(payload) + sum(len(body.data) for body in _bodies_of(payload))


def put_apart(payload: bytes) -> bytes:
    """The same arguments, with all that is large in bodies."""
    bodies = {body.digest: body for body in _bodies_of(payload)}

    def piece_of(data: memoryview) -> bytes:
        body = SharedBody(data, None)
        bodies[body.digest] = body
        return body.digest

    there: list[memoryview] = []
    if payload[0] != segments.MARK:
        header = Header(None, [], [piece_of(memoryview(payload))], [])
    else:
        found, rest = segments.parse(payload)
        lists: list[list[Piece]] = [[], []]
        for pieces, given in zip(lists, (found.stream, found.buffers), strict=True):
            for piece in given:
                if isinstance(piece, int):
                    data, rest = rest[:piece], rest[piece:]
                    if piece > APART_BYTES:
                        piece = piece_of(data)
                    else:
                        there.append(data)
                pieces.append(piece)
        header = Header(found.names, found.values, *lists)
    apart = SharedPayload(segments.join(header, there))
    apart.bodies = (*bodies.values(),)
    return apart


def _bodies_of(payload: bytes) -> tuple[SharedBody, ...]:
    return payload.bodies if isinstance(payload, SharedPayload) else ()

"""Recorded frames: what each message was on the wire, kept for as long as it must be understood.

`python -m tests.compatibility.frames` adds what has no recording yet to the file of the protocol
that this version speaks. What is recorded is never edited.
"""

from __future__ import annotations

import base64
import inspect
import itertools
import json
from pathlib import Path
from typing import Any

import msgspec

from fxhpc.protocol.link import Envelope
from fxhpc.protocol.messages import PROTOCOL
from tests.compatibility.samples import LINKS, PACKED, messages_of, sample, structs_within

#: The place of the samples on their link.
SESSION, NUMBER = 7, 11

#: In the place of a link's name: what is packed within others.
WITHIN = "PACKED"


class Recorded(msgspec.Struct):
    """A message as it was sent once."""

    link: str
    message: str  # its class
    frames: list[str]  # base64
    says: Any  # its fields, as they were read then: bytes are base64


class Recording(msgspec.Struct):
    """One protocol's file."""

    protocol: int
    # By struct: its fields' names and types, in their order.
    shapes: dict[str, list[tuple[str, str]]]
    messages: list[Recorded]


#: Made here: what is found by its name later depends on what else was imported meanwhile.
_DECODER = msgspec.json.Decoder(Recording)


def path(protocol: int) -> Path:
    """Where the recordings of a protocol lie."""
    return Path(__file__).parent / "recorded" / f"protocol-{protocol}.json"


def load(protocol: int) -> Recording:
    """What is recorded of a protocol."""
    return _DECODER.decode(path(protocol).read_bytes())


def today() -> Recording:
    """What would be recorded of this version."""
    messages = []
    for link, (codec, union) in LINKS.items():
        for kind in messages_of(union):
            message = sample(kind)
            frames = codec.encode(Envelope(SESSION, NUMBER, message))
            messages.append(_recorded(link, message, frames))
    for kind in PACKED:
        value = sample(kind)
        messages.append(_recorded(WITHIN, value, [msgspec.msgpack.encode(value)]))
    kinds = itertools.chain(PACKED, *(messages_of(union) for _, union in LINKS.values()))
    shapes = {name: shape(kind) for name, kind in sorted(structs_within(kinds).items())}
    return Recording(PROTOCOL, shapes, messages)


def named() -> set[str]:
    """Structs whose fields stand on the wire with their names: these may be in any order."""
    kinds = structs_within(
        itertools.chain(PACKED, *(messages_of(one) for _, one in LINKS.values()))
    )
    return {name for name, kind in kinds.items() if not kind.__struct_config__.array_like}


def shape(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """A struct's fields in the order in which they are on the wire."""
    written: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        written.update(inspect.get_annotations(one))
    return [(name, written[name]) for name in kind.__struct_fields__]


def read(recorded: Recorded) -> Any:
    """What this version makes of recorded frames.

    Raises:
        DecodeError, msgspec.DecodeError: nothing.
    """
    frames = [base64.b64decode(frame) for frame in recorded.frames]
    if recorded.link == WITHIN:
        kind = next(one for one in PACKED if one.__name__ == recorded.message)
        return msgspec.msgpack.decode(frames[0], type=kind)
    envelope = LINKS[recorded.link][0].decode(frames)
    assert (envelope.session, envelope.number) == (SESSION, NUMBER)
    return envelope.message


def told(message: Any) -> Any:
    """A message's fields, as a file of JSON can hold them."""
    return json.loads(msgspec.json.encode(message))


def _recorded(link: str, message: Any, frames: list[bytes]) -> Recorded:
    encoded = [base64.b64encode(frame).decode() for frame in frames]
    return Recorded(link, type(message).__name__, encoded, told(message))


def record() -> int:
    """Add what has no recording yet: how many messages that were."""
    now = today()
    kept: list[Recorded] = []
    if path(PROTOCOL).exists():
        kept = load(PROTOCOL).messages
    known = {(one.link, one.message, *one.frames) for one in kept}
    new = [one for one in now.messages if (one.link, one.message, *one.frames) not in known]
    path(PROTOCOL).parent.mkdir(exist_ok=True)
    # A message a line, so that a change of one is a line of a diff.
    lines = [json.dumps(msgspec.to_builtins(one)) for one in [*kept, *new]]
    shapes = [f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in now.shapes.items()]
    path(PROTOCOL).write_text(
        f'{{"protocol": {PROTOCOL},\n"shapes": {{\n'
        + ",\n".join(shapes)
        + '\n},\n"messages": [\n'
        + ",\n".join(lines)
        + "\n]}\n"
    )
    return len(new)


if __name__ == "__main__":
    print(f"{record()} messages recorded in {path(PROTOCOL).name}")

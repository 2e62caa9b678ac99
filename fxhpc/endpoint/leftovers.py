"""What an endpoint of which nothing runs has left with the batch system."""

from __future__ import annotations

import contextlib

import msgspec

from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.interchange.events import BlockKnown
from fxhpc.interchange.records import read_records

_decoder = msgspec.msgpack.Decoder(BlockKnown)


def left_blocks(directory: EndpointDirectory) -> list[str]:
    """The blocks that the endpoint's journal knows and whose end nobody has seen, in words.

    Only while nothing of the endpoint runs does it mean that they were left behind.
    """
    known: dict[int, BlockKnown] = {}
    for _, data in read_records(str(directory.known_blocks)):
        with contextlib.suppress(msgspec.DecodeError):
            entry = _decoder.decode(data)
            if entry.present:
                known[entry.block.number] = entry
            else:
                known.pop(entry.block.number, None)
    return [
        f"block {entry.block.number}"
        + (f", job {entry.block.job}" if entry.block.job else f", named {entry.block.name}")
        for entry in known.values()
    ]

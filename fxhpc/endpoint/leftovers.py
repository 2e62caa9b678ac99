"""What an endpoint of which nothing runs has left with the batch system."""

from __future__ import annotations

import contextlib

import msgspec

from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.interchange.events import BlockKnown
from fxhpc.interchange.records import read_records
from fxhpc.protocol.provision import BlockRef, InterchangeSpec, blocks_digest

_decoder = msgspec.msgpack.Decoder(BlockKnown)


def left_blocks(directory: EndpointDirectory) -> list[str]:
    """The blocks that the endpoint's journal knows and whose end nobody has seen, in words.

    Only while nothing of the endpoint runs does it mean that they were left behind.
    """
    return [
        f"block {block.number}" + (f", job {block.job}" if block.job else f", named {block.name}")
        for block in _known(directory)
    ]


def outdated_blocks(directory: EndpointDirectory, spec: InterchangeSpec) -> int:
    """How many blocks were made from another configuration than the endpoint has now."""
    now = blocks_digest(spec)
    return sum(block.made_from not in ("", now) for block in _known(directory))


def _known(directory: EndpointDirectory) -> list[BlockRef]:
    known: dict[int, BlockRef] = {}
    for _, data in read_records(str(directory.known_blocks)):
        with contextlib.suppress(msgspec.DecodeError):
            entry = _decoder.decode(data)
            if entry.present:
                known[entry.block.number] = entry.block
            else:
                known.pop(entry.block.number, None)
    return list(known.values())

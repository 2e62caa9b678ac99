"""What a relay says before it passes messages on: a line that ends what login shells print."""

from __future__ import annotations

import msgspec

from fxhpc.protocol.versions import OLDEST_PROTOCOL, PROTOCOL
from fxhpc.version import __version__

#: Bytes that the line may have, with all that was printed before it.
MOST_BYTES = 1 << 20


class Opening(msgspec.Struct):
    """How the relay is: what it leads to, or why it ends."""

    host: str
    home: str
    version: str = __version__
    protocol: int = PROTOCOL
    oldest_protocol: int = OLDEST_PROTOCOL
    error: str = ""  # the name of a class of `fxhpc.errors`
    text: str = ""  # what it says


def line(mark: str, opening: Opening) -> bytes:
    """The line, which begins with the mark that the client gave, twice: what repeats the command
    that was run has it once.
    """
    text = msgspec.json.encode(opening)
    return f"\n{mark}{mark} ".encode() + text + b"\n"


def find(mark: str, said: bytes) -> Opening | None:
    """The opening among what was said, if all of it has come; what comes before is passed over.

    Raises:
        msgspec.DecodeError: the line is not one that this version knows.
    """
    begin = f"{mark}{mark} ".encode()
    at = said.find(begin)
    end = said.find(b"\n", at)
    if at < 0 or end < 0:
        return None
    return msgspec.json.decode(said[at + len(begin) : end], type=Opening)

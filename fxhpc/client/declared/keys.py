"""Idempotency keys: the same submission from any process becomes the same tasks.

A stream's name is made of the home, the key, and what is submitted, where others have random bits.
So what is submitted again names the tasks that are there, and the forwarder stores each once.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from fxhpc import errors, ids
from fxhpc.client.declared import arguments
from fxhpc.protocol.payload import MOST_KEY
from fxhpc.protocol.service import FunctionRecord

if TYPE_CHECKING:
    from fxhpc.serialize.content import Contents


class Under(NamedTuple):
    """A key that something is submitted under."""

    key: str
    arguments: list[bytes]  # of each part a digest: see `fxhpc.serialize.content`


class Keyed(NamedTuple):
    """A submission under a key."""

    key: str
    content: bytes  # a digest of all that is submitted
    home: str  # what tells the home's store from others

    def stream(self, part: int, calls: int = 0) -> bytes:
        """The name of one of its streams."""
        digest = _digest(self.home.encode(), self.key.encode(), self.content, b"%d" % part)
        return ids.new_stream(calls, digest)


def keyed(under: Under, home: str, parts: Iterable[tuple[str, bytes, int]]) -> Keyed:
    """A submission under a key.

    Args:
        home: what tells the home's store from others.
        parts: of each stream the endpoint, what its function is (see `function_told`), and the
            most calls that a chunk has.
    """
    told = [
        _digest(endpoint.encode(), function, b"%d" % calls, given)
        for (endpoint, function, calls), given in zip(parts, under.arguments, strict=True)
    ]
    return Keyed(under.key, _digest(*told), home)


def new_contents() -> Contents:
    """What takes in the calls of one part."""
    from fxhpc.serialize.content import Contents  # only who has a key needs it

    return Contents()


def under_of_map(key: str, items: Iterable[Any], kwargs: dict[str, Any]) -> Under:
    """The key of a map, of which each item is the one positional argument of a call."""
    contents = new_contents()
    contents.add((), kwargs)
    for item in items:
        contents.add((item,), {})
    return Under(key, [contents.digest()])


def function_told(record: FunctionRecord) -> bytes:
    """What a function is, whoever has registered it: its name, and what it does. Its bytes are
    others in each process, if it refers to classes of its script."""
    return _digest(record.name.encode(), record.content or record.digest)


def _digest(*pieces: bytes) -> bytes:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(len(piece).to_bytes(8, "big") + piece)
    return found.digest()


def key_of(given: Any) -> str:
    """An idempotency key; "" if there is none.

    Raises:
        UsageError: it cannot be one.
    """
    if given is None:
        return ""
    what = "the same each time that the same is submitted"
    key = str(given) if isinstance(given, uuid.UUID) else given
    key = arguments.text("idempotency_key", key, what)
    if not key or len(key) > MOST_KEY or not key.isprintable():
        raise errors.UsageError(
            f"idempotency_key={key[: MOST_KEY + 1]!r}: it is a text of 1 to {MOST_KEY} characters "
            f"that can be printed, {what}."
        )
    return key

"""Which protocols this version speaks, and which one two peers speak with each other."""

from __future__ import annotations

#: The protocol that this version speaks, and the oldest that it still understands. Raised when
#: a peer of before would misunderstand something; a field that it may ignore raises nothing.
PROTOCOL = 1
OLDEST_PROTOCOL = 1


def common_protocol(newest: int, oldest: int) -> int | None:
    """The protocol to speak with a peer that knows `oldest` to `newest`; None if there is none."""
    common = min(newest, PROTOCOL)
    return common if common >= max(oldest, OLDEST_PROTOCOL) else None

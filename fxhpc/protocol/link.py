"""A link's memory: what makes every message arrive once and in order, or the loss be noticed.

A transport may lose messages (a reconnect, a full queue), and a test's link repeats and reorders
them too. So each side numbers what it sends. Whoever opens a link (a client, a manager, a
forwarder towards an interchange) chooses a random *session*; its greeting is number 0. A repeated
message is dropped. A gap breaks the link: the accepting side says Reset, the opening side greets
again under a new session, and the greeting and its answer say what each side holds. Heartbeats are
numbered like all else, so that the loss of a last message is noticed within one heartbeat.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec


class Verdict(Enum):
    """What is to be done with a message that has come in."""

    DELIVER = "deliver"
    REPEATED = "repeated"  #: seen before: drop it
    STALE = "stale"  #: of another session: drop it; an acceptor answers with Reset
    BROKEN = "broken"  #: one or more before it are missing: the link must be opened again


class Envelope(msgspec.Struct, array_like=True):
    """What travels: a message, and its place on the link. A direction's codec names the type."""

    session: int
    number: int
    message: Any


class Link:
    """One side's memory of one session."""

    def __init__(self, session: int) -> None:
        self.session = session
        self._sent = 0
        self._received = 0

    def stamp(self, message: Any) -> Envelope:
        """Number a message that is about to be sent."""
        envelope = Envelope(self.session, self._sent, message)
        self._sent += 1
        return envelope

    def check(self, envelope: Envelope) -> Verdict:
        """Judge a message that has come in, and take note of it if it is to be delivered."""
        if envelope.session != self.session:
            return Verdict.STALE
        if envelope.number < self._received:
            return Verdict.REPEATED
        if envelope.number > self._received:
            return Verdict.BROKEN
        self._received += 1
        return Verdict.DELIVER

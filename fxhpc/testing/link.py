"""A link that loses, repeats, reorders and garbles messages when it is told to. No sockets.

Every message goes through the codec of its direction, and is numbered and judged by the rules that
`fxhpc.transport.opener` and `fxhpc.transport.acceptor` follow: a gap breaks the link, and the
opening side has to greet again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from fxhpc.protocol.codec import Codec, DecodeError
from fxhpc.protocol.link import Link, Verdict
from fxhpc.protocol.messages import Reset

U = TypeVar("U")
D = TypeVar("D")


class Wire:
    """Messages on their way in one direction, as frames."""

    def __init__(self) -> None:
        self.frames: deque[list[bytes]] = deque()

    def __len__(self) -> int:
        return len(self.frames)

    def drop(self, at: int = 0) -> None:
        """Lose a message; the first one on the way is number 0."""
        if at < len(self.frames):
            del self.frames[at]

    def repeat(self, at: int = 0) -> None:
        """Let a message arrive twice."""
        if at < len(self.frames):
            self.frames.insert(at, list(self.frames[at]))

    def swap(self, at: int = 0) -> None:
        """Let a message be overtaken by the one behind it."""
        if at + 1 < len(self.frames):
            self.frames[at], self.frames[at + 1] = self.frames[at + 1], self.frames[at]

    def garble(self, at: int = 0) -> None:
        """Let a message arrive so that nobody can read it."""
        if at < len(self.frames):
            head, *rest = self.frames[at]
            # Some of these end within their first bytes, others in the middle of a payload.
            self.frames[at] = [head[: len(head) * (len(self.frames) % 3) // 3], *rest]

    def clear(self) -> None:
        """Lose all that is on the way."""
        self.frames.clear()


class LossyLink(Generic[U, D]):
    """Both sides of a link, and what is on the way between them.

    Args:
        up: decodes what the opening side says.
        down: decodes what the accepting side says.
        greeting: the type of the message that opens the link.
        new_session: chooses a number for a session that was never used before.

    Attributes:
        broken: the opening side has found a gap, or was told to greet again.
        undecodable: messages that nobody could read.
    """

    def __init__(
        self, up: Codec[U], down: Codec[D], greeting: type, new_session: Callable[[], int]
    ) -> None:
        self.up = Wire()
        self.down = Wire()
        self.broken = False
        self.undecodable = 0
        self._up_codec = up
        self._down_codec = down
        self._greeting = greeting
        self._new_session = new_session
        self._opener = Link(0)
        self._acceptor: Link | None = None

    # --- the opening side -----------------------------------------------------------------------

    def greet(self, message: Any) -> None:
        """Open the link, again if need be, under a new session."""
        self._opener = Link(self._new_session())
        self.broken = False
        self.say(message)

    def say(self, message: Any) -> None:
        """Send a message upwards."""
        self.up.frames.append(_copy(self._up_codec.encode(self._opener.stamp(message))))

    def deliver_down(self) -> D | None:
        """Take the next message from the way down: what the opening side is to handle, if any."""
        if not self.down.frames:
            return None
        try:
            envelope = self._down_codec.decode(self.down.frames.popleft())
        except DecodeError:
            self.undecodable += 1
            return None
        if envelope.session != self._opener.session or self.broken:
            return None
        if isinstance(envelope.message, Reset):
            self.broken = True
            return None
        verdict = self._opener.check(envelope)
        if verdict is Verdict.BROKEN:
            self.broken = True
        if verdict is not Verdict.DELIVER:
            return None
        message: D = envelope.message
        return message

    # --- the accepting side ---------------------------------------------------------------------

    def answer(self, message: Any) -> bool:
        """Send a message downwards. False if the accepting side knows of no link."""
        if self._acceptor is None:
            return False
        self.down.frames.append(_copy(self._down_codec.encode(self._acceptor.stamp(message))))
        return True

    def forget(self) -> None:
        """Let the accepting side forget the link: should the other speak again, it has to greet."""
        self._acceptor = None

    def deliver_up(self) -> U | None:
        """Take the next message from the way up: what the accepting side is to handle, if any."""
        if not self.up.frames:
            return None
        try:
            envelope = self._up_codec.decode(self.up.frames.popleft())
        except DecodeError as error:
            self.undecodable += 1
            if self._acceptor is not None and error.envelope is not None:
                self._acceptor.check(error.envelope)
            return None
        if type(envelope.message) is self._greeting and envelope.number == 0:
            if self._acceptor is None or self._acceptor.session != envelope.session:
                self._acceptor = Link(envelope.session)
        elif self._acceptor is None:
            self._reset(envelope.session)
            return None
        assert self._acceptor is not None
        verdict = self._acceptor.check(envelope)
        if verdict is Verdict.DELIVER:
            message: U = envelope.message
            return message
        if verdict is not Verdict.REPEATED:
            self._reset(envelope.session)
        return None

    # --- both -----------------------------------------------------------------------------------

    def cut(self) -> None:
        """Lose all that is on the way, in both directions: a connection that was made again."""
        self.up.clear()
        self.down.clear()

    def _reset(self, session: int) -> None:
        reset = Link(session).stamp(Reset())
        self.down.frames.append(_copy(self._down_codec.encode(reset)))


def _copy(frames: list[bytes]) -> list[bytes]:
    """Frames as a socket would hand them out: bytes of their own."""
    return [bytes(frame) for frame in frames]

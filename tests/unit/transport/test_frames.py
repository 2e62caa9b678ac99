"""Messages on a socket pair: whole ones, in whatever pieces they come."""

from __future__ import annotations

import socket

from fxhpc.transport.frames import Frames, frame


def test_messages_come_whole_in_whatever_pieces() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frames = Frames(ours)
        data = frame(b"one") + frame(b"") + frame(b"x" * 100_000)
        found: list[bytes] = []
        theirs.sendall(data[:2])
        assert frames.receive() == []
        theirs.sendall(data[2:9])
        assert frames.receive() == [b"one"]
        for begin in range(9, len(data), 30_000):
            theirs.sendall(data[begin : begin + 30_000])
            found += frames.receive() or []
        assert found == [b"", b"x" * 100_000]
        theirs.close()
        assert frames.receive() is None

"""A manager's end of a socket pair: nothing that the other side has sent is lost with it."""

from __future__ import annotations

import pytest

from fxhpc.manager.channel import Channel, Closed, make_pair


def received(channel: Channel) -> list[bytes]:
    """All that comes until the other side is known to be gone."""
    found = []
    with pytest.raises(Closed):
        while message := channel.receive():
            found.append(bytes(message[0]))
    return found


@pytest.mark.parametrize("unread", [0, 1, 3])
@pytest.mark.parametrize("is_noticed", [False, True])
def test_what_a_worker_has_sent_is_read_after_its_death(unread: int, is_noticed: bool) -> None:
    """Though it had not read all that it was sent; and though that was noticed by sending more."""
    channel, theirs = make_pair()
    for _ in range(unread):
        channel.send(b"work")
    theirs.send(b"one")
    theirs.send(b"two")
    theirs.close()
    if is_noticed:
        with pytest.raises(Closed):
            channel.send(b"more")
    assert received(channel) == [b"one", b"two"]
    assert received(channel) == []
    channel.close()

"""Messages in files come whole, and a file is written to again only when nobody looks into it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fxhpc.message_files import Files
from fxhpc.protocol.pool import SIZE

THERE, HERE = 0, 1


class Pair:
    """Two ends that share a page."""

    def __init__(self) -> None:
        words = memoryview(bytearray(16)).cast("Q")
        self.sender = Files(words, THERE, HERE)
        self.receiver = Files(words, HERE, THERE)

    def send(self, message: bytes, behind: bytes) -> tuple[int, memoryview, int]:
        fd, note = self.sender.write([SIZE.pack(len(message)), message, behind])
        return os.dup(fd), memoryview(note), os.fstat(fd).st_ino


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.sender.close()
    pair.receiver.close()


@pytest.mark.parametrize("size", [0, 10, 4096 - SIZE.size, 4096, 100_000])
@pytest.mark.parametrize("behind", [0, 1, 3_000_000])
@pytest.mark.parametrize("how", ["read", "map"])
def test_messages_come_whole(pair: Pair, size: int, behind: int, how: str) -> None:
    message, rest = os.urandom(size), os.urandom(behind)
    fd, note, _ = pair.send(message, rest)
    assert getattr(pair.receiver, how)(fd, note) == (message, rest)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_what_was_read_is_kept_without_a_copy_more(pair: Pair) -> None:
    _, behind = pair.receiver.read(*pair.send(b"message", b"x" * 1000)[:2])
    assert bytes(behind) is behind


def test_a_file_is_written_to_again_when_it_was_read(pair: Pair) -> None:
    files = []
    for _ in range(3):
        fd, note, file = pair.send(b"message", b"rest")
        pair.receiver.read(fd, note)
        files.append(file)
    assert len(set(files)) == 1


def test_a_file_that_is_mapped_is_left_alone(pair: Pair) -> None:
    fd, note, first = pair.send(b"one", b"1" * 100_000)
    mapped = pair.receiver.map(fd, note)
    fd, note, second = pair.send(b"two", b"2" * 100_000)
    assert first != second
    assert [*map(bytes, mapped)] == [b"one", b"1" * 100_000]
    pair.receiver.done()
    assert [*map(bytes, pair.receiver.map(fd, note))] == [b"two", b"2" * 100_000]
    fd, _, third = pair.send(b"three", b"")
    os.close(fd)
    assert third == first

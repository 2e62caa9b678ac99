"""Bodies on a node: one file for all workers, evicted by when they were used, asked for again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from fxhpc.manager import backlog
from fxhpc.manager.bodies import Bodies
from fxhpc.protocol import messages as msg
from tests.unit.manager.simulation import Node

STREAM = b"s" * 12


@pytest.fixture
def bodies() -> Iterator[Bodies]:
    found = Bodies()
    yield found
    found.close()


def test_a_large_one_lies_in_a_file_that_nobody_can_change(bodies: Bodies) -> None:
    data = os.urandom(200_000)
    bodies.keep(b"large", data)
    message, (fd,) = bodies.message(b"large")
    assert (message.digest, message.data, message.size) == (b"large", b"", len(data))
    assert os.pread(fd, len(data) + 1, 0) == data
    with pytest.raises(OSError, match="Operation not permitted"):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(OSError, match="Operation not permitted"):
        os.ftruncate(fd, 0)
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_a_small_one_goes_as_it_is(bodies: Bodies) -> None:
    bodies.keep(b"small", b"data")
    message, fds = bodies.message(b"small")
    assert (message.data, message.size, fds) == (b"data", 0, ())


def test_what_is_dropped_leaves_no_descriptor(bodies: Bodies) -> None:
    bodies.keep(b"one", bytes(100_000))
    bodies.keep(b"one", bytes(100_001))
    _, (fd,) = bodies.message(b"one")
    bodies.drop([b"one", b"unknown"])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_without_descriptors_each_worker_has_its_own(
    bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*, sealable: bool) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("fxhpc.manager.bodies.anonymous_file", none_left)
    bodies.keep(b"large", bytes(100_000))
    message, fds = bodies.message(b"large")
    assert (len(message.data), fds) == (100_000, ())


def test_what_was_not_used_for_the_longest_time_goes_and_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "BODIES_BYTES", 3500)
    node = Node(1)
    node.say(msg.Body(b"f", b"function"))
    for number, name in enumerate((b"1", b"2", b"3", b"1", b"4")):
        node.said.clear()
        node.send(STREAM, [b"0.001"], first=number, shared=[name])
        asked = [one.digests for one in node.of(msg.NeedBody)]  # type: ignore[attr-defined]
        assert asked == ([] if number == 3 else [[name]])
        if asked:
            node.say(msg.Body(name, bytes(1000)))
        node.run_for(0.1)
    assert node.there.keys() == {b"f", b"3", b"1", b"4"}
    assert len(node.ended) == 5
    assert node.bodies == [(1, name) for name in (b"f", b"1", b"2", b"3", b"4")]

"""Large arguments that come again: packed as references, and made anew for each task."""

from __future__ import annotations

import hashlib
import os
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fxhpc import errors
from fxhpc.message_files import anonymous_file
from fxhpc.serialize import ArgumentPacker, load_arguments, sharing
from fxhpc.serialize.bodies import Bodies
from fxhpc.serialize.sharing import SharedPayload

LIMIT = 2**30
SIZE = 300_000

BIG: dict[str, Callable[[], Any]] = {
    "bytes": lambda: os.urandom(SIZE),
    "str": lambda: "aä\ud800" * 100_000,
    "bytearray": lambda: bytearray(os.urandom(SIZE)),
    "array": lambda: np.random.default_rng(1).random(SIZE // 8),
    "read-only array": lambda: _read_only(np.arange(SIZE)),
    "Fortran order": lambda: np.asfortranarray(np.arange(SIZE).reshape(100, -1)),
    "strided array": lambda: np.arange(2 * SIZE)[::2],
    "list": lambda: list(range(100_000)),
    "dict": lambda: {f"key {n}": n for n in range(20_000)},
    "array in an object": lambda: {"a": [np.arange(SIZE)], "n": 1},
    "bytes in an object": lambda: [1, {"a": os.urandom(SIZE)}],
}


def _read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


class There:
    """What a worker has been sent."""

    def __init__(self, *, files: bool = False) -> None:
        self.bodies = Bodies()
        self.sent: set[bytes] = set()
        self.fds: list[int] = []
        self._files = files

    def load(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        for body in getattr(payload, "bodies", ()):
            assert hashlib.sha256(body.data).digest() == body.digest
            if body.digest not in self.sent:
                self.sent.add(body.digest)
                fd = -1
                if self._files:
                    fd = anonymous_file()
                    os.write(fd, body.data)
                    self.fds.append(fd)
                self.bodies.put(body.digest, bytes(body.data), fd)
        return load_arguments(memoryview(bytes(payload)), self.bodies)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.flags.writeable == other.flags.writeable
            and (not other.flags.forc or one.flags.f_contiguous == other.flags.f_contiguous)
            and one.tobytes() == other.tobytes()
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("files", [False, True])
@pytest.mark.parametrize("kind", BIG)
def test_the_second_time_a_body_stands_for_it(kind: str, files: bool) -> None:
    big, packer, there = BIG[kind](), ArgumentPacker(), There(files=files)
    for number in range(4):
        for args, kwargs in (
            ((big, number), {}),
            ((number, big), {}),
            ((f"sample {number}",), {"big": big, "n": number}),
        ):
            payload = packer.pack(args, kwargs, LIMIT)
            assert same(there.load(payload), (args, kwargs))
            if number > 1:
                assert isinstance(payload, SharedPayload)
                assert len(payload) < 65_536
    assert len(there.sent) <= 3
    for fd in there.fds:
        os.close(fd)


def test_what_comes_once_goes_with_its_task() -> None:
    packer = ArgumentPacker()
    for _ in range(5):
        payload = packer.pack((os.urandom(SIZE),), {}, LIMIT)
        assert type(payload) is bytes


@pytest.mark.parametrize("place", [0, SIZE // 2 + 17, SIZE - 1])
@pytest.mark.parametrize("make", [bytearray, lambda data: np.frombuffer(data, "u1").copy()])
def test_what_is_changed_between_two_tasks_is_seen(
    make: Callable[[bytes], Any], place: int
) -> None:
    big, packer, there = make(os.urandom(SIZE)), ArgumentPacker(), There()
    for number in range(9):
        if number % 3 == 0:
            big[place] ^= 255
        expected = bytes(big)
        ((found,), _) = there.load(packer.pack((big,), {}, LIMIT))
        assert bytes(found) == expected


@pytest.mark.parametrize("files", [False, True])
def test_what_a_task_does_to_its_argument_no_other_sees(files: bool) -> None:
    big, packer, there = np.arange(SIZE), ArgumentPacker(), There(files=files)
    for _ in range(4):
        ((found,), _) = there.load(packer.pack((big,), {}, LIMIT))
        assert found[7] == 7
        found[7] = -1
    for fd in there.fds:
        os.close(fd)


def test_one_object_given_twice_is_one_object_there() -> None:
    packer, there = ArgumentPacker(), There()
    for big in (np.arange(SIZE), list(range(100_000)), os.urandom(SIZE)):
        for _ in range(3):
            (one, other), _ = there.load(packer.pack((big, big), {}, LIMIT))
            assert one is other
            ((one,), kwargs) = there.load(packer.pack(([big],), {"same": big}, LIMIT))
            assert isinstance(big, bytes) or one[0] is kwargs["same"]


def test_those_that_only_look_alike_are_not_taken_for_each_other() -> None:
    packer, there = ArgumentPacker(), There()
    for number in range(20):
        big = bytearray(SIZE)
        big[3001] = number  # where nothing is sampled
        for _ in range(2):
            ((found,), _) = there.load(packer.pack((big,), {}, LIMIT))
            assert found == big
    assert len(there.sent) <= 20


def test_copies_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "KEPT_BYTES", 3 * SIZE)
    packer, there = ArgumentPacker(), There()
    bigs = [os.urandom(SIZE) for _ in range(10)]
    for _ in range(3):
        for big in bigs:
            assert there.load(packer.pack((big,), {}, LIMIT))[0] == (big,)
    kept = packer._sharing._bodies.values()
    assert sum(len(body.data) for _, body in kept) <= 3 * SIZE
    assert len(packer._sharing._by_object) == len(packer._sharing._by_print) == len(kept)


def test_the_limit_holds_for_all_of_it() -> None:
    packer, big = ArgumentPacker(), os.urandom(SIZE)
    size = len(packer.pack((big,), {}, LIMIT))
    for _ in range(3):
        packer.pack((big,), {}, size)
        with pytest.raises(errors.PayloadTooLarge):
            packer.pack((big,), {}, SIZE - 1)
    with pytest.raises(errors.PayloadTooLarge):
        ArgumentPacker().pack((big,), {}, size - 1)


def test_a_body_that_was_changed_or_is_missing_is_refused() -> None:
    packer, big = ArgumentPacker(), np.arange(SIZE)
    packer.pack((big,), {}, LIMIT)
    payload = packer.pack((big,), {}, LIMIT)
    assert isinstance(payload, SharedPayload)
    (body,) = payload.bodies
    bodies = Bodies()
    with pytest.raises(errors.SerializationError, match="is not on this worker"):
        load_arguments(bytes(payload), bodies)
    changed = bytearray(body.data)
    changed[1000] ^= 1
    bodies.put(body.digest, changed)
    with pytest.raises(errors.SerializationError, match="was changed on the way"):
        load_arguments(bytes(payload), bodies)
    bodies.put(body.digest, body.data)
    ((found,), _) = load_arguments(bytes(payload), bodies)
    assert (found == big).all()
    bodies.drop(body.digest)
    with pytest.raises(errors.SerializationError, match="is not on this worker"):
        load_arguments(bytes(payload), bodies)


def test_a_forked_child_has_forgotten_what_was_seen() -> None:
    packer, big = ArgumentPacker(), os.urandom(SIZE)
    packer.pack((big,), {}, LIMIT)
    assert isinstance(packer.pack((big,), {}, LIMIT), SharedPayload)
    packer._sharing._pid = -1  # as in a child
    packer._sharing._lock.acquire()
    assert type(packer.pack((big,), {}, LIMIT)) is bytes
    assert isinstance(packer.pack((big,), {}, LIMIT), SharedPayload)


def test_what_is_changed_while_it_is_hashed_is_sent_as_it_was_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    array = np.zeros(SIZE)
    packer, there = ArgumentPacker(), There()

    def changing(data: Any) -> Any:
        array[-1000] = 1  # another thread, while hashing lets it run
        return hashlib.sha256(data)

    packer.pack((array,), {}, LIMIT)
    with monkeypatch.context() as patch:
        patch.setattr(sharing, "hashlib", types.SimpleNamespace(sha256=changing))
        racing = packer.pack((array,), {}, LIMIT)
    assert there.load(racing)[0][0].sum() == 0
    for state in (0, 1):
        array[-1000] = state
        for _ in range(3):
            assert there.load(packer.pack((array,), {}, LIMIT))[0][0].sum() == state


def test_what_was_changed_while_it_was_copied_is_found_by_its_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    array = np.zeros(SIZE)
    packer = ArgumentPacker()
    fingerprint = sharing._fingerprint

    def changing(view: memoryview) -> tuple[int, int]:
        found = fingerprint(view)
        array[-1] = 1  # another thread, before the copy
        return found

    packer.pack((array,), {}, LIMIT)
    with monkeypatch.context() as patch:
        patch.setattr(sharing, "_fingerprint", changing)
        (body,) = packer.pack((array,), {}, LIMIT).bodies  # type: ignore[attr-defined]
    (again,) = packer.pack((array,), {}, LIMIT).bodies  # type: ignore[attr-defined]
    assert again is body
    assert There().load(packer.pack((array,), {}, LIMIT))[0][0].sum() == 1

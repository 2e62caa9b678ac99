"""Results in files, and arguments apart from their tasks: what is too large to go with them."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest

from fxhpc.errors import (
    MaxResultSizeExceeded,
    PayloadTooLarge,
    SerializationError,
    SpilledResultLost,
)
from fxhpc.ids import new_stream, task_id
from fxhpc.serialize import (
    ArgumentPacker,
    load_arguments,
    pack_or_spill,
    pack_result,
    spilled,
    unpack_result,
)
from fxhpc.serialize.bodies import Bodies
from fxhpc.serialize.sharing import SharedPayload

STREAM = new_stream()
LIMIT = 1000
VALUE = b"x" * 5000


def _spill(directory: Path, value: object = VALUE, index: int = 7) -> bytes:
    return pack_or_spill(value, LIMIT, str(directory), STREAM, index)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_what_fits_goes_as_ever(tmp_path: Path) -> None:
    assert _spill(tmp_path, b"small") == pack_result(b"small", LIMIT)
    assert not _files(tmp_path)


def test_what_does_not_fit_goes_to_a_private_file_and_comes_back(tmp_path: Path) -> None:
    directory = tmp_path / "with ' a blank"
    before = os.umask(0)
    try:
        reference = _spill(directory)
    finally:
        os.umask(before)
    assert len(reference) < 300
    assert spilled.is_reference(reference)
    (file,) = _files(directory)
    assert file.parent.name == STREAM.hex()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {stat.S_IMODE(p.stat().st_mode) for p in (directory, file.parent)} == {0o700}
    assert unpack_result(reference) == VALUE
    assert unpack_result(reference) == VALUE  # as often as it is asked for
    assert _spill(directory) != reference  # another attempt has a file of its own


def test_a_file_that_is_adopted_has_no_name_and_is_still_read(tmp_path: Path) -> None:
    reference = _spill(tmp_path)
    adopted = spilled.adopt(reference)
    assert adopted is not None
    assert not _files(tmp_path)
    assert unpack_result(adopted) == VALUE
    assert spilled.adopt(reference) is None  # it is there once


def test_an_adopted_file_is_checked_too(tmp_path: Path) -> None:
    reference = _spill(tmp_path)
    (file,) = _files(tmp_path)
    file.write_bytes(bytes(file.stat().st_size))
    adopted = spilled.adopt(reference)
    assert adopted is not None
    with pytest.raises(SpilledResultLost, match="SHA-256"):
        unpack_result(adopted)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda file: file.unlink(), "No such file or directory"),
        (lambda file: os.truncate(file, 10), "has 10 bytes instead of"),
        (lambda file: file.write_bytes(b"y" * file.stat().st_size), "SHA-256"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "instead of"),
        (lambda file: (file.unlink(), file.symlink_to("/dev/zero")), "cannot be read"),
    ],
    ids=["missing", "cut", "changed", "no file", "a link"],
)
def test_a_file_that_is_not_as_it_was_is_told(tmp_path: Path, harm: object, words: str) -> None:
    reference = _spill(tmp_path)
    (file,) = _files(tmp_path)
    assert callable(harm)
    harm(file)
    with pytest.raises(SpilledResultLost, match=words) as caught:
        unpack_result(reference)
    assert task_id(STREAM, 7) in str(caught.value)
    assert str(file) in str(caught.value)
    assert "run the task again" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.task_id, again.path) == (task_id(STREAM, 7), str(file))


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(MaxResultSizeExceeded, match="Not a directory"):
        _spill(tmp_path / "taken")

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(MaxResultSizeExceeded, match="No space left on device; free room") as caught:
        _spill(tmp_path / "full")
    assert task_id(STREAM, 7) in str(caught.value)
    assert str(tmp_path / "full") in str(caught.value)
    assert not _files(tmp_path / "full")


@pytest.mark.parametrize("data", [b"\x02", b"\x02" * 40, b"\x02" * 57, b"\x02" * 57 + b"\0a"])
def test_what_is_no_reference_is_an_error(data: bytes) -> None:
    with pytest.raises(SerializationError):
        unpack_result(data)


@pytest.mark.parametrize(
    "values",
    [
        (VALUE, 1),
        ("ä" * 5000,),
        (list(range(5000)),),
        (np.arange(50_000), {"a": np.ones(20_000)}, b"small"),
        tuple(range(2000)),
        ({1: 2}.items(), VALUE),  # dill has to pack it
    ],
    ids=["bytes", "text", "list", "arrays", "many", "dill"],
)
def test_arguments_that_are_too_large_go_apart(values: tuple[object, ...]) -> None:
    packer = ArgumentPacker()
    with pytest.raises(PayloadTooLarge):
        packer.pack(values, {}, LIMIT)
    for spills in (packer, ArgumentPacker()):  # whether it has come before or not
        packed = spills.pack(values, {"more": VALUE}, LIMIT, spills=True)
        assert isinstance(packed, SharedPayload)
        assert len(packed) <= LIMIT
        bodies = Bodies()
        for body in packed.bodies:
            bodies.put(body.digest, bytes(body.data))
        args, kwargs = load_arguments(bytes(packed), bodies)
        assert repr(args) == repr(values)
        assert kwargs == {"more": VALUE}


def test_arguments_that_fit_are_packed_as_ever() -> None:
    packed = ArgumentPacker().pack((1, "a"), {"b": 2}, LIMIT, spills=True)
    assert packed == ArgumentPacker().pack((1, "a"), {"b": 2}, LIMIT)
    assert type(packed) is bytes

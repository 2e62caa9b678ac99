"""Results in files, as an executor takes them over when they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fxhpc.client.futures.adopting import adopt_chunks, adopt_files
from fxhpc.client.outcomes import value_of
from fxhpc.ids import new_stream
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.serialize import Chunk, pack_or_spill, pack_result

STREAM = new_stream()


def _outcome(directory: Path, index: int, value: bytes) -> Outcome:
    data = pack_or_spill(value, 100, str(directory), STREAM, index)
    return Outcome(index, OutcomeKind.VALUE, data, 0.5, b"printed")


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_nothing_is_done_to_others(tmp_path: Path) -> None:
    outcomes = [
        Outcome(0, OutcomeKind.VALUE, pack_result(1, 100)),
        Outcome(1, OutcomeKind.CANCELLED),
        Outcome(2, OutcomeKind.LOST, b"\x02" * 100),
    ]
    assert adopt_files(outcomes) is outcomes


def test_files_are_taken_over_and_nobody_elses_outcome_is_changed(tmp_path: Path) -> None:
    outcomes = [_outcome(tmp_path, index, b"v" * size) for index, size in enumerate((10, 1000))]
    reference = bytes(outcomes[1].data)
    adopted = list(adopt_files(iter(outcomes)))
    assert not _files(tmp_path)
    assert [value_of(outcome) for outcome in adopted] == [b"v" * 10, b"v" * 1000]
    assert outcomes[1].data == reference
    assert [(o.index, o.kind, o.ran, o.output) for o in adopted] == [
        (o.index, o.kind, o.ran, o.output) for o in outcomes
    ]


def test_what_cannot_be_taken_over_is_told_to_whoever_asks(tmp_path: Path) -> None:
    outcome = _outcome(tmp_path, 0, b"v" * 1000)
    _files(tmp_path)[0].unlink()
    assert list(adopt_files([outcome])) == [outcome]


def test_files_of_calls_are_taken_over(tmp_path: Path) -> None:
    """Those of chunks that failed in part, too; what has none stays as it came."""
    large, small = bytes(1000), pack_result(1, 100)
    files = [pack_or_spill(large, 100, str(tmp_path), new_stream(3), call) for call in (0, 1)]
    outcomes = [
        Outcome(0, OutcomeKind.VALUE, Chunk(2, each={0: files[0], 1: small}).pack(), 0.5, b"said"),
        Outcome(1, OutcomeKind.VALUE, Chunk(1, pack_result([7], 100)).pack()),
        Outcome(2, OutcomeKind.ERROR, Chunk(2, each={1: files[1]}, failures={0: b""}).pack()),
        Outcome(3, OutcomeKind.CANCELLED),
        Outcome(4, OutcomeKind.VALUE, b"nonsense"),
    ]
    adopted: list[Any] = adopt_chunks(outcomes)
    assert not _files(tmp_path)
    assert [adopted[n] is outcomes[n] for n in range(5)] == [False, True, False, True, True]
    assert [adopted[0].data.value(call) for call in (0, 1)] == [large, 1]
    assert (adopted[0].ran, adopted[0].output) == (0.5, b"said")
    assert (adopted[2].data.value(1), adopted[2].kind) == (large, OutcomeKind.ERROR)
    assert adopt_chunks(adopted) == adopted

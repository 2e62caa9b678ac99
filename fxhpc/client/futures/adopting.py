"""Results of an executor that lie in files: taken over when they come, so that none is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from fxhpc.errors import SerializationError
from fxhpc.protocol.outcome import ERROR, VALUE, Outcome
from fxhpc.serialize import spilled, unpack_chunk


def adopt_files(outcomes: Iterable[Outcome]) -> Iterable[Outcome]:
    """The outcomes, with files that are this process's alone in the place of references.

    Such a file has no name any more: however this process ends, it is gone. Nothing of it is read
    before somebody asks for the value.
    """
    outcomes = outcomes if isinstance(outcomes, list) else list(outcomes)
    for outcome in outcomes:
        if outcome.data[:1] == spilled.MARK and outcome.kind == VALUE:
            return list(map(_adopted, outcomes))
    return outcomes


def adopt_chunks(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """As `adopt_files`, of chunks, whose calls have a file each.

    Where one has any, the `Chunk` itself is the outcome's data: files have no bytes.
    """
    return list(map(_adopted_chunk, outcomes))


def _adopted_chunk(outcome: Outcome) -> Outcome:
    if outcome.kind not in (VALUE, ERROR):
        return outcome
    try:
        chunk = unpack_chunk(outcome.data)
    except SerializationError:
        return outcome  # whoever asks for a value is told
    files = {call: file for call, data in chunk.each.items() if (file := _file(data)) is not None}
    if not files:
        return outcome
    chunk.each = {**chunk.each, **files}
    return Outcome(outcome.index, outcome.kind, cast(Any, chunk), outcome.ran, outcome.output)


def _adopted(outcome: Outcome) -> Outcome:
    data = _file(outcome.data) if outcome.kind == VALUE else None
    if data is None:
        return outcome
    # Another one: an embedded forwarder may still have this to store it.
    return Outcome(outcome.index, outcome.kind, cast(Any, data), outcome.ran, outcome.output)


def _file(data: Any) -> spilled.Adopted | None:
    """The file that these bytes stand for; None if they are no reference, or it cannot be had:
    then whoever asks for the value is told why."""
    if isinstance(data, spilled.Adopted) or not spilled.is_reference(data):
        return None
    return spilled.adopt(bytes(data))

"""Results of an executor that lie in files: taken over when they come, so that none is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.serialize import spilled


def adopt_files(outcomes: Iterable[Outcome]) -> Iterable[Outcome]:
    """The outcomes, with files that are this process's alone in the place of references.

    Such a file has no name any more: however this process ends, it is gone. Nothing of it is read
    before somebody asks for the value.
    """
    outcomes = outcomes if isinstance(outcomes, list) else list(outcomes)
    for outcome in outcomes:
        if outcome.data[:1] == spilled.MARK and outcome.kind == OutcomeKind.VALUE:
            return list(map(_adopted, outcomes))
    return outcomes


def _adopted(outcome: Outcome) -> Outcome:
    if outcome.kind != OutcomeKind.VALUE or not spilled.is_reference(outcome.data):
        return outcome
    data = spilled.adopt(bytes(outcome.data))
    if data is None:
        return outcome  # whoever asks for the value is told why
    # Another one: an embedded forwarder may still have this to store it.
    return Outcome(outcome.index, outcome.kind, cast(Any, data), outcome.ran, outcome.output)

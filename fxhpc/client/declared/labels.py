"""What users write on their tasks for themselves: labels to find them by, and metadata."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fxhpc import errors
from fxhpc.protocol.payload import MOST_LABEL, MOST_LABELS, MOST_METADATA
from fxhpc.protocol.service import StreamSummary

if TYPE_CHECKING:
    from fxhpc.client.declared.resources import Declared

_DEPTH = 32  # of lists and dictionaries within each other
_MOST_INT = 2**63


class Labelling:
    """What `Executor` and `FuncXClient` let users note of the tasks that they submit next."""

    declared: Declared

    @property
    def labels(self) -> tuple[str, ...]:
        """Texts that the next tasks can be found by: at most 16, of 100 characters each."""
        return self.declared.labels

    @labels.setter
    def labels(self, labels: Iterable[str] | str | None) -> None:
        self.declared = self.declared._replace(labels=labels_of(labels))

    @property
    def metadata(self) -> dict[str, Any]:
        """What is noted of the next tasks: a copy. What JSON knows, at most 4 KB of it."""
        return _metadata_from(self.declared.metadata)

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any] | None) -> None:
        self.declared = self.declared._replace(metadata=metadata_of(metadata))


def labels_of(given: Iterable[str] | str | None) -> tuple[str, ...]:
    """Labels as streams have them: each once, in the order given; of a set, in theirs.

    Raises:
        UsageError: they are no texts, too many, or one is empty or too long.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
        raise _refused("labels", given, "they are a list of texts")
    found: dict[str, None] = {}
    for label in [given] if isinstance(given, str) else given:
        if not isinstance(label, str):
            raise _refused("labels", given, f"each is a text, and {label!r:.60} is none")
        if not label.strip() or len(label) > MOST_LABEL or not label.isprintable():
            words = f"each is 1 to {MOST_LABEL} characters that can be printed"
            raise _refused("labels", given, f"{words}, and {label[:120]!r} is not")
        found[label] = None
    if len(found) > MOST_LABELS:
        words = f"there are {len(found)}, and may be {MOST_LABELS}"
        raise _refused("labels", given, f"{words}; what only describes a task is metadata")
    return tuple(sorted(found) if isinstance(given, set | frozenset) else found)


def metadata_of(given: Mapping[str, Any] | None) -> str:
    """Metadata as streams have it: JSON, or "" if there is none.

    Raises:
        UsageError: it is no dictionary, has what JSON does not know, or is too large.
    """
    if given is None:
        return ""
    if not isinstance(given, Mapping):
        raise _refused("metadata", given, "it is a dictionary of what JSON knows")
    plain = _plain(given, "metadata", 0)
    if not plain:
        return ""
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        words = f"it has text that is no valid Unicode ({error.reason})"
        raise _refused("metadata", given, words) from None
    if size > MOST_METADATA:
        words = f"it takes {size:,} bytes as JSON, and may take {MOST_METADATA:,}"
        raise _refused("metadata", given, f"{words}; write what is larger to a file, and its path")
    return text


def noted(summary: StreamSummary) -> dict[str, Any]:
    """What a user has noted of tasks, as it is told: `labels`, `metadata` and `idempotency_key`,
    as far as there are any.
    """
    found: dict[str, Any] = {
        "labels": [*summary.labels],
        "metadata": _metadata_from(summary.metadata),
        "idempotency_key": summary.key,
    }
    return {name: value for name, value in found.items() if value}


def _metadata_from(text: str) -> dict[str, Any]:
    # What another client has sent may be no JSON at all.
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: Any, where: str, depth: int) -> Any:
    """A value as JSON gives it back.

    Raises:
        UsageError: JSON does not know it; the text names the part.
    """
    if depth > _DEPTH:
        raise errors.UsageError(f"{where[:60]}...: it is nested more than {_DEPTH} deep.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        if not -_MOST_INT <= value < 2 * _MOST_INT:
            raise _refused(where, value, "an integer has at most 64 bits there")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refused(where, value, "JSON has no such number; give None, or a text")
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(part, f"{where}[{n}]", depth + 1) for n, part in enumerate(value)]
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, part in value.items():
            if not isinstance(key, str):
                raise _refused(where, value, f"its keys are texts, and {key!r:.60} is none")
            found[key] = _plain(part, f"{where}[{key!r:.60}]", depth + 1)
        return found
    kinds = "texts, numbers, True, False, None, lists and dictionaries of these"
    kind = type(value).__name__
    raise _refused(where, value, f"it is of type {kind}, which JSON does not know: {kinds}")


def _refused(name: str, given: Any, words: str) -> errors.UsageError:
    return errors.UsageError(f"{name}={reprlib.repr(given)}: {words}.")

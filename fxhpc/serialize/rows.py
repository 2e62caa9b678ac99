"""Rows of small arguments, as the arguments of one call: packed at once, where that serves."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import chain
from typing import Any

#: None of these is large, nor refers to anything. So each row need not be looked at by itself.
_SMALL = frozenset({int, float, complex, bool, type(None)})
_are_small = _SMALL.issuperset


def pack_rows(rows: Sequence[tuple[Any, ...]], limit: int) -> bytes | None:
    """What `load_arguments` makes these rows of; None: they are to be packed as any arguments are.

    Integers may be of any size: what is larger than `limit` bytes is not packed here either.
    """
    if not _are_small(map(type, chain.from_iterable(rows))):
        return None
    data = pickle.dumps((tuple(rows), {}), 5)
    return data if len(data) <= limit else None

"""What calls and functions are, told alike by every process: what a key's work is compared by."""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from io import BytesIO
from sys import getsizeof
from typing import Any

from fxhpc.serialize import build, references
from fxhpc.serialize.telling import Telling
from fxhpc.units import LARGE_PAYLOAD

_are_plain = frozenset({int, float, complex, bool, type(None), str, bytes}).issuperset

#: Stands in whatever is packed by value: what a process calls it by is its own.
_BY_VALUE = build.__name__.encode()

#: Objects that a function may refer to and still be told: who has no key is not to wait for it.
MOST_OBJECTS = 100_000


def content_of(function: Callable[..., Any]) -> bytes:
    """What a function does, as far as it is sent with it.

    That is its code, its defaults, closure, attributes and state, the globals that it names,
    and of functions and classes among these again the same; of the user's modules the sources.

    Returns:
        32 bytes, the same for the same function in every process; b"" if it cannot be told.
    """
    telling = Telling(MOST_OBJECTS)
    try:
        told = telling.tell(function)
    except Exception:  # what pickle alone does not pack, nested too deeply, or too much
        return b""
    return hashlib.sha256(told + telling.sources()).digest()


class Contents:
    """The calls of one stream, in their order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._telling = Telling()
        self._checked: dict[bytes, bool] = {}  # bodies, by digest: whether packed bytes tell
        self._telltales: list[bytes] = []  # what stands in packed bytes that do not tell

    def add(self, args: tuple[Any, ...], kwargs: dict[str, Any], payload: bytes = b"") -> None:
        """Add a call.

        Args:
            payload: its packed arguments, by a packer that packs only these calls: large ones are
                taken as they are packed.
        """
        data = self._stable(args, kwargs, payload)
        self._hash.update(len(data).to_bytes(8, "big"))
        self._hash.update(data)

    def digest(self) -> bytes:
        """32 bytes, the same for the same calls."""
        found = self._hash.copy()
        found.update(self._telling.sources())
        return found.digest()

    def _stable(self, args: tuple[Any, ...], kwargs: dict[str, Any], payload: bytes) -> bytes:
        values = (*args, *kwargs.values())
        if _are_plain(map(type, values)) and sum(map(getsizeof, values)) <= LARGE_PAYLOAD:
            file = BytesIO()
            pickler = pickle.Pickler(file, 5)
            pickler.fast = True  # whether two equal texts are one object is nobody's business
            pickler.dump((args, kwargs))
            return file.getvalue()
        bodies = getattr(payload, "bodies", ())
        if (bodies or len(payload) > LARGE_PAYLOAD) and not (
            self._is_unstable(payload) or any(map(self._is_unstable_body, bodies))
        ):
            return bytes(payload)
        try:
            return self._telling.tell((args, kwargs))
        except Exception:  # what pickle alone does not pack, or nested too deeply
            return bytes(payload)

    def _is_unstable_body(self, body: Any) -> bool:
        known = self._checked.get(body.digest)
        if known is None:
            known = self._checked[body.digest] = self._is_unstable(body.data)
        return known

    def _is_unstable(self, data: bytes) -> bool:
        """Whether packed bytes are others elsewhere, or the same though what they name has
        changed: the user's modules."""
        if not self._telltales:
            users = filter(references.user_module_of, list(sys.modules))
            self._telltales = [_BY_VALUE, *(name.encode() for name in users)]
        return any(name in data for name in self._telltales)

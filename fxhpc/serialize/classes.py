"""Which dynamic class is which: tokens that name a class object in every process that has it.

A *dynamic* class is one that a worker cannot import: of `__main__`, of a notebook, made inside a
function. The process that made it gives it a random token. Everybody else builds it once per
token, and sends its instances back by the same token, so that they arrive as instances of the
very class that its maker has.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

#: Classes that are kept though nobody seems to use them: a result may still name them.
_KEPT_CLASSES = 4096
_TOKEN_BYTES = 16

Dependencies = list[tuple[Mapping[str, Any], str, Any]]


class Absent:
    """Stands for a name that a namespace does not have."""


class Entry:
    """What this process knows of one dynamic class."""

    __slots__ = ("body", "built", "dependencies", "modules", "revision", "token", "written")

    def __init__(self, token: bytes, built: bool) -> None:
        self.token = token
        self.built = built  # made here from bytes, so that newer bytes may change it
        self.revision = 0
        self.body = b""  # what others build it from
        self.modules: frozenset[str] = frozenset()  # user modules that the body refers to
        self.dependencies: Dependencies | None = None  # if none of these changed, the body holds
        #: codes of methods, and the names of those that `dataclass` has written
        self.written: tuple[dict[str, list[CodeType]], list[str]] | None = None

    def is_current(self) -> bool:
        """Whether the body is still what packing the class again would give."""
        if not self.body:
            return False
        if self.built:
            return True  # the maker alone says what the class is
        return self.dependencies is not None and all(
            namespace.get(name, Absent) is value for namespace, name, value in self.dependencies
        )


class _Building(threading.local):
    """The body that this thread builds classes from, if it does."""

    body: bytes = b""
    revision: int = 0


class _Entries:
    """Entries by class; by identity, since a metaclass may say that classes are equal."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[weakref.ref[type], Entry]] = {}

    def get(self, cls: type) -> Entry | None:
        found = self._by_id.get(id(cls))
        return found[1] if found is not None and found[0]() is cls else None

    def __getitem__(self, cls: type) -> Entry:
        entry = self.get(cls)
        if entry is None:
            raise KeyError(cls)
        return entry

    def __setitem__(self, cls: type, entry: Entry) -> None:
        key = id(cls)
        self._by_id[key] = weakref.ref(cls, lambda ref: self._forget(key, ref)), entry

    def _forget(self, key: int, ref: weakref.ref[type]) -> None:
        found = self._by_id.get(key)
        if found is not None and found[0] is ref:  # another class may have the same id by now
            del self._by_id[key]


_entries = _Entries()
_by_token: weakref.WeakValueDictionary[bytes, type] = weakref.WeakValueDictionary()
_kept: deque[type] = deque(maxlen=_KEPT_CLASSES)
_revisions = itertools.count(1)
_building = _Building()
_lock = threading.RLock()
_adopts = True


def entry_of(cls: type) -> Entry:
    """The entry of a dynamic class, made if it is new."""
    entry = _entries.get(cls)
    if entry is None:
        entry = Entry(os.urandom(_TOKEN_BYTES), built=False)
        _remember(cls, entry)
    return entry


def _remember(cls: type, entry: Entry) -> None:
    _entries[cls] = entry
    _by_token[entry.token] = cls
    _kept.append(cls)


def new_body(entry: Entry, body: bytes) -> None:
    """Take note of what a class is packed as now; a change makes a new revision."""
    if body != entry.body:
        entry.body = body
        entry.revision = next(_revisions)


def load(token: bytes, revision: int, body: bytes, build: Callable[[bytes], Any]) -> type:
    """The class of a token; built from the body if it is unknown here, or known in an older form.

    Raises:
        LookupError: the body does not define it.
    """
    cls = _by_token.get(token)
    if cls is not None and not _is_older(cls, revision):
        return cls
    # One thread builds at a time, so that none sees the half of a class. Whoever waits longer
    # than any build takes goes on alone: a hanging import must not stop other callers.
    locked = _lock.acquire(timeout=10)
    before = (_building.body, _building.revision)
    try:
        cls = _by_token.get(token)
        if cls is None or _is_older(cls, revision):
            _building.body, _building.revision = body, revision
            build(body)
            cls = _by_token.get(token)
    finally:
        _building.body, _building.revision = before
        if locked:
            _lock.release()
    if cls is None:
        raise LookupError("a packed class does not define what it was packed for")
    return cls


def _is_older(cls: type, revision: int) -> bool:
    entry = _entries.get(cls)
    return entry is not None and entry.built and entry.revision < revision


def find(token: bytes, qualname: str, module: str, fields: tuple[str, ...]) -> type | None:
    """The class of a token, or the `__main__` class of this process that it stands for.

    The second is how a later run of a script reads what an earlier one left behind.
    """
    cls = _by_token.get(token)
    if cls is not None or module != "__main__" or not _adopts:
        return cls
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or fields_of(found) != fields:
        return None
    _by_token[token] = found
    if _entries.get(found) is None:
        _remember(found, Entry(token, built=False))
    return found


def register(cls: type, token: bytes) -> None:
    """Take note of a class that was built here; its bytes are kept, to be sent on as they are."""
    entry = Entry(token, built=True)
    entry.body, entry.revision = _building.body, 0
    _remember(cls, entry)


def wants_state(cls: type) -> bool:
    """Whether the state that comes with the body at hand is to be written to the class."""
    entry = _entries.get(cls)
    return entry is not None and entry.built and entry.revision < _building.revision


def has_state(cls: type) -> None:
    """Take note that a class is now what the body at hand says."""
    entry = _entries[cls]
    entry.body, entry.revision = _building.body, _building.revision


def fields_of(cls: type) -> tuple[str, ...]:
    """What a class's instances have as far as the class says it: what an adopted one must share."""
    own = vars(cls)
    slots = own.get("__slots__", ())
    return (
        *sorted(own.get("__annotations__", ())),
        "/",
        *((slots,) if isinstance(slots, str) else map(str, slots)),
        "/",
        *map(str, own.get("_fields", ())),
        *map(str, own.get("_member_map_", ())),
    )


def forget_built() -> None:
    """Build classes anew when they are met again: modules that they are made with have changed."""
    for token, cls in list(_by_token.items()):
        entry = _entries.get(cls)
        if entry is not None and entry.built:
            _by_token.pop(token, None)


def never_adopt() -> None:
    """In a worker `__main__` is not the user's: nothing there stands for a class of theirs."""
    global _adopts
    _adopts = False

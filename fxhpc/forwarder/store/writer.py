"""The thread that owns the store: it commits whatever waits in one transaction.

The loop hands over lists of operations and questions, each with a token of its own, and is woken
when answers are there. A list is committed whole or not at all, and one that fails takes no
other with it. Answers come in the order of the requests.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from fxhpc import forks
from fxhpc.errors import ForwarderError
from fxhpc.forwarder.claim import Displaced
from fxhpc.forwarder.store.errors import explain
from fxhpc.forwarder.store.operations import (
    AddBody,
    AddResults,
    AddSubmission,
    DropResults,
    DropStream,
    DropSubmissions,
    Operation,
)
from fxhpc.forwarder.store.store import Store

#: What one transaction takes: requests, so that what comes later need not wait for more; and bytes,
#: so that the log does not grow beyond what the store's reserve is made for.
_GROUP_LIMIT, _GROUP_BYTES = 512, 4 * 2**20

#: What is done in the caller's thread at the most: operations, and bytes in them.
_SMALL_OPERATIONS, _SMALL_BYTES = 4, 16 * 1024

#: Bytes that wait to be written beyond which `is_full` says so.
WAITING_BYTES = 64 * 2**20

#: What a small commit adds to the log, a task or an outcome beside its bytes, and a row that is
#: dropped: the page it was on, about.
_COMMIT_BYTES, _TASK_BYTES, _DROPPED_BYTES = 16 * 1024, 24, 4400

#: What `completed` gives: the token, and None, the answer to a question, or an exception.
Completion = tuple[object, object]


class _Submit(NamedTuple):
    token: object
    operations: Sequence[Operation]
    size: int


class _Read(NamedTuple):
    token: object
    method: str
    arguments: tuple[object, ...]


class _Checkpoint(NamedTuple):
    """Move what is in the log into the database."""


class AnyWriter(Protocol):
    """What both writers offer a loop."""

    def submit(self, token: object, operations: Sequence[Operation]) -> None:
        """Write all of these, or none: completed with None, or with the exception."""

    def read(self, token: object, method: str, *arguments: object) -> None:
        """Ask the store, after all that was submitted before: completed with the answer."""

    def completed(self) -> list[Completion]:
        """What has been done since the last call."""

    def close(self) -> None:
        """Do what waits, then close the store."""


class Writer:
    """A writer with a thread of its own: the loop never waits for a disk.

    Args:
        store: from now on this writer's.
        wake: called in that thread whenever `completed` has something new to tell.
        inline: do what is small in the caller's thread, as long as the other has nothing to do.
            It takes less time than to wake a thread and to be woken by it, where commits are not
            synchronised with the disk. Checkpoints, which are, are always left to the thread.
        waiting_bytes: see `is_full`.

    Attributes:
        is_displaced: another process owns the store now. What was asked for since is not answered,
            for whoever asked: the new owner does.
    """

    def __init__(
        self,
        store: Store,
        wake: Callable[[], None],
        *,
        inline: bool = False,
        waiting_bytes: int = WAITING_BYTES,
    ) -> None:
        self._store = store
        self._wake = wake
        self._inline = inline
        self._asked = 0  # requests for the thread, counted by the caller
        self._answered = 0  # and those that are done, counted by the thread
        self._waiting_bytes = waiting_bytes
        self._asked_bytes = self._answered_bytes = 0  # likewise
        self._logged = 0  # bytes that went into the log since it was emptied, about
        if inline:
            store.checkpoint_by_hand()
        self._requests: SimpleQueue[_Submit | _Read | _Checkpoint | None] = SimpleQueue()
        self._completed: deque[Completion] = deque()
        self._closed = False
        self._leaving = False
        self.is_displaced = False
        self._thread = threading.Thread(target=self._run, name="fxhpc-store-writer", daemon=True)
        self._thread.start()

    def submit(self, token: object, operations: Sequence[Operation]) -> None:
        """Write all of these, or none: completed with None, or with the exception."""
        size = _size(operations)
        is_small = len(operations) <= _SMALL_OPERATIONS and size <= _SMALL_BYTES
        if self._inline and is_small and self._asked == self._answered:
            self._complete(token, _apply(self._store, operations))
        else:
            self._asked_bytes += size
            self._put(_Submit(token, operations, size))
        if self._inline:
            most = self._store.logged_payload
            in_files = _in_files(operations, most) if size > most else 0
            self._logged += size - in_files + _COMMIT_BYTES
            if self._logged > self._store.log_limit:
                self._logged = 0
                self._put(_Checkpoint())

    def read(self, token: object, method: str, *arguments: object) -> None:
        """Ask the store, after all that was submitted before: completed with the answer."""
        self._put(_Read(token, method, arguments))

    def _put(self, request: _Submit | _Read | _Checkpoint | None) -> None:
        self._asked += 1
        self._requests.put(request)

    def is_full(self) -> bool:
        """Whether so much waits to be written that no more of clients' work should be read."""
        return self._asked_bytes - self._answered_bytes > self._waiting_bytes

    def completed(self) -> list[Completion]:
        """What has been done since the last call."""
        done = []
        while self._completed:
            done.append(self._completed.popleft())
        return done

    def close(self) -> None:
        """Do what waits, close the store and end the thread. Later requests are ignored."""
        if self._closed:
            return
        self._closed = True
        self._put(None)
        self._thread.join()

    def leave(self) -> None:
        """Write nothing any more, and leave the store as it is: another process owns it. This one
        must end without closing it, which would write, and remove the other's log.
        """
        self._leaving = True
        self.close()

    def _complete(self, token: object, result: object) -> None:
        if isinstance(result, Displaced):
            self.is_displaced = True
        else:
            self._completed.append((token, result))

    def _run(self) -> None:
        group: list[_Submit] = []
        while True:
            request = self._requests.get()
            size = 0
            for taken in range(1, _GROUP_LIMIT + 1):
                if isinstance(request, _Submit):
                    group.append(request)
                    size += request.size
                else:
                    self._commit(group)
                    if request is None:
                        if not self._leaving:
                            with forks.none:
                                self._store.close()
                        return
                    if isinstance(request, _Read):
                        self._complete(request.token, _answer(self._store, request))
                        self._wake()
                    else:
                        self._checkpoint()
                    self._answered += 1
                if taken == _GROUP_LIMIT or size > _GROUP_BYTES:
                    break
                try:
                    request = self._requests.get_nowait()
                except Empty:
                    break
            self._commit(group)

    def _checkpoint(self) -> None:
        try:
            with forks.none:
                self._store.checkpoint()
        except Displaced:
            self.is_displaced = True
        except ForwarderError:
            pass  # nobody can tell now whose the store is: it is tried again

    def _commit(self, group: list[_Submit]) -> None:
        """Commit these, tell the loop, and empty the list."""
        if not group:
            return
        if self._leaving:
            group.clear()
            return
        together = [operation for request in group for operation in request.operations]
        if len(group) > 1 and _apply(self._store, together) is None:
            self._completed.extend((request.token, None) for request in group)
        else:  # alone, or one of them failed: so each for itself, and only that one fails
            for request in group:
                self._complete(request.token, _apply(self._store, request.operations))
        self._answered += len(group)
        self._answered_bytes += sum(request.size for request in group)
        group.clear()
        self._wake()


class DirectWriter:
    """A writer without a thread: a request is done when the call returns. For stores in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._completed: list[Completion] = []
        self._closed = False

    def submit(self, token: object, operations: Sequence[Operation]) -> None:
        """Write all of these, or none: completed with None, or with the exception."""
        self._completed.append((token, _apply(self._store, operations)))

    def read(self, token: object, method: str, *arguments: object) -> None:
        """Ask the store: completed with the answer."""
        self._completed.append((token, _answer(self._store, _Read(token, method, arguments))))

    def completed(self) -> list[Completion]:
        """What has been done since the last call."""
        done, self._completed = self._completed, []
        return done

    def close(self) -> None:
        """Close the store."""
        if not self._closed:
            self._closed = True
            with forks.none:
                self._store.close()


def _size(operations: Sequence[Operation]) -> int:
    """About how many bytes these write."""
    size = 0
    for operation in operations:
        if isinstance(operation, AddSubmission):
            size += sum(map(len, operation.payloads)) + _TASK_BYTES * len(operation.payloads)
        elif isinstance(operation, AddResults):
            outcomes = operation.outcomes
            size += sum(len(outcome.data) + len(outcome.output) for outcome in outcomes)
            size += _TASK_BYTES * len(outcomes)
        elif isinstance(operation, AddBody):
            size += len(operation.data)
        elif isinstance(operation, DropSubmissions | DropResults):
            size += len(operation.rows) * _DROPPED_BYTES
        elif isinstance(operation, DropStream):
            size += _SMALL_BYTES + 1  # any number of rows
    return size


def _in_files(operations: Sequence[Operation], most: int) -> int:
    """How many bytes of these are in payloads of more than `most`: the log does not have them."""
    sizes: list[int] = []
    for operation in operations:
        if isinstance(operation, AddSubmission):
            sizes += map(len, operation.payloads)
        elif isinstance(operation, AddResults):
            sizes += [len(outcome.data) for outcome in operation.outcomes]
        elif isinstance(operation, AddBody):
            sizes.append(len(operation.data))
    return sum(size for size in sizes if size > most)


def _apply(store: Store, operations: Sequence[Operation]) -> Exception | None:
    try:
        with forks.none:  # here and below: SQLite has locks that all stores of a process share
            store.apply(operations)
    except Exception as error:  # whatever it is, the loop must hear of it and the thread go on
        store.note_damage(error)
        return explain(error, store.path) if isinstance(error, sqlite3.Error) else error
    return None


def _answer(store: Store, request: _Read) -> object:
    try:
        with forks.none:
            return getattr(store, request.method)(*request.arguments)
    except Exception as error:
        store.note_damage(error)
        return explain(error, store.path) if isinstance(error, sqlite3.Error) else error

"""Chunks of a map that did not come back whole: their calls are run again, each as a task."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable, Iterable
from concurrent.futures._base import PENDING
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fxhpc.client.futures import TaskFuture
from fxhpc.client.resources import Declared
from fxhpc.protocol.outcome import LossCause, Outcome, OutcomeKind, unpack_loss
from fxhpc.serialize import PackedFunction

if TYPE_CHECKING:
    from fxhpc.client.groups import Group
    from fxhpc.client.submitter import Submitter

#: What packs a call: see `fxhpc.serialize.pack_arguments`.
Pack = Callable[[tuple[Any, ...], dict[str, Any], int], bytes]

#: Losses that say nothing of a single call: no worker starts, or the chunk's own time was over.
_OF_ALL = frozenset({LossCause.WORKER_UNSTARTABLE, LossCause.TASK_WALLTIME})


class Singles(list[TaskFuture]):
    """The value of a chunk's future whose calls were run again: the future of each."""


@dataclass
class Chunks:
    """What a stream of chunks knows beside any other."""

    function: PackedFunction  # what each call of a chunk calls
    pack: Pack
    limit: int  # bytes that the arguments of one call may take
    declared: Declared
    payloads: dict[int, bytes] = field(default_factory=dict)  # of the chunks that have not ended
    split: dict[int, TaskFuture] = field(default_factory=dict)  # those whose calls run again now


def divert(group: Group, chunks: Chunks, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes of chunks without those whose calls have to run again. In the connection's
    thread; packing and submitting the calls is left to the one of the callbacks.

    A chunk that was lost is split so that the culprit is lost alone. One that ended by an error
    never began (a call's own error ends that call): its arguments cannot be unpacked as a whole.
    """
    rest: list[Outcome] = []
    for outcome in outcomes:
        with group.lock:
            payload = chunks.payloads.pop(outcome.index, None)
            if payload is None or not _is_to_split(outcome):
                rest.append(outcome)
                continue
            future = group.futures.pop(outcome.index, None)
            if future is None:
                continue
            future._state = PENDING  # it waits again, and can be cancelled
            chunks.split[outcome.index] = future
        group.callbacks.call(_Split(group, chunks, future, payload, outcome))
    return rest


def _is_to_split(outcome: Outcome) -> bool:
    if outcome.kind == OutcomeKind.LOST:
        return unpack_loss(outcome.data).cause not in _OF_ALL
    return outcome.kind == OutcomeKind.ERROR


class _Split:
    """Submits the calls of a chunk, and then ends its future, so that nobody sees neither."""

    def __init__(
        self, group: Group, chunks: Chunks, future: TaskFuture, payload: bytes, outcome: Outcome
    ) -> None:
        self._group = group
        self._chunks = chunks
        self._future = future
        self._payload = payload
        self._outcome = outcome

    def __call__(self) -> None:
        group, chunks, future = self._group, self._chunks, self._future
        submitter = group.submitter
        singles, outcome = None, self._outcome
        try:
            singles = self._submit(submitter)
        except RuntimeError:  # the executor was closed meanwhile
            outcome = Outcome(future._index, OutcomeKind.CANCELLED)
        except Exception:
            pass  # the arguments cannot be taken apart here either
        with group.lock:
            chunks.split.pop(future._index, None)
            if singles is None:
                group.futures[future._index] = future
        if singles is None:
            group.end([outcome])  # counts it, too
            return
        try:
            future.set_result(singles)
        except cf.InvalidStateError:  # nobody wants it any more
            for single in singles:
                single.cancel()
        submitter.ended(group, 1)

    def _submit(self, submitter: Submitter) -> Singles:
        from fxhpc.serialize import load_arguments
        from fxhpc.serialize.bodies import Bodies

        chunks, bodies = self._chunks, Bodies()
        for body in getattr(self._payload, "bodies", ()):
            bodies.put(body.digest, body.data)
        rows, _ = load_arguments(self._payload, bodies)
        payloads = [chunks.pack(row, {}, chunks.limit) for row in rows]
        futures = submitter.submit_many(chunks.function, payloads, chunks.declared, again=True)
        return Singles(futures)

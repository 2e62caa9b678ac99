"""Makes the calls of a chunk, one after the other; each ends on its own.

A chunk that runs again, after a worker has died of it, runs *carefully*: how each of its calls ends
is kept when it ends, and what has ended is not made again. See `fxhpc.worker.careful`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from fxhpc.protocol.messages import GivenUp
from fxhpc.protocol.pool import CALL, NO_CALL, WorkRun
from fxhpc.worker import forks
from fxhpc.worker.careful import CarefulFile
from fxhpc.worker.run import ERROR, VALUE, Runner


class CallMaker:
    """Makes calls in this worker.

    Args:
        words: those of the worker's page, where it says which call it is at.
        kept: a file for how calls end; -1: nothing can be kept.
    """

    def __init__(self, runner: Runner, words: memoryview, kept: int = -1) -> None:
        self._runner = runner
        self._words = words
        self._file = CarefulFile(kept)

    def run(
        self,
        function: Callable[..., Any],
        data: bytes | memoryview,
        limit: int,
        given_up: Iterable[GivenUp],
        spill: tuple[str, bytes, int] | None,
        enter: Callable[[int], None] | None = None,
        again: WorkRun | None = None,
    ) -> tuple[int, bytes]:
        """Run a chunk: the kind of its outcome, ERROR if any call failed, and the packed `Chunk`.

        Args:
            limit: bytes that one value may take.
            given_up: calls that are not made.
            spill: where a larger value goes: a directory, the stream, and the number there of the
                first call. None: it is an error of its call.
            enter: called before each call, with its place.
            again: its run, if it is to run carefully. What was kept is taken out of that.
        """
        runner, words = self._runner, self._words
        try:
            calls = runner.serializer.Calls(data, runner.loader.bodies)
        except BaseException as error:
            return self.failed(0, runner.pack_error(error, limit))
        losses = {one.call: one.loss for one in given_up}

        def pack(value: Any, call: int) -> bytes:
            words[CALL] = call  # what its own code does when it is packed is its doing too
            if spill is None:
                return runner.serializer.pack_result(value, limit)
            directory, stream, first = spill
            return runner.serializer.pack_or_spill(value, limit, directory, stream, first + call)

        def pack_error(error: BaseException) -> bytes:
            return runner.pack_error(error, limit)

        if again is not None:
            packers = (pack, pack_error)
            return self._run_carefully(function, calls, losses, packers, enter, again)
        ends = runner.serializer.Ends(losses, pack, pack_error, limit)
        if calls.rows is None or calls.kwargs or losses or enter is not None:
            self._make_each(function, calls, ends, losses, enter)
        else:
            self._make_simple(function, calls.rows, ends)
        words[CALL] = NO_CALL
        chunk = ends.chunk()
        words[CALL] = NO_CALL
        return (ERROR if chunk.has_failures else VALUE), chunk.pack()

    def _run_carefully(
        self,
        function: Callable[..., Any],
        calls: Any,
        losses: dict[int, bytes],
        packers: tuple[Callable[[Any, int], bytes], Callable[[BaseException], bytes]],
        enter: Callable[[int], None] | None,
        again: WorkRun,
    ) -> tuple[int, bytes]:
        file, words, size = self._file, self._words, len(calls)
        file.begin(again.kept or b"", size)
        again.kept = b""  # it takes as much memory as all these values
        ended = file.values.keys() | file.failures.keys()
        # One that had ended when something else killed the worker has its value all the same.
        losses = {call: loss for call, loss in losses.items() if call not in ended}
        ends = self._runner.serializer.KeptEnds(*packers, file.values, file.failures, file.taken)
        order = dict.fromkeys([*file.suspects, *range(size)])
        left = [call for call in order if call not in ended and call not in losses]
        self._make_left(function, calls, ends, left, enter)
        words[CALL] = NO_CALL
        try:
            chunk = ends.chunk(size, losses)
            return (ERROR if chunk.has_failures else VALUE), chunk.pack()
        except OSError as error:
            if not left:
                return self.failed(size, packers[1](error))
            # The manager still has all of it: the next worker has only to put it together.
            words[CALL] = left[-1]
            file.give_up()
        finally:
            file.end()

    def failed(self, size: int, error: bytes) -> tuple[int, bytes]:
        """The outcome of a chunk none of whose calls could be made."""
        return ERROR, self._runner.serializer.Chunk(size, of_all=error).pack()

    def _make_simple(
        self, function: Callable[..., Any], rows: Sequence[tuple[Any, ...]], ends: Any
    ) -> None:
        """Make calls that need nothing but their arguments, which are there."""
        words, values, plain = self._words, ends.values, ends.PLAIN
        size = len(rows)
        while len(values) < size:
            try:
                for call in range(len(values), size):
                    words[CALL] = call
                    value = function(*rows[call])
                    if forks.is_child:
                        os._exit(0)  # it must not make the others
                    if type(value) in plain:
                        values.append(value)
                    else:
                        ends.add(value)
            except BaseException as error:  # SystemExit too, as of a task of its own
                if forks.is_child:
                    os._exit(0)
                ends.fail(error)

    def _make_each(
        self,
        function: Callable[..., Any],
        calls: Any,
        ends: Any,
        losses: Container[int],
        enter: Callable[[int], None] | None,
    ) -> None:
        """Make calls of any kind; the loop of `_make_simple` is apart for its speed."""
        words, values, plain = self._words, ends.values, ends.PLAIN
        size = len(calls)
        while len(values) < size:
            try:
                for call in range(len(values), size):
                    if call in losses:
                        ends.skip()
                        continue
                    words[CALL] = call
                    if enter is not None:
                        enter(call)
                    args, keywords = calls.arguments(call)
                    value = function(*args, **keywords)
                    if forks.is_child:
                        os._exit(0)
                    if type(value) in plain:
                        values.append(value)
                    else:
                        ends.add(value)
            except BaseException as error:
                if forks.is_child:
                    os._exit(0)
                ends.fail(error)

    def _make_left(
        self,
        function: Callable[..., Any],
        calls: Any,
        ends: Any,
        left: Sequence[int],
        enter: Callable[[int], None] | None,
    ) -> None:
        """Make these calls, in this order."""
        words, count, position = self._words, len(left), 0
        while position < count:
            try:
                while position < count:
                    words[CALL] = call = left[position]
                    if enter is not None:
                        enter(call)
                    args, keywords = calls.arguments(call)
                    value = function(*args, **keywords)
                    if forks.is_child:
                        os._exit(0)
                    ends.add(call, value)
                    position += 1
            except BaseException as error:
                if forks.is_child:
                    os._exit(0)
                ends.fail(left[position], error)
                position += 1

"""Results that are not pushed: those of kept tasks are asked for, by who wants their futures."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.selection import to_ranges
from fxhpc.client.sending.groups import Group
from fxhpc.protocol import service, states

#: Results that are refused (the store cannot be read) are asked for again, after so many seconds
#: and so often.
_REFUSED_S, _REFUSALS = 1.0, 10

#: Questions that wait for their answers at a time, and seconds that the first of them waits for one
#: of its tasks to end; each further one waits for a quarter of that of the one before.
_QUESTIONS, _LONGEST_S = 5, 30.0

#: A question for many tasks waits until a part of them has ended, or for so many seconds: as long
#: as that costs little of a processor. Of very many it is for so many, and then for the next ones.
_MANY, _PART, _SOON_S, _PER_TASK_S, _LOT = 32, 16, 0.25, 50e-6, 8192

#: The tasks of a question, by stream.
_Lot = dict[bytes, list[int]]


class Following:
    """Asks for what becomes of kept tasks.

    What comes later is asked for by a question of its own: else it would be known only when one of
    those ends that were asked for before it. What a question leaves open goes into the next one.

    Args:
        condition: the executor's; held where that is said.
        groups: its streams.
        attachment: its attachment, once there is one.
        forget: no more tasks are to be numbered in a stream.
    """

    def __init__(
        self,
        condition: threading.Condition,
        groups: Callable[[], Iterable[Group]],
        attachment: Callable[[], Attachment | None],
        forget: Callable[[Group], None],
    ) -> None:
        self._condition = condition
        self._groups = groups
        self._attachment = attachment
        self._forget = forget
        self._asked = 0  # questions that wait for their answers
        self._refusals = 0  # in a row

    def ask(self) -> None:
        """Ask for what is stored and not asked for yet. The condition is held."""
        attachment = self._attachment()
        while attachment is not None and self._asked < _QUESTIONS:
            lot = self._next_lot()
            count = sum(map(len, lot.values()))
            if not count:
                return
            wait_s, need = _LONGEST_S / 4**self._asked, 1
            if count >= _MANY:
                wait_s, need = min(wait_s, max(_SOON_S, count * _PER_TASK_S)), count // _PART
            self._asked += 1
            fetch = service.Fetch(
                0, to_ranges(lot), wait_s=wait_s, need=need, ended=True, begun=True
            )
            attachment.connection.call(fetch, functools.partial(self._on_states, lot))

    def _next_lot(self) -> _Lot:
        lot: _Lot = {}
        room = _LOT
        for group in self._kept():
            if room and (wanted := group.take_unasked(room)):
                lot[group.stream] = wanted
                room -= len(wanted)
        return lot

    def _kept(self) -> list[Group]:
        return [group for group in self._groups() if group.info.keep]

    def _on_states(self, lot: _Lot, answer: Any) -> None:
        is_answered = isinstance(answer, service.States)
        if is_answered:
            with self._condition:
                groups = {group.stream: group for group in self._kept()}
            for part in answer.streams:
                if group := groups.get(part.stream):
                    group.end([state.outcome for state in part.states if state.outcome is not None])
                    group.lose([s.index for s in part.states if s.status == states.UNKNOWN])
        with self._condition:
            self._asked -= 1
            for group in self._kept():
                if asked := lot.get(group.stream):
                    group.unasked += [index for index in asked if index in group.futures]
            if not is_answered:
                self._ask_later(answer)
                return
            self._refusals = 0
            self.ask()

    def _ask_later(self, error: BaseException) -> None:
        """What has ended cannot be read now: ask again, and in the end tell. The condition is held.

        If it is the connection that has failed, every stream has been told.
        """
        attachment = self._attachment()
        if attachment is None or not attachment.usable:
            return
        self._refusals += 1
        if self._refusals < _REFUSALS:
            timer = threading.Timer(_REFUSED_S, self._ask_again)
            timer.daemon = True
            try:
                timer.start()
                return
            except RuntimeError:
                pass  # no thread can be started
        self._refusals = 0
        for group in self._kept():
            self._forget(group)
            group.fail_all(error)

    def _ask_again(self) -> None:
        with self._condition:
            self.ask()

"""Results that are not pushed: those of an executor's kept tasks are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from fxhpc import ids
from fxhpc.client.attachments import Attachment
from fxhpc.client.groups import Group
from fxhpc.protocol import service

#: Results that are refused (the store cannot be read) are asked for again, after so many seconds
#: and so often.
_REFUSED_S, _REFUSALS = 1.0, 10


class Following:
    """Asks for what becomes of kept tasks, one question at a time.

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
        self._asked = False
        self._refusals = 0  # in a row

    def ask(self) -> None:
        """Ask, if anything has been stored and nothing is asked for yet. The condition is held."""
        attachment = self._attachment()
        if self._asked or attachment is None:
            return
        stored = {
            group.stream: [index for index in group.futures if index < group.stored]
            for group in self._groups()
            if group.info.keep
        }
        count = sum(map(len, stored.values()))
        if count:
            self._asked = True
            need = max(1, count // 16)
            tasks = [service.StreamRanges(s, ids.to_ranges(i)) for s, i in stored.items() if i]
            fetch = service.Fetch(0, tasks, wait_s=30.0 if need == 1 else 0.25, need=need)
            attachment.connection.call(fetch, self._on_states)

    def _on_states(self, answer: Any) -> None:
        with self._condition:
            self._asked = False
            if not isinstance(answer, service.States):
                self._ask_later(answer)
                return
            self._refusals = 0
            groups = {group.stream: group for group in self._groups()}
        for part in answer.streams:
            if group := groups.get(part.stream):
                group.end([state.outcome for state in part.states if state.outcome is not None])
        with self._condition:
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
        for group in [group for group in self._groups() if group.info.keep]:
            self._forget(group)
            group.fail_all(error)

    def _ask_again(self) -> None:
        with self._condition:
            self.ask()

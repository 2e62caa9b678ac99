"""What a client asks about tasks by their ids: states, results, waiting, cancelling, lists."""

from __future__ import annotations

import concurrent.futures as cf
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fxhpc import errors
from fxhpc.client import calls, cancelling, outcomes
from fxhpc.client.connection.address import Afar
from fxhpc.client.connection.session import Session
from fxhpc.client.declared import arguments
from fxhpc.client.futures.completions import Completions
from fxhpc.client.names import group_id
from fxhpc.client.results import Results
from fxhpc.client.selection import Selection
from fxhpc.client.shown import listing
from fxhpc.client.task_group import TaskGroup
from fxhpc.client.values import value_of
from fxhpc.protocol import service, states

_Id = str | uuid.UUID

#: Seconds from its submission that get_result waits for a task, where nothing else is said.
DEFAULT_WAIT_S = 5.0


class Asking(Session):
    """The part of `FuncXClient` that is about tasks which were submitted, by whomever.

    Attributes:
        session_task_group_id: the group of the client's own tasks.
    """

    session_task_group_id: str
    _results: Results

    @property
    def wait_s(self) -> float:
        """Seconds from its submission that `get_result` waits for a task. May be set."""
        return self._wait_s

    @wait_s.setter
    def wait_s(self, wait: float) -> None:
        self._wait_s = arguments.seconds("wait_s", wait)

    def get_task(self, task_id: _Id) -> dict[str, Any]:
        """What is known of a task: `pending` (a bool), `status`, why it waits or how it ended.

        `details` has where it was sent, and what it printed if that is kept.

        Raises:
            TaskNotFound: nobody knows it.
            SerializationError: its result cannot be unpacked here.
        """
        from fxhpc.client.shown import notebooks  # most clients ask for many at a time

        selection = Selection([task_id])
        state, summary = self._results.details(selection)
        if state.status == states.UNKNOWN:
            raise errors.TaskNotFound(selection.names[0])
        if selection.has_calls:
            told = calls.task_dict(state, selection.call(0), selection.names[0], summary)
        else:
            told = outcomes.task_dict(state, selection.names[0], summary)
        return notebooks.TaskRecord(told)

    def get_result(
        self, task_id: _Id, timeout: float | None = None, wait: float | None = None
    ) -> Any:
        """The value that a task returned.

        Args:
            task_id: which task.
            timeout: seconds from now to wait for it; `float("inf")` waits until it ends.
            wait: seconds from its submission to wait for it; the client's `wait` if neither is
                given. So a loop over many pending tasks waits that long in all.

        Raises:
            TaskPending: it has not ended by then; `reason` says what it waits for.
            TaskNotFound: nobody knows it.
            TaskLost, TaskCancelled: it ended without a value.
            UsageError: timeout or wait is no number of seconds.
            Exception: what the function raised.
        """
        timeout = arguments.timeout(timeout)
        seconds = self._wait_s if wait is None else arguments.seconds("wait", wait)
        selection = Selection([task_id])
        state = self._results.await_one(selection, timeout, seconds)
        return value_of(state, selection.call(0), selection.names[0])

    def get_batch_result(
        self, task_id_list: Iterable[_Id], timeout: float | None = None
    ) -> dict[str, dict[str, Any]]:
        """What is known of many tasks: for every id that was given, what `get_task` returns.

        An unknown task has the status "unknown" and an `exception`.

        Args:
            task_id_list: a list of ids, or another iterable of them.
            timeout: seconds to wait for all to end; without it, the answer is the state of now.

        Raises:
            NotAList: it is one id, or no iterable.
            UsageError: timeout is no number of seconds.
        """
        timeout = arguments.timeout(timeout)
        selection = Selection(task_id_list)
        return self._results.read(selection, timeout, outcomes.task_dict_in_batch)

    def wait(
        self,
        task_ids: Iterable[_Id],
        timeout: float | None = None,
        return_when: str = cf.ALL_COMPLETED,
    ) -> tuple[list[str], list[str]]:
        """Wait for tasks; return the ids of those that have ended and of those that have not.

        An id that the home does not know counts as ended: `get_batch_result` tells of it.

        Raises:
            NotAList: it is one id, or no iterable.
            UsageError: timeout is no number of seconds.
        """
        selection = Selection(task_ids, "wait")
        return self._results.wait(selection, arguments.timeout(timeout), return_when)

    def as_completed(
        self, task_ids: Iterable[_Id], timeout: float | None = None
    ) -> Completions[str]:
        """The ids of tasks as they end, for `for` and for `async for`; one that the home does not
        know comes at once.

        Raises:
            NotAList: it is one id, or no iterable.
            UsageError: timeout is no number of seconds.
            TimeoutError: not all have ended within so many seconds.
        """
        selection = Selection(task_ids, "as_completed")
        return Completions(self._results.as_completed(selection, arguments.timeout(timeout)))

    def group(self, task_group_id: _Id | None = None) -> TaskGroup:
        """The tasks of a group, whoever submitted them, also when their process is long gone.

        Its `task_ids`, `len()` and `counts()`, its `results()` as they come, `wait()`, `cancel()`.
        Who waits for them runs here what lies there for a `local` that is gone.

        Args:
            task_group_id: which; this client's own if nothing is said.

        Raises:
            InvalidUUID: it is no UUID.
            TaskGroupNotFound: the home has no task of this group.
        """
        own = self.session_task_group_id
        group = group_id(task_group_id) or own
        found = TaskGroup(
            group,
            self._ask,
            lambda: self._results,
            lambda interrupt: self._cancel_group(group, interrupt),
            group == own,
            self._home if isinstance(self._home, Path) else None,
        )
        found.counts()  # whether it exists
        return found

    def _cancel_group(self, group: str, interrupt: bool) -> dict[str, bool]:
        told = self.cancel(interrupt=interrupt, task_group_id=group)
        assert isinstance(told, dict)
        return told

    def cancel(
        self,
        task_id: _Id | Iterable[_Id] | None = None,
        interrupt: bool = False,
        *,
        task_group_id: _Id | None = None,
    ) -> bool | dict[str, bool]:
        """Cancel tasks that have not begun; with `interrupt`, end those that run.

        Returns whether the task is cancelled, now or earlier; for many, or a group, a dictionary
        of that by id. False: it had ended and keeps its outcome, runs, or is not known; or its
        endpoint did not answer within 10 seconds, and ends it when it can be reached.

        Args:
            task_id: a task, or several.
            interrupt: end those that run, and all that they have started.
            task_group_id: all tasks of this group that are there by now, whoever submitted them;
                beside `task_id` both are cancelled, the tasks that are named and the group's.

        Raises:
            UsageError: neither tasks nor a group are named.
            InvalidUUID: what is named as a task is no UUID; nothing was cancelled.
            TaskGroupNotFound: the home has no task of this group; nothing was cancelled.
        """
        return cancelling.cancel(
            self._ask,
            lambda: self._results.reader,
            self.session_task_group_id,
            task_id,
            interrupt,
            task_group_id,
        )

    def resume(self) -> None:
        """Run the older work of `local` endpoints that are gone on this process's own.

        Raises:
            UsageError: the home is on another host.
        """
        if isinstance(self._home, Afar):
            raise errors.UsageError(
                f"resume() runs work of `local` endpoints on this process's own, and that of "
                f"{self._home} belongs to its host: call resume() there."
            )
        self._ask(service.Resume(0))

    def tasks(
        self,
        endpoint: _Id | None = None,
        state: str | Iterable[str] | None = None,
        limit: int = 100,
        *,
        group: _Id | TaskGroup | None = None,
        label: str | None = None,
    ) -> list[dict[str, Any]]:
        """The tasks that the home knows, the newest first: each a dictionary.

        It has `task_id`, `status`, `pending`, `function_name`, `function_id`, `endpoint` (its
        name), `endpoint_id`, `submitted` (when its batch began, seconds since the epoch), `group`,
        if it is pending `reason`, if it is a chunk of them `calls` (the most that it has), and as
        far as they were given `labels`, `metadata` and `idempotency_key`.

        Args:
            endpoint: of this endpoint alone: a UUID, a name, or "local".
            state: in this state alone, or in one of these; "pending" are all that have not ended.
            limit: so many at most.
            group: of this task group alone: its id, or what `group()` returned.
            label: that have this label.

        Raises:
            EndpointNotFound: the home has none of this name.
            InvalidUUID: group is no UUID.
            UsageError: there is no such state, limit is no number of tasks, or label is no text.
        """
        limit = arguments.whole("limit", limit, 0, "tasks at most")
        wanted = self._endpoint(endpoint) if endpoint is not None else ""
        label = arguments.text("label", label, "which the tasks were given")
        return listing.tasks(self._ask, wanted, state, limit, group_id(group), label)


def default_wait() -> float:
    """How long `get_result` waits where nothing is said: FXHPC_WAIT, or five seconds.

    Raises:
        ValueError: FXHPC_WAIT is no number.
    """
    text = os.environ.get("FXHPC_WAIT")
    if not text:
        return DEFAULT_WAIT_S
    try:
        return arguments.seconds("FXHPC_WAIT", float(text))
    except ValueError:
        raise ValueError(f"FXHPC_WAIT is {text!r}; it is a number of seconds, 0 or more") from None

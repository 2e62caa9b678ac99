"""What a client gives out for its tasks: their ids, or tasks of asyncio in their place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.submissions import Submissions

if TYPE_CHECKING:
    from fxhpc.client.asynchronous import AsyncTasks


def checked_loop(given: Any) -> Any:
    """What was given as a loop; None stays None.

    Raises:
        UsageError: it is no loop, or closed.
    """
    if given is None:
        return None
    from fxhpc.client.asynchronous import check_loop

    return check_loop(given)


class GivenOut:
    """Makes tasks of asyncio, once somebody wants them: asyncio takes time to import.

    Args:
        share: the client's attachment, held once more.
        submissions: what the client knows of its own tasks.
    """

    def __init__(self, share: Callable[[], Attachment], submissions: Submissions) -> None:
        self._share = share
        self._submissions = submissions
        self._lock = threading.Lock()
        self._tasks: AsyncTasks | None = None

    def loop(self, given: Any) -> Any:
        """The loop that what is submitted next is awaited in.

        Raises:
            UsageError: none was given, and none runs where this is called.
        """
        from fxhpc.client.asynchronous import loop_for

        return loop_for(given)

    def of(self, task_ids: list[str], loop: Any) -> list[Any]:
        """The ids of stored tasks; with a loop, what can be awaited there in their place."""
        if loop is None:
            return task_ids
        from fxhpc.client.asynchronous import AsyncTasks

        with self._lock:
            if self._tasks is None:
                known = self._submissions.known
                self._tasks = AsyncTasks(self._share, lambda stream: known[stream].info)
            tasks = self._tasks
        return tasks.of(task_ids, loop)

    def close(self) -> None:
        """The client is closed: what is awaited fails."""
        with self._lock:
            tasks, self._tasks = self._tasks, None
        if tasks is not None:
            tasks.close()

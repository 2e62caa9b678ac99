"""A manager's log and its workers': where they are written, and what is said of messages."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from fxhpc.ids import task_id
from fxhpc.printable import make_logs_safe
from fxhpc.protocol import messages as msg
from fxhpc.protocol.pool import ManagerSpec

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"

#: Tasks that one line names, and lines about tasks that run for long, in a time.
_NAMED = 20
_STARTED_LINES, _STARTED_S = 20, 10.0

log = logging.getLogger("fxhpc.manager")


def set_up(spec: ManagerSpec, name: str) -> None:
    """Write the log to the file that the specification names, else to standard error.

    Args:
        name: of the manager, for a file of its own in `spec.log_dir`.
    """
    logging.raiseExceptions = False  # a full disk is no reason to write to what is left of it
    path = spec.log_file or (os.path.join(spec.log_dir, f"{name}.log") if spec.log_dir else "")
    handler: logging.Handler
    if path and _is_writable(os.path.dirname(path)):
        from fxhpc.manager.rotating import Rotating  # brings much, and most have no file

        handler = Rotating(path, maxBytes=spec.log_bytes, backupCount=1, delay=True)
    else:
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
    logging.basicConfig(handlers=[handler], level=logging.INFO, format=_FORMAT)
    make_logs_safe()


def say(text: str) -> None:
    """Tell whoever reads standard error: the batch job's output, or the client."""
    print(f"fxhpc: {text}", file=sys.stderr, flush=True)


def file_name(host: str, block: str, manager: str) -> str:
    """How a manager's files are named."""
    within = f"{block}-" if block else ""
    return f"manager-{within}{host}-{manager}"


class Chronicle:
    """Writes lines about what is said of tasks."""

    def __init__(self) -> None:
        self._since = 0.0
        self._lines = 0

    def said(self, message: msg.FromManager, now: float) -> None:
        """The manager has said this."""
        if isinstance(message, msg.Lost):
            for lost in message.tasks[:_NAMED]:
                task = task_id(lost.stream, lost.index)
                log.warning("lost: task %s, attempt %d: %s", task, lost.attempt, lost.loss.text)
            if len(message.tasks) > _NAMED:
                log.warning("lost: %d tasks more", len(message.tasks) - _NAMED)
        elif isinstance(message, msg.Started):
            if now - self._since > _STARTED_S:
                self._since, self._lines = now, 0
            self._lines += 1
            if self._lines <= _STARTED_LINES:
                log.info("runs for a while: %s", _named(message.tasks))
            elif self._lines == _STARTED_LINES + 1:
                log.info("more tasks run for a while; they are not named for some seconds")
        elif isinstance(message, msg.Returned):
            log.info("returned without having begun them: %s", _named(message.tasks))

    def heard(self, message: msg.ToManager) -> None:
        """The interchange has said this."""
        if isinstance(message, msg.Cancel):
            how = "interrupt" if message.interrupt else "cancel"
            log.info("asked to %s: %s", how, _named(message.tasks))
        elif isinstance(message, msg.Drain):
            log.info("asked to finish what runs, and to leave")
        elif isinstance(message, msg.Refuse | msg.Bye):
            log.info("the interchange says: %s", message.reason)


class WorkerLog:
    """A file for what one worker prints. It is made when there is something."""

    def __init__(self, path: str, most: int) -> None:
        self._path = path
        self._most = most
        self._fd = -1
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append; when the file is full, it becomes the one of before."""
        try:
            if self._fd >= 0 and self._size + len(data) > self._most:
                os.close(self._fd)
                self._fd = -1
                os.replace(self._path, f"{self._path}.1")
            if self._fd < 0:
                flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
                self._size = os.fstat(self._fd).st_size
            self._size += os.write(self._fd, data)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error.strerror)


def worker_logs(spec: ManagerSpec, name: str) -> Callable[[str], Callable[[bytes], None] | None]:
    """For a worker's name, what takes all that it prints; None where nobody wants that."""
    if not spec.worker_logs or not spec.log_dir or not _is_writable(spec.log_dir):
        return lambda worker: None
    return lambda worker: (
        WorkerLog(os.path.join(spec.log_dir, f"{name}-worker-{worker}.log"), spec.log_bytes).write
    )


def _is_writable(folder: str) -> bool:
    return os.access(folder or ".", os.W_OK | os.X_OK)


def _named(tasks: list[msg.TaskRefs]) -> str:
    names: list[str] = []
    more = 0
    for refs in tasks:
        for first, count in zip(refs.ranges[::2], refs.ranges[1::2], strict=True):
            room = max(0, min(count, _NAMED - len(names)))
            names += [task_id(refs.stream, index) for index in range(first, first + room)]
            more += count - room
    return f"tasks {', '.join(names)}" + (f" and {more} more" if more else "")

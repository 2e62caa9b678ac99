"""Runs one command line: its directory, its files, its time, and what is kept of what it wrote."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import subprocess
import tempfile
import time
from typing import NamedTuple

from fxhpc import children
from fxhpc.shell import trees

SHELL = "/bin/bash"

#: Bytes of stdout, and of stderr, that are kept at most.
SNIPPET_BYTES = 512 * 1024

#: As timeout(1) has it.
TIMED_OUT = 124

#: Linux takes no longer argument, and the command line is one.
_LONGEST = 128 * 1024 - 1

#: The longest time that poll(2) takes, in seconds; waiting then begins anew.
_LONGEST_POLL_S = 2**31 // 1000 - 1


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    timed_out: bool
    stdout: str
    stderr: str


def run(
    command: str, stdout: str | None, stderr: str | None, walltime_s: float | None, lines: int
) -> Ended:
    """Run a command line by bash, in the task's sandbox if it has one, and wait for it.

    Args:
        stdout, stderr: files that what it writes is appended to; None: a file in the sandbox named
            by the task, or one that goes when the command has ended.
        walltime_s: when this is over, all that it has started is ended; None: no limit.
        lines: how many of the last lines of each are kept.

    Raises:
        OSError: a file or the sandbox cannot be used, or bash cannot be started.
    """
    directory = os.environ.get("GC_TASK_SANDBOX_DIR")
    if directory:
        os.makedirs(directory, 0o700, exist_ok=True)
    with _Output(stdout, "stdout", directory) as out, _Output(stderr, "stderr", directory) as err:
        mark = trees.Mark()
        process = _start(command, out, err, directory, mark)
        tree = trees.Tree(process.pid, mark)
        in_time = False
        try:
            in_time = _ends_within(process, walltime_s)
        finally:
            # Ctrl-C, too. Once its end was asked for, its number may be another process's.
            if not in_time and process.returncode is None:
                trees.end(tree)
                _bury(process)
        code = children.wait(process) if in_time else TIMED_OUT
        return Ended(code, not in_time, out.last(lines), err.last(lines))


class _Output:
    """A file that a command writes to, and what it wrote there."""

    def __init__(self, name: str | None, kind: str, directory: str | None) -> None:
        self.fd = _opened(name, kind, directory)
        self._begin = os.fstat(self.fd).st_size

    def last(self, lines: int) -> str:
        """The last lines that were written since this was opened, and `SNIPPET_BYTES` at most."""
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            return ""  # /dev/null, a pipe
        begin = self._begin if self._begin <= status.st_size else 0  # it was made anew
        at = max(begin, status.st_size - SNIPPET_BYTES)
        pieces = []
        while at < status.st_size:
            piece = os.pread(self.fd, status.st_size - at, at)
            if not piece:
                break
            pieces.append(piece)
            at += len(piece)
        text = b"".join(pieces).decode("utf-8", "replace")
        return last_lines(text.replace("\r\n", "\n").replace("\r", "\n"), lines)

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def last_lines(text: str, count: int) -> str:
    """So many of a text's last lines."""
    if count == 0:
        return ""
    at = len(text) - text.endswith("\n")
    for _ in range(count):
        at = text.rfind("\n", 0, at)
        if at < 0:
            return text
    return text[at + 1 :]


def _opened(name: str | None, kind: str, directory: str | None) -> int:
    if name:
        path = os.path.join(directory or os.getcwd(), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    if directory:
        # A name of its own: the task may run a second time.
        task = os.environ.get("GC_TASK_UUID") or os.path.basename(directory)
        return tempfile.mkstemp(f".{kind}", f"{task}.", directory)[0]
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _start(
    command: str, out: _Output, err: _Output, directory: str | None, mark: trees.Mark
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [SHELL, "-c", "--", command],
            stdin=subprocess.DEVNULL,
            stdout=out.fd,
            stderr=err.fd,
            cwd=directory or None,
            env=mark.added_to(os.environ),
            start_new_session=True,
        )
    except OSError as error:
        text = f"{error.strerror}: {SHELL} could not be started on {socket.gethostname()}"
        if error.errno == errno.E2BIG:
            size = len(os.fsencode(command))
            text += (
                f". The command has {size:,} bytes; Linux takes up to {_LONGEST:,}, and less if "
                f"the environment is large. Write what is long to a file that the command reads"
            )
        raise OSError(error.errno, text, error.filename) from None


def _ends_within(process: subprocess.Popen[bytes], limit_s: float | None) -> bool:
    """Wait until a process has ended; False: it has not within that time."""
    if limit_s is None:
        children.wait(process)
        return True
    try:
        # To wait for the process itself: Popen.wait looks twenty times a second.
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # macOS; an old kernel, a container that forbids it
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True
    try:
        until = time.monotonic() + limit_s
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while (left_s := until - time.monotonic()) > 0:
            if poll.poll(min(left_s, _LONGEST_POLL_S) * 1000):
                return True
        return bool(poll.poll(0))
    finally:
        os.close(fd)


def _bury(process: subprocess.Popen[bytes]) -> None:
    """Have no zombie left of it, unless it is in an uninterruptible call and lives on."""
    try:
        process.wait(trees.KILL_S)
    except subprocess.TimeoutExpired:
        pass

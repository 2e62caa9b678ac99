"""What tasks share in a process and must not change for each other; put back between them.

Modules that a task imported, and what it did to them, stay: loading them again for each task
would cost more than most tasks. Working directory, environment, signal handlers and umask are
put right after each task; timers, limits and all remaining signals when outcomes are sent. That
costs about a microsecond, so it is done without remembering what a task called. What an
Executor's initializer sets stays.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# What tasks do set. The others are looked at less often.
_USUAL = tuple(
    int(number)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGALRM,
        signal.SIGHUP,
        signal.SIGCHLD,
        signal.SIGPIPE,
        signal.SIGUSR1,
        signal.SIGUSR2,
    )
)
# Limits that, lowered by one task, would fail the next.
_LIMITS = (
    resource.RLIMIT_AS,
    resource.RLIMIT_DATA,
    resource.RLIMIT_STACK,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_CORE,
)
_FIXED = {int(signal.SIGKILL), int(signal.SIGSTOP)}

# The one of `signal` makes an enum each time, which takes ten times as long.
_getsignal: Callable[[int], Any] = sys.modules["_signal"].getsignal
_UNLIMITED = resource.RLIM_INFINITY
_putenv = os.putenv
# No right to read is needed for a path alone.
_DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


class _Environ(os._Environ):  # type: ignore[type-arg]
    """`os.environ`, with a note that somebody wrote to it: cheaper than to compare it."""

    written = False

    def __setitem__(self, key: Any, value: Any) -> None:
        _Environ.written = True
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        _Environ.written = True
        super().__delitem__(key)


class State:
    """How the process is to look between tasks."""

    def __init__(self) -> None:
        try:
            self._cwd = os.getcwd()
        except OSError:
            self._cwd = "/"  # it was removed; any task that changes to another comes back here
        self._cwd_fd = -1
        self._open_cwd()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._environ = os.environ
        self._environ.__class__ = _Environ
        if os.supports_bytes_environ:
            os.environb.__class__ = _Environ
        self._variables = dict(os.environ)
        self._data: dict[bytes, bytes] = self._environ._data  # type: ignore[attr-defined]
        self._handlers = {
            number: _getsignal(number)
            for number in sorted(int(number) for number in signal.valid_signals())
            if number not in _FIXED
        }
        self._limits = [(which, resource.getrlimit(which)) for which in _LIMITS]
        # Copies of the standard streams, for the task that closes them.
        self._streams = [(fd, os.dup(fd)) for fd in (0, 1, 2)]
        self._usual = [self._handlers[number] for number in _USUAL]
        _Environ.written = False

    def set_variable(self, name: str, key: bytes, value: str, encoded: bytes) -> None:
        """Give a variable this value for the next task, without having to put it back.

        Args:
            key, encoded: name and value as the system has them; they cost too much to make twice.
        """
        self._variables[name] = value
        self._data[key] = encoded
        _putenv(key, encoded)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """What is changed meanwhile stays for all later tasks, unless this ends by an error: what
        an initializer sets, as in a pool of processes."""
        before = _directory()
        yield
        if os.environ is self._environ:
            self._variables = dict(os.environ)
            _Environ.written = False
        self._handlers = {number: _getsignal(number) for number in self._handlers}
        self._usual = [self._handlers[number] for number in _USUAL]
        self._limits = [(which, resource.getrlimit(which)) for which in _LIMITS]
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        # Before, it may have been that of a task which has one of its own.
        if (after := _directory()) not in ("", before):
            self._cwd = after
            self._open_cwd()

    def restore(self) -> None:
        """Put back what the task that has just ended may have changed."""
        if [*map(_getsignal, _USUAL)] != self._usual:
            for number, handler in zip(_USUAL, self._usual, strict=True):
                if _getsignal(number) is not handler:
                    _set_handler(number, handler)
        os.umask(self._umask)
        if _Environ.written or os.environ is not self._environ:
            self._restore_environ()
        try:
            # Half of what it costs to look where the process is; if that is its directory at all,
            # is looked at less often.
            os.fchdir(self._cwd_fd)
        except OSError:
            self._restore_cwd()

    def restore_rest(self) -> None:
        """Put back what is rarely changed: timers, the other signals, replaced objects."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            if os.getcwd() != self._cwd:
                self._restore_cwd()
        except OSError:
            self._restore_cwd()  # it was removed; there may be another of this name by now
        self._restore_streams()
        for which, limits in self._limits:
            if resource.getrlimit(which) != limits:
                _set_limit(which, limits)
        for number, handler in self._handlers.items():
            if _getsignal(number) is not handler:
                _set_handler(number, handler)

    def _restore_streams(self) -> None:
        for fd, copy in self._streams:
            try:
                os.fstat(fd)
            except OSError:
                os.dup2(copy, fd)

    def _open_cwd(self) -> None:
        """Have a descriptor of the directory, by which the process is brought back at once.

        One of before is left open: a task may have closed it, and its number be that of another.
        """
        try:
            self._cwd_fd = os.open(self._cwd, _DIRECTORY)
        except OSError:
            self._cwd_fd = -1

    def _restore_cwd(self) -> None:
        try:
            os.chdir(self._cwd)
        except OSError:
            return  # gone for good: a task that needs it will say so
        self._open_cwd()

    def _restore_environ(self) -> None:
        os.environ = self._environ  # noqa: B003 - a task may have put another object there
        environ, wanted = self._environ, self._variables
        for name in [name for name in environ if name not in wanted]:
            del environ[name]
        for name, value in wanted.items():
            if environ.get(name) != value:
                environ[name] = value
        _Environ.written = False


def _directory() -> str:
    """Where the process is; empty if that was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _set_limit(which: int, limits: tuple[int, int]) -> None:
    try:
        resource.setrlimit(which, limits)
    except (OSError, ValueError):
        # Only root raises what everybody may lower, the hard limit: as far as that goes, then.
        hard = resource.getrlimit(which)[1]
        soft = limits[0] if hard == _UNLIMITED or 0 <= limits[0] <= hard else hard
        try:
            resource.setrlimit(which, (soft, hard))
        except (OSError, ValueError):
            pass


def _set_handler(number: int, handler: Any) -> None:
    if handler is None:
        return  # it was not set from Python, so Python cannot set it again
    try:
        signal.signal(number, handler)
    except (OSError, ValueError):
        pass  # one of those that the C library keeps for itself

"""Text of others, such as names and what tasks print, without power over terminals and logs."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

#: Control characters, and those that turn the direction of writing or begin a line of their own.
_UNSAFE = "\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_IN_TERMINALS = re.compile(f"\x1b\\[[0-9;]*m|[{_UNSAFE}]")  # colours are ours
_IN_LOGS = re.compile(f"[{_UNSAFE}\n]")


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey: lines, tabs and colours stay.

    >>> printable("plain \\x1b]0;title\\x07")
    'plain \\\\x1b]0;title\\\\x07'
    """
    return _IN_TERMINALS.sub(lambda found: _shown(found[0]), text)


def in_one_line(text: str) -> str:
    """Text that cannot be taken for a line of a log.

    >>> in_one_line("a name\\nINFO all is well")
    'a name\\\\nINFO all is well'
    """
    return _IN_LOGS.sub(lambda found: _shown(found[0]), text)


def _shown(found: str) -> str:
    if len(found) > 1:
        return found
    return found.encode("unicode_escape").decode()


class _Formatter(logging.Formatter):
    """Escapes the message; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = in_one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, info: Any) -> str:
        return printable(super().formatException(info))


def make_logs_safe() -> None:
    """Let the root logger's handlers escape what they are given. After `logging.basicConfig`."""
    for handler in logging.getLogger().handlers:
        style = handler.formatter._style._fmt if handler.formatter is not None else None
        handler.setFormatter(_Formatter(style))


class _Guard:
    """A terminal that is written to through `printable`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it; how many characters of it were."""
        self._stream.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def safe_terminals() -> Iterator[None]:
    """While this lasts, what is printed does not command a terminal. Files get it as it is."""
    before = sys.stdout, sys.stderr
    guarded: list[Any] = [_Guard(one) if one.isatty() else one for one in before]
    sys.stdout, sys.stderr = guarded
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before

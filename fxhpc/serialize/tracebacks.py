"""The text of a remote traceback: bounded, of the user's frames, whatever the exception is like."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

#: Frames that are shown of each end of a long traceback, and exceptions of a long chain.
_FRAMES = 20
_CHAIN = 10
_GROUP = 10
_GROUP_DEPTH = 4
#: Characters of the whole text, and of one exception's own.
TEXT_LIMIT = 64 * 1024
_MESSAGE_LIMIT = 8 * 1024

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: Frames of these are ours: they say nothing to the user whose function failed.
_OURS = tuple(os.path.join(_ROOT, part) + os.sep for part in ("worker", "serialize", "manager"))


def traceback_text(exc: BaseException) -> str:
    """An exception as the interpreter shows it, from the first frame that is the user's.

    Never raises: what the exception's own methods raise is left out.
    """
    try:
        return cut(_chain(exc, 0), TEXT_LIMIT)
    except BaseException as error:  # its methods may raise anything, SystemExit included
        return f"{type_name(exc)} (its traceback cannot be shown: {type_name(error)})\n"


def type_name(exc: BaseException) -> str:
    """The qualified name of an exception's type, as tracebacks show it."""
    cls = type(exc)
    module = cls.__module__
    return (
        cls.__qualname__ if module in ("builtins", "__main__") else f"{module}.{cls.__qualname__}"
    )


def message(exc: BaseException) -> str:
    """`str(exc)`, or what stands for it if that fails."""
    try:
        text = str(exc)
        return text if isinstance(text, str) else repr(text)
    except BaseException as error:  # a `__str__` of the user's: it may raise anything
        return f"<str() of this exception failed: {type_name(error)}>"


def cut(text: str, limit: int) -> str:
    """The two ends of a text that is too long."""
    if len(text) <= limit:
        return text
    half = max((limit - 60) // 2, 0)
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[... {left_out} characters left out ...]\n{text[len(text) - half :]}"


def _chain(exc: BaseException, depth: int) -> str:
    """An exception with those that it was raised from, the first one first."""
    links: list[tuple[BaseException, str]] = [(exc, "")]
    seen = {id(exc)}
    left_out = 0
    at = exc
    while True:
        if at.__cause__ is not None:
            following, words = at.__cause__, _CAUSE
        elif at.__context__ is not None and not at.__suppress_context__:
            following, words = at.__context__, _CONTEXT
        else:
            break
        if id(following) in seen:
            break
        seen.add(id(following))
        at = following
        if len(links) < _CHAIN:
            links.append((at, words))
        else:
            left_out += 1
    parts: list[str] = []
    if left_out:
        if left_out > 1:
            parts.append(f"[... {left_out - 1} exceptions left out ...]\n\n")
        links.append((at, words))  # what it all began with
        parts.insert(0, _one(at, depth) + words)
        links.pop()
    parts += [_one(link, depth) + words for link, words in reversed(links)]
    return "".join(parts)


def _one(exc: BaseException, depth: int) -> str:
    """One exception: its frames, its message, its members if it is a group."""
    lines = _frames(exc.__traceback__)
    if lines:
        lines.insert(0, "Traceback (most recent call last):\n")
    lines.append(_only(exc))
    members = getattr(exc, "exceptions", None) if _is_group(exc) else None
    if members and depth < _GROUP_DEPTH:
        for number, member in enumerate(members[:_GROUP], 1):
            lines.append(f"  +---------------- {number} ----------------\n")
            text = _chain(member, depth + 1)
            lines += [f"  | {line}\n" for line in text.splitlines()]
        if len(members) > _GROUP:
            lines.append(f"  +---- and {len(members) - _GROUP} more ----\n")
    return "".join(lines)


def _is_group(exc: BaseException) -> bool:
    return any(cls.__name__ == "BaseExceptionGroup" for cls in type(exc).__mro__)


def _only(exc: BaseException) -> str:
    """The lines that name the exception."""
    try:
        if isinstance(exc, SyntaxError):
            return cut("".join(traceback.format_exception_only(type(exc), exc)), _MESSAGE_LIMIT)
        text = message(exc)
        lines = [f"{type_name(exc)}: {text}\n" if text else f"{type_name(exc)}\n"]
        notes = getattr(exc, "__notes__", None)
        if isinstance(notes, (list, tuple)):
            lines += [f"{note}\n" for note in notes]
        return cut("".join(lines), _MESSAGE_LIMIT)
    except BaseException as error:  # notes or attributes whose own methods raise
        return f"{type_name(exc)} (its message cannot be shown: {type_name(error)})\n"


def _frames(tb: TracebackType | None) -> list[str]:
    users = tb
    while users is not None and users.tb_frame.f_code.co_filename.startswith(_OURS):
        users = users.tb_next
    first = users if users is not None else tb
    count = 0
    at = first
    while at is not None:
        count += 1
        at = at.tb_next
    if count <= 2 * _FRAMES:
        return traceback.format_tb(first)
    middle = f"  [... {count - 2 * _FRAMES} frames left out ...]\n"
    return [
        *traceback.format_tb(first, limit=_FRAMES),
        middle,
        *traceback.format_tb(first, limit=-_FRAMES),
    ]

"""The text of a command: a template, as `str.format` has it, that keywords fill in."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Any

from fxhpc.errors import UsageError

_BRACES = (
    "A brace that is the shell's own (find -exec, awk, ${HOME}) is written twice: {{ and }}; "
    "a field has a name, as in {path}, and its value comes as a keyword: path='a.txt'"
)

_parse = string.Formatter().parse
_NAME = re.compile(r"[^.\[]*")  # of "point.x" and "row[0]", what comes first
_POSSIBLE_NAME = re.compile(r"[\w-]+")  # keywords may come from a dictionary, as "input-file"


class MissingKeyword(KeyError):
    """A command was called without a keyword that stands in it."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError shows its repr


def keywords_of(template: Any) -> list[str]:
    """The keywords that stand in a command, each once, in order.

    Raises:
        UsageError: it is no text, or none of a command line, or no template that keywords alone
            can fill in.
    """
    if not isinstance(template, str):
        raise UsageError(
            f"cmd={template!r:.200}: it is the text of a command line, not "
            f"{type(template).__name__}. To join arguments into one there is shlex.join."
        )
    if "\0" in template:
        raise UsageError(f"cmd={template!r:.500}: no command line has a NUL character.")
    try:
        names = list(dict.fromkeys(_names(template)))
    except ValueError as error:
        raise UsageError(f"cmd={template!r:.500}: {error}. {_BRACES}.") from None
    for name in names:
        if not name or name.isdigit():
            raise UsageError(
                f"cmd={template!r:.500}: {{{name}}} stands for a positional argument, and a "
                f"command has none. {_BRACES}."
            )
        if not _POSSIBLE_NAME.fullmatch(name):
            raise UsageError(
                f"cmd={template!r:.500}: {{{name}}} is not the name of a keyword. {_BRACES}."
            )
    return names


def _names(template: str) -> Iterator[str]:
    for _, field, spec, _ in _parse(template):
        if field is not None:
            found = _NAME.match(field)
            yield found[0] if found else ""
            yield from _names(spec or "")  # {number:{width}}


def filled(template: str, keywords: Mapping[str, Any]) -> str:
    """The command line.

    Raises:
        MissingKeyword: a value is missing; a KeyError.
        UsageError: it is no template, or a value has a NUL character.
        Exception: a value cannot be formatted as the template says.
    """
    missing = [name for name in keywords_of(template) if name not in keywords]
    if missing:
        hint = ""
        if any(f"${{{name}}}" in template for name in missing):
            hint = f" A variable of the shell is written ${{{{{missing[0]}}}}}."
        raise MissingKeyword(
            f"The command {template!r:.500} was called without {_listed(missing)}, and with "
            f"{_listed(keywords) or 'no keywords'}. Give a value for each of its fields.{hint}"
        )
    command = template.format(**keywords)
    if "\0" in command:
        raise UsageError(
            f"The command {template!r:.500}: what it was filled in with has a NUL character, and "
            f"no command line has one."
        )
    return command


def _listed(names: Mapping[str, Any] | list[str]) -> str:
    return ", ".join(f"{name}=" for name in names)

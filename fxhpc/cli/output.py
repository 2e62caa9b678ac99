"""How commands speak: tables and sentences for people, one JSON document for programs.

Results go to standard output, everything else (warnings, progress, errors) to standard error. With
`--json` standard output holds exactly one JSON document, also when a command fails.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import click
import msgspec

from fxhpc.forwarder.home import Home

_F = TypeVar("_F", bound=Callable[..., Any])

#: Exit codes of all commands; documented in docs/endpoint.md.
OK, FAILED, USAGE, UNKNOWN_ENDPOINT, NOT_RUNNING, RUNNING, BAD_CONFIG = range(7)
INTERRUPTED, TERMINATED = 130, 143


@dataclass
class Settings:
    """What every command can be told."""

    home: str = ""
    json: bool = False


def settings() -> Settings:
    """What the command that runs now was told."""
    return click.get_current_context().find_root().ensure_object(Settings)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        setattr(context.find_root().ensure_object(Settings), str(parameter.name), value)


def common_options(command: _F) -> _F:
    """Give a command `--home` and `--json`; `settings`, `home` and `wants_json` read them."""
    add_json = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_keep,
        help="Print one JSON document on standard output.",
    )
    add_home = click.option(
        "--home",
        metavar="DIRECTORY",
        expose_value=False,
        is_eager=True,
        callback=_keep,
        help="The home; FXHPC_HOME or ~/.fxhpc by default.",
    )
    return add_json(add_home(command))


def home() -> Home:
    """The home that the command is about."""
    return Home(settings().home or None)


def home_option() -> str:
    """` --home DIRECTORY`, for commands that people are told, if this one was given it."""
    given = settings().home
    return f" --home {shlex.quote(given)}" if given else ""


def wants_json() -> bool:
    """Whether the command was given `--json`."""
    return settings().json


def document(value: Any) -> None:
    """Print a JSON document: plain values, structs, paths."""
    click.echo(to_json(value))


def to_json(value: Any) -> str:
    """Plain values, structs and paths as JSON."""
    return json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2)


def say(text: str) -> None:
    """A result in words; nothing with `--json`."""
    if not wants_json():
        click.echo(text)


def note(text: str) -> None:
    """Something beside the result, such as a warning: on standard error, also with `--json`."""
    click.echo(text, err=True)


def progress(text: str) -> None:
    """What is being done now: on terminals alone."""
    if sys.stderr.isatty() and not wants_json():
        click.echo(text, err=True)


def colour(stream: IO[str]) -> bool:
    """Whether colour may be used there: on terminals, unless NO_COLOR is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table: lines and colour on a terminal, else columns that `awk` can read."""
    cells = [[str(cell) for cell in row] for row in rows]
    # Ids are to be copied, which fails if they are broken into two lines of a narrow column.
    fits = "Id" not in headers or _width(headers, cells) <= shutil.get_terminal_size().columns
    if fits and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        _rich_table(headers, cells, title)
        return
    if title:
        click.echo(title)
    for line in plain_table(headers, cells):
        click.echo(line)


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table of aligned columns.

    >>> plain_table(["name", "state"], [["midway", "running"]])
    ['NAME    STATE', 'midway  running']
    """
    lines = [[header.upper() for header in headers], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _width(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """The characters of a line of a table that breaks no cell, its margins included."""
    columns = zip(headers, *rows, strict=True)
    return sum(max(map(len, column)) + 3 for column in columns) + 1


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich import box  # here: most commands print no table, and start faster
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for header in headers:
        made.add_column(header, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))  # as text: brackets in it are not markup
    Console(no_color=not colour(sys.stdout)).print(made)

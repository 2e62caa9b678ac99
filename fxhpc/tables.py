"""Tables of HTML, as notebooks show them: all text is escaped; no scripts, styles or links."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from fxhpc.printable import in_one_line

#: Rows and characters of a cell that are shown at most.
MOST_ROWS, MOST_CHARACTERS = 50, 500


def facts(title: str, told: Iterable[tuple[str, Any]]) -> str:
    """A table of names and what they are; what is None or empty is left out."""
    rows = [
        f"<tr><th>{_text(name)}</th><td>{_cell(value)}</td></tr>"
        for name, value in told
        if value is not None and value not in ("", [], {}, ())
    ]
    return f"<table><caption>{_text(title)}</caption>{''.join(rows)}</table>"


def grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], total: int = 0) -> str:
    """A table with a row for each of many; the first of them, if they are very many."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>"
        for row in rows[:MOST_ROWS]
    )
    more = max(total, len(rows)) - min(len(rows), MOST_ROWS)
    if more:
        body += f'<tr><td colspan="{len(columns)}">and {more:,} more</td></tr>'
    return f"<table><caption>{_text(title)}</caption><tr>{head}</tr>{body}</table>"


def brief(value: Any, tell: Any = repr) -> str:
    """A user's object in some words. Its own methods may raise anything."""
    try:
        return str(tell(value))
    except Exception as error:
        return f"<{type(value).__name__}, which cannot be shown: {type(error).__name__}>"


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "<br>".join(_text(brief(one, str)) for one in value[:MOST_ROWS])
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    text = brief(value, str)
    if "\n" in text:
        return f"<pre>{_text(text)}</pre>"
    return _text(text)


def _text(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]} ..."
    return html.escape("\n".join(in_one_line(line) for line in text.split("\n")))

"""A search as people type it, as a query of SQLite's full text index."""

from __future__ import annotations

import re
import unicodedata

_FIELDS = {
    "name": "name",
    "function_name": "name",
    "description": "description",
    "author": "author",
    "source": "source",
    "function_source": "source",
}
_TERM = re.compile(r'(?:([a-z_]+):)?(?:"([^"]*)"|([^\s"]+))', re.IGNORECASE)


def full_text_query(text: str) -> str | None:
    """The query that finds every term of `text`; None if `text` names nothing to look for.

    A word finds what begins with it, words in double quotes each other's neighbours, and
    `author:`, `name:`, `description:` or `source:` before either looks there alone. Nothing a
    person types is ever read as syntax.

    >>> full_text_query('hello author:jane')
    '"hello"* AND author : "jane"*'
    """
    terms = []
    for match in _TERM.finditer(unicodedata.normalize("NFC", text)):
        field, phrase, word = match.groups()
        column = _FIELDS.get(field.lower()) if field else None
        wanted = phrase if phrase is not None else word
        if field and column is None:
            wanted = f"{field} {wanted}"  # a colon in plain text
        wanted = "".join(letter if letter.isalnum() else " " for letter in wanted).strip()
        if not wanted:
            continue
        prefix = "" if phrase is not None else "*"
        terms.append((f"{column} : " if column else "") + f'"{wanted}"{prefix}')
    return " AND ".join(terms) or None

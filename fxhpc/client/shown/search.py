"""The answer to `search_function`: a list that prints as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from fxhpc.protocol.service import FunctionRecord

COLUMNS = ("function_uuid", "function_name", "description", "author", "version")
TABLE_WIDTH = 120


class FunctionSearchResults(list[dict[str, Any]]):
    """Functions that a search found, best first, as dictionaries; `str()` is a table of them.

    Attributes:
        has_next_page: whether there are more behind these.
        offset: matches before these.
        total: matches in all.
    """

    FILTER_COLUMNS = (
        "function_code",
        "entry_id",
        "group",
        "public",
        "container_uuid",
        "function_source",
    )

    def __init__(self, records: Sequence[FunctionRecord], total: int, offset: int = 0) -> None:
        super().__init__(map(_entry, records))
        self.total = total
        self.offset = offset
        self.has_next_page = offset + len(records) < total
        self.columns = list(COLUMNS)

    def load_result(self, ix: int) -> None:
        """Print the source of the function at this place."""
        print(self[ix]["function_source"])

    def __str__(self) -> str:
        if not self:
            return "[]"
        rows = [[str(entry[column]) for column in COLUMNS] for entry in self]
        return draw_table(COLUMNS, rows)

    def _repr_html_(self) -> str:
        from fxhpc.client.shown import notebooks

        return notebooks.of_functions(self, COLUMNS, self.total - self.offset)


def _entry(record: FunctionRecord) -> dict[str, Any]:
    return {
        "function_uuid": record.function_id,
        "function_name": record.name,
        "description": record.description,
        "author": record.author,
        "version": "0",
        "public": record.public,
        "group": record.group,
        "container_uuid": record.container,
        "function_source": record.source,
        "function_code": record.digest.hex(),
        "created": record.created,
    }


def draw_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], limit: int = TABLE_WIDTH
) -> str:
    """A table with borders, at most `limit` characters wide; what is wider is wrapped."""
    lines = [cell.split("\n") for row in (header, *rows) for cell in row]
    widest = [
        max(len(line) for cell in lines[column :: len(header)] for line in cell)
        for column in range(len(header))
    ]
    widths = share_width(widest, limit - 3 * len(header) - 1)
    border = "+".join(["", *("-" * (width + 2) for width in widths), ""])
    drawn = [border, *_draw_row(header, widths, centred=True), border.replace("-", "=")]
    for row in rows:
        drawn += [*_draw_row(row, widths), border]
    return "\n".join(drawn)


def share_width(wanted: Sequence[int], available: int) -> list[int]:
    """Widths that add up to `available` at most: narrow columns get all, wide ones equal parts.

    >>> share_width([4, 30, 50], 40)
    [4, 18, 18]
    """
    widths = [0] * len(wanted)
    growing = [column for column, width in enumerate(wanted) if width > 0]
    while growing and available > 0:
        step = max(1, available // len(growing))
        for column in list(growing):
            more = min(step, wanted[column] - widths[column], available)
            widths[column] += more
            available -= more
            if widths[column] == wanted[column]:
                growing.remove(column)
    return widths


def _draw_row(cells: Sequence[str], widths: Sequence[int], centred: bool = False) -> list[str]:
    wrapped = [
        [part for line in cell.split("\n") for part in (textwrap.wrap(line, max(width, 1)) or [""])]
        for cell, width in zip(cells, widths, strict=True)
    ]
    drawn = []
    for number in range(max(map(len, wrapped))):
        parts = [lines[number] if number < len(lines) else "" for lines in wrapped]
        drawn.append(
            "|"
            + "|".join(
                f" {_centre(part, width) if centred else part.ljust(width)} "
                for part, width in zip(parts, widths, strict=True)
            )
            + "|"
        )
    return drawn


def _centre(text: str, width: int) -> str:
    left = (width - len(text)) // 2  # an odd space goes to the right; str.center may differ
    return " " * left + text.ljust(width - left)

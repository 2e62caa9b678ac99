"""Tables in Markdown, and what the figures were measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

#: What was measured of one case: each figure's values, one for each repeat.
Values = dict[str, list[float]]


def machine() -> str:
    """What the figures were measured on, and how busy that is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def told(values: Sequence[float] | None, digits: int | None = None) -> str:
    """A median with its range: `12,345 [11,000-13,000]`; a dash where nothing was measured."""
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    if digits is None:
        digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    if low == high:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} [{low:,.{digits}f}-{high:,.{digits}f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned for those who read it as text."""
    widths = [max(len(row[n]) for row in (header, *rows)) for n in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}{'-' if n == 0 else ':'}" for n, width in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def plain_table(found: dict[tuple[str, str], Values], label: str, figures: dict[str, str]) -> str:
    """A line for each case: its system, its label under this heading if there is one, figures.

    Args:
        found: values by system and label.
        label: the heading of the labels; empty: they are not shown.
        figures: the heading of each figure; one that no case has is not shown.
    """
    figures = {
        name: heading
        for name, heading in figures.items()
        if any(name in values for values in found.values())
    }
    header = ["system", *([label] if label else []), *figures.values()]
    lines = [
        [system, *([case] if label else []), *(told(values.get(name)) for name in figures)]
        for (system, case), values in found.items()
    ]
    return table(header, lines)


def ratio(values: Values, peer: Values | None, name: str) -> str:
    """How many times a peer's median this is."""
    if not peer or not peer.get(name) or not values.get(name):
        return "-"
    return f"{statistics.median(values[name]) / statistics.median(peer[name]):,.1f}"


def growth(most: list[float], fewest: list[float]) -> float:
    """The cost among many against that among few: the median of what each round has found.

    A machine may be a third slower for minutes, and a round takes less.
    """
    return statistics.median(a / max(b, 1e-9) for a, b in zip(most, fewest, strict=False))

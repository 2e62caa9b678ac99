"""Sizes as people write them, and durations as batch systems take them."""

from __future__ import annotations

from typing import Any

import pytest

from fxhpc.durations import parse_duration
from fxhpc.endpoint.configuration.quantities import clock, parse_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90),
        ("90", 90),
        (1.5, 1.5),
        ("30 min", 1800),
        ("1h30m", 5400),
        ("1 hour, 30 minutes", 5400),
        ("2 days", 172800),
        ("500ms", 0.5),
        ("01:00:00", 3600),
        ("1:00:00", 3600),
        ("00:30:00", 1800),
        ("12:30", 750),  # minutes and seconds, as for Slurm and PBS
        ("48:00:00", 172800),
        ("2-12:00:00", 216000),
        ("2-12", 216000),
        ("1-06:30", 109800),
    ],
)
def test_durations(written: Any, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "soon", "1 fortnight", "1h 30", "-5", -5, "nan", float("inf"), True, None, [1], "1:2:3:4",
     "00:75:00", "1..5h", "h"],
)  # fmt: skip
def test_what_is_no_duration_is_told_with_examples(written: Any) -> None:
    with pytest.raises(ValueError, match=r"01:30:00|finite"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (5242880, 5242880),
        ("4GB", 4 * 2**30),
        ("4 gb", 4 * 2**30),
        ("4g", 4 * 2**30),
        ("512 MiB", 512 * 2**20),
        ("1.5KB", 1536),
        ("10", 10),
        ("7B", 7),
        (2.0, 2),
    ],
)
def test_sizes(written: Any, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written", ["", "much", "4 parsecs", "-1GB", -1, True, None, "4iB", float("nan"), "4GBs"]
)
def test_what_is_no_size_is_told(written: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a size|finite"):
        parse_size(written)


def test_a_plain_number_counts_the_unit_that_is_usual_there() -> None:
    assert parse_size(4, 2**30, "GB") == parse_size("4GB", 2**30, "GB") == 4 * 2**30
    assert parse_size("4", 2**30, "GB") == 4 * 2**30


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "00:00:00"), (90061, "25:01:01"), (59.5, "00:01:00")]
)
def test_a_clock_of_more_than_a_day_goes_on_in_hours(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown

"""Records of calls that ended: they are read back, whatever a killed worker left of the last."""

from __future__ import annotations

import itertools

from fxhpc.protocol import kept

WRITTEN = [
    (0, kept.VALUE, b"a value"),
    (70_000, kept.ERROR, b""),
    (0, kept.PRINTED, b"printed" * 100),
    (3, kept.SUSPECT, b""),
]


def test_records_are_read_as_they_were_written() -> None:
    data = b"".join(itertools.starmap(kept.record, WRITTEN))
    assert list(kept.records(data)) == list(kept.records(memoryview(data))) == WRITTEN
    assert kept.whole(data) == data
    assert list(kept.records(b"")) == []


def test_of_what_was_cut_off_the_whole_records_are_kept() -> None:
    parts = [kept.record(*one) for one in WRITTEN]
    data = b"".join(parts)
    ends = list(itertools.accumulate(map(len, parts), initial=0))
    for size in range(len(data)):
        count = sum(end <= size for end in ends) - 1
        assert list(kept.records(data[:size])) == WRITTEN[:count]
        assert kept.whole(data[:size]) == data[: ends[count]]

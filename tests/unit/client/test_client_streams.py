"""How payloads are cut into rows of the store."""

from __future__ import annotations

import random

from fxhpc import ids
from fxhpc.client.sending.streams import ROW_BYTES, ROW_TASKS, cut
from fxhpc.protocol.messages import StreamInfo

INFO = StreamInfo(b"s" * 12, "endpoint", b"d" * 32, "function", b"c" * 16)


def rows(payloads: list[bytes]) -> list[list[bytes]]:
    return [submission.payloads for submission in cut(INFO, 0, payloads)]


def one_by_one(payloads: list[bytes]) -> list[list[bytes]]:
    """What a row is: as many as fit, and one at least."""
    found: list[list[bytes]] = []
    for payload in payloads:
        row = found[-1] if found else []
        if row and len(row) < ROW_TASKS and sum(map(len, row)) + len(payload) <= ROW_BYTES:
            row.append(payload)
        else:
            found.append([payload])
    return found


def test_rows_are_as_large_as_they_may_be() -> None:
    draw = random.Random(7)
    sizes = [1, 100, 5_000, ROW_BYTES // 2, ROW_BYTES - 1, ROW_BYTES, ROW_BYTES + 1]
    kinds = [b"x" * size for size in sizes]
    for weights in ([1] * 7, [9000, 100, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 0], [0] * 6 + [1]):
        payloads = draw.choices(kinds, weights, k=2 * ROW_TASKS + 1 if weights[0] else 5)
        if weights == [1] * 7:
            payloads = payloads[:60]
        assert rows(payloads) == one_by_one(payloads)
    assert rows([]) == []


def test_each_row_says_which_is_its_first() -> None:
    payloads = [b"x"] * (ROW_TASKS + 5) + [b"x" * ROW_BYTES] * 2
    firsts = [(one.first, len(one.payloads)) for one in cut(INFO, 10, payloads)]
    assert firsts == [(10, 1000), (1010, 5), (1015, 1), (1016, 1)]


def test_ranges() -> None:
    draw = random.Random(3)
    for kept in (1.0, 0.9, 0.1):
        indices = [index for index in range(5, 300) if draw.random() < kept]
        draw.shuffle(indices)
        ranges = ids.to_ranges(indices)
        assert ids.from_ranges(ranges) == sorted(indices)
        assert all(
            first + count < following
            for first, count, following in zip(
                ranges[::2], ranges[1::2], ranges[2::2], strict=False
            )
        )
    assert ids.to_ranges([]) == []

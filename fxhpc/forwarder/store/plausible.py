"""Whether what a store says it holds can be what was written."""

from __future__ import annotations

from fxhpc.forwarder.store.read import Recovered

#: Numbers of tasks that a stream may have lost before those that it has, in a whole store.
_PLAUSIBLE_GAP = 50_000_000


def check_plausible(recovered: Recovered) -> tuple[list[int], list[int]]:
    """Make sure that numbers can be what was written: a flipped bit makes them as large as memory.

    Returns the rows of submissions and of results that belong to no stream.

    Raises:
        ValueError: they cannot.
    """
    known = {info.stream for info, _ in recovered.streams}
    tasks: dict[bytes, int] = dict.fromkeys(known, 0)
    ends: dict[bytes, int] = dict.fromkeys(known, 0)
    spans = [(row.stream, row.first, row.tasks) for row in recovered.submissions]
    for result in recovered.results:
        firsts, counts = result.ranges[::2], result.ranges[1::2]
        spans += [
            (result.stream, first, count) for first, count in zip(firsts, counts, strict=True)
        ]
    for stream, first, count in spans:
        if first < 0 or not 0 <= count <= 2**32:
            raise ValueError("a row of tasks has impossible numbers")
        if stream in ends:
            tasks[stream] += count
            ends[stream] = max(ends[stream], first + count)
    for stream, end in ends.items():
        if end > 2 * tasks[stream] + _PLAUSIBLE_GAP or end > 2**32:
            raise ValueError(f"a batch of {tasks[stream]:,} tasks has numbers up to {end:,}")
    for _, index, _, _ in recovered.exceptions:
        if not 0 <= index < 2**32:
            raise ValueError("what is known of a task belongs to nothing")
    for stream, _, ranges in recovered.kinds:
        spans_of = zip(ranges[::2], ranges[1::2], strict=True)
        end = max((first + count for first, count in spans_of), default=0)
        if min(ranges, default=0) < 0 or (stream in ends and end > ends[stream]):
            raise ValueError("how a task ended belongs to nothing")
    known.update(recovered.dropped)
    return (
        [row.row for row in recovered.submissions if row.stream not in known],
        [row.row for row in recovered.results if row.stream not in known],
    )

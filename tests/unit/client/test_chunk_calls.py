"""How many calls chunks have, as their stream says it; and all calls of a group, or of a chunk."""

from __future__ import annotations

from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient, ids
from fxhpc.client.selection import Selection
from fxhpc.client.sending import group_table
from fxhpc.client.sending.chunk_sizes import ChunkSizes, pack_sizes
from fxhpc.protocol.service import StreamRanges
from tests.waiting import LIMIT, eventually

ENDPOINT = "4b116d3c-1703-4f8f-9f6f-39921e5864df"


@pytest.mark.parametrize("sizes", [[1], [4, 4, 4], [4, 4, 2], [2, 2, 4, 1, 4], [3, 4]])
def test_sizes_are_those_that_were_packed(sizes: list[int]) -> None:
    packed = pack_sizes(sizes)
    found = ChunkSizes(ids.new_stream(4), packed)
    assert found.are_known
    assert [found[index] for index in range(len(sizes) + 2)] == [*sizes, 0, 0]
    assert len(packed) <= 2 * len(sizes)


def test_many_chunks_alike_take_two_numbers() -> None:
    assert pack_sizes([100] * 10_000 + [7]) == (100, 10_000, 7, 1)


def test_a_chunk_of_which_nothing_is_known_may_have_all_calls() -> None:
    found = ChunkSizes(ids.new_stream(4), [])
    assert not found.are_known
    assert found[1000] == 4


def test_nobody_is_told_of_more_calls_than_ids_have() -> None:
    assert ChunkSizes(ids.new_stream(4), [10**12, 1])[0] == 4


def test_all_calls_of_a_group_s_chunks_are_added() -> None:
    chunks, single, others = ids.new_stream(4), ids.new_stream(), ids.new_stream(3)
    given = ids.task_id(chunks, 1, 1)
    selection = Selection([given], "cancel")
    parts = [StreamRanges(one, [0, 2]) for one in (single, chunks, others)]
    selection.add(parts, {chunks: ChunkSizes(chunks, [4, 1, 2, 1])})
    expected = [
        given,
        *ids.task_ids(single, range(2)),
        *(name for name in ids.task_ids(chunks, range(6)) if name != given),
        *ids.task_ids(others, (0, 3)),  # of which the sizes are not known
    ]
    assert selection.names == expected
    assert [selection.call(at) for at in range(len(expected))] == [
        *(1, -1, -1),
        *(0, 1, 2, 3, 0),
        *(0, 0),
    ]
    assert selection.by_stream()[chunks] == [1, 0, 0, 0, 0, 1]


def texts(size: int) -> list[str]:
    """Four that are not the same: a pickle carries such once."""
    return [letter * size for letter in "abcd"]


def length(text: str) -> int:
    return len(text)


def test_a_stream_says_how_many_calls_its_chunks_have(
    client: FuncXClient, forwarder: FakeForwarder
) -> None:
    forwarder.service.teach(length)
    function = client.register_function(length)

    def sent(texts: list[str], chunksize: int) -> tuple[int, tuple[int, ...]]:
        found = client.map_run(
            texts, endpoint_id=ENDPOINT, function_id=function, chunksize=chunksize
        )
        assert len(set(found)) == len(texts)
        assert list(found.results(60)) == [*map(len, texts)]
        stream, _ = ids.parse_task_id(found[0])
        (info,) = {id(t.info): t.info for t in forwarder.service.tasks[stream].values()}.values()
        assert ids.calls_of(stream) == info.calls
        return info.calls, info.sizes

    assert sent(["x"] * 10, 4) == (4, (4, 2, 2, 1))
    assert sent(["x"] * 3, 100) == (3, (3, 1))
    client.max_payload = 3000
    assert sent([*texts(1000), *texts(1)], 4) == (4, (2, 2, 4, 1))
    assert sent(texts(2000), 2) == (1, (1, 4))


def test_all_calls_of_an_executor_s_last_chunk_are_cancelled(
    executor: Executor, client: FuncXClient, forwarder: FakeForwarder
) -> None:
    forwarder.service.teach(length)
    forwarder.service.hold = True
    futures: Any = executor.map(length, ["x"] * 7, chunksize=4).futures
    found = [future.task_id for future in futures]
    eventually(lambda: len(forwarder.service.tasks) == 2)
    assert client.cancel(found[4:6]) == dict.fromkeys(found[4:6], False)
    assert client.cancel(found[4:]) == dict.fromkeys(found[4:], True)
    eventually(lambda: all(future.cancelled() for future in futures[4:]))
    forwarder.do(forwarder.service.run_held)
    assert [future.result(LIMIT) for future in futures[:4]] == [1] * 4


def test_an_executor_has_few_streams_for_chunks_that_are_not_full(
    executor: Executor,
    client: FuncXClient,
    forwarder: FakeForwarder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_table, "_IDLE_GROUPS", 3)
    forwarder.service.teach(length)
    for count in range(21, 30):
        given = ["x" * number for number in range(count)]
        futures: Any = executor.map(length, given, chunksize=10).futures
        assert [future.result(LIMIT) for future in futures] == [*range(count)]
        assert client.get_result(futures[-1].task_id) == count - 1
    assert [ids.calls_of(stream) for stream in forwarder.service.tasks] == [10, 1, 2]

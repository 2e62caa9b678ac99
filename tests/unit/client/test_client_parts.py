"""The client's smaller parts: batches, streams, tables, workers, packed functions."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from fxhpc import errors, ids
from fxhpc.client import tasks
from fxhpc.client.batch import Batch
from fxhpc.client.sending import streams
from fxhpc.client.sending.functions import FunctionCache, watch_of
from fxhpc.client.shown.search import FunctionSearchResults, draw_table, share_width
from fxhpc.client.started import workers
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.service import FunctionRecord, StreamRanges

FUNCTION = "5e3f2b0c-8a11-4f6e-9a62-0a9b6a4f3b11"
ENDPOINT = "4b116d3c-1703-4f8f-9f6f-39921e5864df"

GOLDEN = """\
+--------------------------------------+---------------+----------------------+----------+---------+
|            function_uuid             | function_name |     description      |  author  | version |
+======================================+===============+======================+==========+=========+
| 5e3f2b0c-8a11-4f6e-9a62-0a9b6a4f3b11 | hello_world   | hello world function | Jane Doe | 0       |
+--------------------------------------+---------------+----------------------+----------+---------+"""


def _record(**changes: Any) -> FunctionRecord:
    fields: dict[str, Any] = {
        "function_id": FUNCTION,
        "digest": b"",
        "name": "hello_world",
        "source": "def hello_world(): ...",
        "description": "hello world function",
        "author": "Jane Doe",
    }
    return FunctionRecord(**{**fields, **changes})


# --- search -------------------------------------------------------------------------------------


def test_the_table_is_funcx_own(capsys: pytest.CaptureFixture[str]) -> None:
    found = FunctionSearchResults([_record()], 7)
    assert str(found) == GOLDEN
    assert found.has_next_page
    assert found[0]["version"] == "0"
    assert found.load_result(0) is None  # type: ignore[func-returns-value]
    assert capsys.readouterr().out == "def hello_world(): ...\n"
    assert str(FunctionSearchResults([], 0)) == "[]"


def test_wide_tables_are_wrapped() -> None:
    table = str(FunctionSearchResults([_record(description="many words " * 30)], 1))
    assert max(map(len, table.splitlines())) == 120
    assert table.count("many words") >= 20
    assert draw_table(["a"], [["x\ny"]]).count("\n") == 5


def test_widths_are_shared() -> None:
    assert share_width([4, 30, 50], 40) == [4, 18, 18]
    assert share_width([1, 2], 40) == [1, 2]
    assert sum(share_width([100, 100, 100], 40)) == 40


# --- batches ------------------------------------------------------------------------------------


def test_batch_shapes() -> None:
    batch = Batch("8e1d1b2e-3b57-4e3c-9a0f-6d1f9c1b7c11")
    assert not batch
    batch.add(1, 2, endpoint_id=ENDPOINT, function_id=uuid.UUID(FUNCTION), third=3)
    batch.add(FUNCTION, ENDPOINT, (1, 2), {"third": 3})
    batch.add(FUNCTION, args=(1, 2), kwargs={"third": 3})
    batch.add(function_id=FUNCTION, endpoint_id="local", args=[1, 2], kwargs={"third": 3})
    assert len(batch) == 4
    assert {task["payload"] for task in batch.tasks} == {batch.tasks[0]["payload"]}
    assert [task["endpoint"] for task in batch.tasks] == [ENDPOINT, ENDPOINT, "", ENDPOINT]
    assert batch.prepare()["task_group_id"] == "8e1d1b2e-3b57-4e3c-9a0f-6d1f9c1b7c11"
    assert batch.prepare()["tasks"][0][:2] == (FUNCTION, ENDPOINT)
    assert len(batch.parts()) == 2


def test_a_users_own_argument_may_be_a_uuid() -> None:
    batch = Batch()
    batch.add(FUNCTION, endpoint_id=ENDPOINT, function_id=FUNCTION)
    from fxhpc.serialize import load_arguments

    assert load_arguments(batch.tasks[0]["payload"]) == ((FUNCTION,), {})


def test_wrong_adds() -> None:
    batch = Batch()
    with pytest.raises(AssertionError, match="endpoint_id key-word"):
        batch.add(1, function_id=FUNCTION)
    with pytest.raises(AssertionError, match="function_id key-word"):
        batch.add(1, endpoint_id=ENDPOINT)
    with pytest.raises(AssertionError, match="function_id key-word"):
        batch.add(1)
    with pytest.raises(TypeError, match="args must be"):
        batch.add(FUNCTION, args=5)
    with pytest.raises(TypeError, match="kwargs must be"):
        batch.add(FUNCTION, args=(), kwargs=[1])
    with pytest.raises(errors.InvalidUUID):
        batch.add(1, endpoint_id=ENDPOINT, function_id="nonsense")
    with pytest.raises(errors.PayloadTooLarge):
        Batch(max_payload=10).add("x" * 100, endpoint_id=ENDPOINT, function_id=FUNCTION)
    assert not batch


# --- streams ------------------------------------------------------------------------------------


def _stream() -> StreamInfo:
    return StreamInfo(ids.new_stream(), ENDPOINT, b"")


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ([10] * 1000, [1000]),
        ([10] * 2001, [1000, 1000, 1]),
        ([600_000] * 3, [1, 1, 1]),
        ([400_000] * 3, [2, 1]),
        ([5_000_000], [1]),
        ([], []),
    ],
)
def test_rows(sizes: list[int], rows: list[int]) -> None:
    cut = list(streams.cut(_stream(), 7, [bytes(size) for size in sizes]))
    assert [len(row.payloads) for row in cut] == rows
    assert [row.first for row in cut] == [7 + sum(rows[:n]) for n in range(len(rows))]


def test_messages() -> None:
    rows = list(streams.cut(_stream(), 0, [bytes(1_000_000)] * 20))
    assert [len(message) for message in streams.pack_messages(rows)] == [8, 8, 4]


def test_questions_are_cut_at_a_number_of_tasks() -> None:
    one, two = ids.new_stream(), ids.new_stream()
    asked = [StreamRanges(one, [0, 3, 10, 4500]), StreamRanges(two, [7, 1])]
    pieces = list(tasks._pieces(asked))
    assert [[(p.stream, p.ranges) for p in piece] for piece in pieces] == [
        [(one, [0, 3, 10, 1997])],
        [(one, [2007, 2000])],
        [(one, [4007, 503]), (two, [7, 1])],
    ]
    assert list(tasks._pieces([])) == []


def test_submission_times() -> None:
    stream = streams.Stream(_stream())
    assert stream.take(10, 100.0) == 0
    assert stream.take(1, 100.01) == 10
    assert stream.take(5, 200.0) == 11
    assert [stream.submitted(index) for index in (0, 10, 11, 15)] == [100.0, 100.0, 200.0, 200.0]


# --- workers ------------------------------------------------------------------------------------


def test_workers_asked_for() -> None:
    assert workers.local_share({}, 7).workers == 7
    assert workers.local_share({"FXHPC_WORKERS": "3"}).workers == 3
    with pytest.raises(ValueError, match="FXHPC_WORKERS"):
        workers.local_share({"FXHPC_WORKERS": "many"})


def test_login_nodes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(workers, "_told", set())
    monkeypatch.setattr(workers.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(workers, "usable_cores", lambda environ: 64)
    share = workers.local_share({})
    assert (share.workers, share.nice) == (2, 10)
    assert "login node" in share.note
    assert workers.local_share({"SLURM_JOB_ID": "1", "SLURM_NODEID": "0"}).workers == 64
    for _ in range(2):
        workers.tell(share)
    assert capsys.readouterr().err == f"{share.note}\n", "once in a process"
    # salloc's shell is in a job, and on a login node all the same.
    share = workers.local_share({"SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "1"})
    assert (share.workers, share.nice) == (2, 10)


# --- packed functions ---------------------------------------------------------------------------


def _notebook(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(source, namespace)
    return namespace


def test_a_function_is_packed_once() -> None:
    cells = _notebook("SCALE = 3\ndef helper(x): return x * SCALE\ndef f(x): return helper(x)")
    cache = FunctionCache()
    assert cache.pack(cells["f"]) is cache.pack(cells["f"])


@pytest.mark.parametrize(
    "change",
    [
        "SCALE = 4",
        "def helper(x): return x",
        "TABLE['a'] = 2",
        "TABLE['a'] = True",
        "f.__defaults__ = (2,)",
        "Point.size = 3",
        "Point.norm = lambda self: 2",
        "LATER = 1",
        "f.mark = 1",
    ],
)
def test_a_changed_function_is_packed_again(change: str) -> None:
    cells = _notebook(
        "SCALE = 3\n"
        "TABLE = {'a': 1}\n"
        "class Point:\n"
        "    size = 2\n"
        "    def norm(self): return SCALE\n"
        "def helper(x): return x * SCALE\n"
        "def f(x=1):\n"
        "    if x > 100: return LATER\n"
        "    return helper(x), TABLE, Point().norm()\n"
    )
    cache = FunctionCache()
    first = cache.pack(cells["f"])
    assert cache.pack(cells["f"]) is first
    exec(change, cells)
    assert cache.pack(cells["f"]) is not first


def test_cells_are_watched() -> None:
    def outer() -> Any:
        count = 0

        def get() -> int:
            return count

        def add() -> None:
            nonlocal count
            count += 1

        return get, add

    get, add = outer()
    cache = FunctionCache()
    first = cache.pack(get)
    assert cache.pack(get) is first
    add()
    assert cache.pack(get).digest != first.digest


def test_what_cannot_be_watched_is_packed_each_time() -> None:
    import array
    import functools

    cells = _notebook("def f(): return DATA")
    cells["DATA"] = array.array("i", [1])
    assert watch_of(cells["f"]) is None
    assert watch_of(functools.partial(len, [1])) is None
    assert watch_of(len) is not None

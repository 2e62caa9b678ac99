"""The store keeps what it accepted, all or nothing, and gives it back."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.errors import ForwarderError, HomeError, StoreTooNew
from fxhpc.forwarder.store.operations import (
    AddBody,
    AddContainer,
    AddException,
    AddFunction,
    AddResults,
    AddStream,
    AddSubmission,
    DropBodies,
    DropExceptions,
    DropResults,
    DropStream,
    DropSubmissions,
    ExceptionKind,
    SetStreamOwner,
)
from fxhpc.forwarder.store.schema import MIGRATIONS
from fxhpc.forwarder.store.store import MEMORY, Store
from fxhpc.ids import new_id, new_stream
from fxhpc.protocol.containers import Container
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.protocol.service import ContainerRecord, FunctionRecord

KB = 1024
MB = 1024 * 1024


def stream_info() -> StreamInfo:
    return StreamInfo(new_stream(), new_id(), hashlib.sha256(b"body").digest(), group=new_id())


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = Store(MEMORY if request.param == "memory" else str(tmp_path / "store.db"))
    yield store
    store.close()


def test_a_new_store_is_empty(store: Store) -> None:
    found = store.recover()
    assert found == (0, 1, 1, {}, [], [], [], [], [], {}, [])
    assert store.raise_epoch() == 1
    assert store.raise_epoch() == 2
    assert store.recover().epoch == 2


def test_its_identity_stays(tmp_path: Path) -> None:
    found = []
    for name in ("one.db", "one.db", "other.db", MEMORY):
        store = Store(name if name == MEMORY else str(tmp_path / name))
        found.append(store.identity)
        store.close()
    assert found[0] == found[1]
    assert len(set(found)) == 3
    assert {len(identity) for identity in found} == {32}


def test_what_was_stored_is_found_again(store: Store) -> None:
    info, other = stream_info(), stream_info()
    stream = info.stream
    digests = [hashlib.sha256(bytes([n])).digest() for n in range(2)]
    outcomes = [Outcome(0, OutcomeKind.VALUE, b"zero", 0.25), Outcome(2, OutcomeKind.ERROR, b"two")]
    store.apply(
        [
            AddBody(info.function, b"body"),
            AddBody(info.function, b"body"),
            AddStream(info, owner=b"local-a"),
            AddStream(info, owner=b"ignored"),
            AddStream(other),
            AddSubmission(7, stream, 0, [b"a", b"bb"], digests),
            AddSubmission(8, stream, 2, [b"ccc"]),
            AddResults(3, stream, [0, 1, 2, 1], outcomes, 1234.5, "node1"),
            AddException(stream, 1, ExceptionKind.CRASHED, b"once"),
            AddException(stream, 1, ExceptionKind.CRASHED, b"twice"),
            AddException(stream, 1, ExceptionKind.SENT),
            SetStreamOwner(other.stream, b"local-b"),
        ]
    )
    found = store.recover()
    assert found.bodies == {info.function: 4}
    assert found.streams == [(info, b"local-a"), (other, b"local-b")]
    assert found.submissions == [(7, stream, 0, 2, 3), (8, stream, 2, 1, 3)]
    assert found.results == [(3, stream, [0, 1, 2, 1], 7, 1234.5)]
    assert sorted(found.exceptions) == [
        (stream, 1, ExceptionKind.CRASHED, b"twice"),
        (stream, 1, ExceptionKind.SENT, b""),
    ]
    assert (found.next_submission, found.next_result) == (9, 4)
    assert store.load_submission(7) == ([b"a", b"bb"], digests)
    assert store.load_submission(8) == ([b"ccc"], [])
    assert store.load_results(3) == (outcomes, 1234.5, "node1")
    assert store.load_body(info.function) == b"body"
    assert store.load_body(digests[0]) is None


def test_rows_that_are_not_there(store: Store) -> None:
    with pytest.raises(KeyError):
        store.load_submission(1)
    with pytest.raises(KeyError):
        store.load_results(1)


@pytest.mark.parametrize("size", [0, 64 * KB, 64 * KB + 1, 256 * KB, 256 * KB + 1, 3 * MB])
def test_payloads_of_every_size_come_back(store: Store, size: int) -> None:
    info = stream_info()
    large = os.urandom(size)
    digest = hashlib.sha256(large).digest()
    payloads = [b"small", large, b"", large]
    outcomes = [Outcome(index, 0, data, 0.5) for index, data in enumerate(payloads)]
    store.apply(
        [
            AddBody(digest, large),
            AddStream(info),
            AddSubmission(1, info.stream, 0, payloads),
            AddResults(1, info.stream, [0, 4], outcomes),
        ]
    )
    assert store.load_body(digest) == large
    assert store.load_submission(1) == (payloads, [])
    assert store.load_results(1)[0] == outcomes
    assert store.recover().submissions[0].size == 5 + 2 * size
    sizes = store.sizes()
    assert sizes.submissions == sizes.results == 5 + 2 * size
    assert sizes.bodies == size
    if store.path != MEMORY:
        assert sizes.files == (5 * size if size > 256 * KB else 0)


def payload_files(store: Store) -> list[str]:
    directory = Path(store.path).parent / "payloads"
    return sorted(os.listdir(directory)) if directory.exists() else []


def test_files_are_private_and_go_with_their_rows(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store.db"))
    info = stream_info()
    stream, large = info.stream, bytes(2 * MB)

    def add(row: int) -> None:
        results = AddResults(row, stream, [row, 1], [Outcome(row, 0, large)])
        store.apply([AddSubmission(row, stream, row, [large]), results])

    store.apply([AddStream(info), AddBody(b"d" * 32, large)])
    for row in (1, 2, 3):
        add(row)
    assert len(payload_files(store)) == 7
    for path in [tmp_path / "payloads", *(tmp_path / "payloads").iterdir(), *tmp_path.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
    store.apply([DropSubmissions([1]), DropResults([2])])
    assert payload_files(store) == sorted(["b" + (b"d" * 32).hex(), "s2-0", "s3-0", "r1-0", "r3-0"])
    store.apply([DropStream(stream), DropBodies([b"d" * 32])])
    assert payload_files(store) == []
    assert store.recover()[3:] == ({}, [], [], [], [], [], {}, [])
    store.close()


def test_dropping(store: Store) -> None:
    one, two = stream_info(), stream_info()
    large = bytes(100 * KB)
    for info, row in ((one, 1), (two, 2)):
        store.apply(
            [
                AddStream(info),
                AddSubmission(row, info.stream, 0, [large, b"x"]),
                AddResults(row, info.stream, [0, 1], [Outcome(0, 0, large)]),
                *(AddException(info.stream, index, 0) for index in range(6)),
            ]
        )
    store.apply([DropStream(one.stream), DropExceptions(two.stream, [0, 2, 4, 1])])
    found = store.recover()
    assert [info for info, _ in found.streams] == [two]
    assert [row.row for row in found.submissions] == [2]
    assert [row.row for row in found.results] == [2]
    assert [index for _, index, _, _ in sorted(found.exceptions)] == [2, 3, 5]
    assert store.load_submission(2)[0] == [large, b"x"]
    store.apply([DropSubmissions([2]), DropResults([2])])
    assert store.sizes()[2:4] == (0, 0)
    free = store.sizes().free
    store.compact()
    assert store.sizes().free <= free
    assert free == 0 or store.sizes().free < free


def test_operations_are_done_whole_or_not(store: Store) -> None:
    info = stream_info()
    store.apply([AddStream(info), AddSubmission(1, info.stream, 0, [b"a"])])
    with pytest.raises(ForwarderError):
        store.apply(
            [
                AddSubmission(2, info.stream, 1, [bytes(2 * MB)]),
                AddSubmission(1, info.stream, 2, [b"the same row"]),
            ]
        )
    assert [row.row for row in store.recover().submissions] == [1]
    if store.path != MEMORY:
        assert payload_files(store) == []
    with pytest.raises(KeyError):
        store.apply([AddSubmission(2, info.stream, 1, [b"b"]), object()])  # type: ignore[list-item]
    store.apply([AddSubmission(2, info.stream, 1, [b"b"])])
    assert [row.row for row in store.recover().submissions] == [1, 2]


def test_a_store_is_opened_again(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    store = Store(path)
    info = stream_info()
    store.apply([AddStream(info), AddSubmission(1, info.stream, 0, [b"a", bytes(2 * MB)])])
    store.raise_epoch()
    store.close()
    assert sorted(os.listdir(tmp_path)) == ["payloads", "store.db", "store.db.reserve"]
    store = Store(path, full_sync=True)
    assert store.notices == []
    assert store.recover().epoch == 1
    assert store.load_submission(1)[0] == [b"a", bytes(2 * MB)]
    store.close()


def test_a_store_in_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(MEMORY)
    info = stream_info()
    store.apply([AddStream(info), AddSubmission(1, info.stream, 0, [bytes(2 * MB)])])
    store.apply([DropStream(info.stream)])
    store.close()
    assert os.listdir(tmp_path) == []


def test_a_store_has_one_owner(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    store = Store(path)
    with pytest.raises(HomeError, match="in use by another process"):
        Store(path)
    store.apply([AddStream(stream_info())])
    store.close()
    Store(path).close()


def test_a_store_in_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ForwarderError, match="missing"):
        Store(str(tmp_path / "missing" / "store.db"))


def fake_migrations() -> list[str]:
    return [
        *MIGRATIONS,
        "ALTER TABLE stream ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'; CREATE TABLE extra (a);",
    ]


def test_containers_are_kept_and_told_in_their_order(store: Store) -> None:
    names = ("c", "a", "b")
    records = [
        ContainerRecord(name, Container("podman", f"img:{name}"), created=float(number))
        for number, name in enumerate(names)
    ]
    store.apply([AddContainer(record) for record in reversed(records)])
    store.apply([AddContainer(ContainerRecord("a", Container("docker", "other")))])  # again
    assert store.containers([]) == records
    assert store.containers(["b", "nobody's", "c"]) == [records[0], records[2]]
    assert store.containers(["nobody's"]) == []


def test_an_older_store_is_migrated_after_a_copy(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    store = Store(path)
    info = stream_info()
    store.apply([AddStream(info, b"me"), AddSubmission(1, info.stream, 0, [b"a"])])
    store.close()

    store = Store(path, migrations=fake_migrations())
    copy = f"{path}.v{len(MIGRATIONS)}.bak"
    assert copy in store.notices[0]
    assert store.recover().streams == [(info, b"me")]
    store.close()
    store = Store(path, migrations=fake_migrations())
    assert store.notices == []
    store.close()

    assert os.stat(copy).st_mode & 0o777 == 0o600
    os.rename(copy, tmp_path / "old.db")
    old = Store(str(tmp_path / "old.db"))
    assert old.recover().streams == [(info, b"me")]
    old.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    Store(path).close()
    broken = [*MIGRATIONS, "CREATE TABLE extra (a); INSERT INTO nowhere VALUES (1);"]
    with pytest.raises(ForwarderError, match="nowhere"):
        Store(path, migrations=broken)
    store = Store(path)
    store.apply([AddStream(stream_info())])
    store.close()


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    Store(path, migrations=fake_migrations()).close()
    Store(path, migrations=fake_migrations()).close()
    before = Path(path).read_bytes()
    with pytest.raises(StoreTooNew, match=f"version {len(MIGRATIONS) + 1}.*version") as raised:
        Store(path)
    assert path in str(raised.value)
    assert Path(path).read_bytes() == before


def test_a_file_that_is_no_store_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all" * 1000)
    store = Store(str(path))
    assert "damaged" in store.notices[0]
    assert store.recover().streams == []
    store.apply([AddStream(stream_info())])
    store.close()
    (aside,) = tmp_path.glob("store.db.damaged-*")
    assert aside.read_bytes().startswith(b"not a database")


def test_damage_is_found_after_a_crash(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    store = Store(path)
    info = stream_info()
    store.apply([AddStream(info)])
    store.apply([AddSubmission(row, info.stream, row, [b"x" * 2000]) for row in range(500)])
    store._set_meta(clean=0)
    store._connection.close()  # without the mark of a clean end
    with open(path, "r+b") as file:
        file.seek(40 * 4096)
        file.write(os.urandom(100 * 4096))
    store = Store(path)
    assert "damaged" in store.notices[0]
    left = [row.row for row in store.recover().submissions]
    assert 100 < len(left) < 500
    assert all(store.load_submission(row)[0] == [b"x" * 2000] for row in left)
    store.close()


def test_files_without_a_row_are_swept_after_a_crash(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    store = Store(path)
    info = stream_info()
    store.apply(
        [
            AddStream(info),
            AddSubmission(1, info.stream, 0, [bytes(2 * MB)]),
            AddResults(1, info.stream, [0, 1], [Outcome(0, 0, bytes(2 * MB))]),
            AddBody(b"d" * 32, bytes(2 * MB)),
        ]
    )
    known = payload_files(store)
    assert len(known) == 3
    store._connection.close()
    (tmp_path / "payloads" / "s2-0").write_bytes(b"half of a payl")
    store = Store(path)
    assert payload_files(store) == known
    store.close()


def test_a_damaged_payload_file_is_told(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store.db"))
    info = stream_info()
    store.apply([AddStream(info), AddSubmission(1, info.stream, 0, [bytes(2 * MB)])])
    file = tmp_path / "payloads" / "s1-0"
    file.write_bytes(b"short")
    with pytest.raises(ForwarderError, match="5 bytes instead of 2097152"):
        store.load_submission(1)
    file.unlink()
    with pytest.raises(ForwarderError, match="cannot be read"):
        store.load_submission(1)
    store.close()


def test_no_other_process_reads_a_store_that_is_open(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store.db"))
    store.apply([AddStream(stream_info())])
    assert not (tmp_path / "store.db-shm").exists()
    other = sqlite3.connect(tmp_path / "store.db", timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM stream")
    other.close()
    store.close()


def test_a_million_tasks_are_recovered_quickly(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    store = Store(path)
    info = stream_info()
    payloads = [bytes(20)] * 1000
    store.apply([AddStream(info)])
    store.apply([AddSubmission(n, info.stream, n * 1000, payloads) for n in range(1000)])
    for row in range(500):
        outcomes = [Outcome(row * 1000 + at, 0, b"12345") for at in range(1000)]
        store.apply([AddResults(row, info.stream, [row * 1000, 1000], outcomes)])
    store.close()
    start = time.perf_counter()
    store = Store(path)
    found = store.recover()
    assert time.perf_counter() - start < 2
    assert sum(row.tasks for row in found.submissions) == 1_000_000
    assert sum(sum(row.ranges[1::2]) for row in found.results) == 500_000
    store.close()


def record(name: str, **fields: object) -> FunctionRecord:
    return FunctionRecord(new_id(), b"d" * 32, name, **fields)  # type: ignore[arg-type]


def names(store: Store, query: str) -> list[str]:
    records, total = store.search(query, 0, 100)
    assert total == len(records)
    return [record.name for record in records]


@pytest.fixture
def registry(store: Store) -> Store:
    records = [
        record("hello_world", description="Greets everybody", author="Jane Doe", created=1.0),
        record("hello", author="bob", source="def hello():\n    return 'hi'", created=2.0),
        record("fitCurve", description="hello again, least-squares", created=3.0),
        record("secret_hello", searchable=False, created=4.0),
        record("Größe_messen", description="Ångström \u4f60\u597d", author="jane", created=5.0),
    ]
    store.apply([AddFunction(one) for one in records])
    return store


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["Größe_messen", "fitCurve", "hello", "hello_world"]),
        ("  ", ["Größe_messen", "fitCurve", "hello", "hello_world"]),
        ("hello", ["hello", "hello_world", "fitCurve"]),
        ("HELLO", ["hello", "hello_world", "fitCurve"]),
        ("hel", ["hello", "hello_world", "fitCurve"]),
        ("world", ["hello_world"]),
        ("hello_world", ["hello_world"]),
        ("hello_wor", ["hello_world"]),
        ("world hello", ["hello_world"]),
        ('"hello world"', ["hello_world"]),
        ('"world hello"', []),
        ("author:jane", ["Größe_messen", "hello_world"]),
        ("hello author:jane", ["hello_world"]),
        ("name:hello", ["hello", "hello_world"]),
        ("curve", ["fitCurve"]),  # within a name, when no word begins with it
        ("grosse", []),
        ("größe", ["Größe_messen"]),
        ("angstrom", ["Größe_messen"]),
        ("\u4f60", ["Größe_messen"]),
        ("least-squares", ["fitCurve"]),
        ("secret", []),
        ("return", ["hello"]),
        ("nothing like it", []),
        ("hello OR", []),
        ("hello NOT world", []),
        ("hello AND", []),
        ("NEAR(hello world)", []),
        ('"', []),
        ('""', []),
        ("*", []),
        ("hello*", ["hello", "hello_world", "fitCurve"]),
        ("^hello", ["hello", "hello_world", "fitCurve"]),
        ("-hello", ["hello", "hello_world", "fitCurve"]),
        ("'; DROP TABLE function; --", []),
        ("hello\0", ["hello", "hello_world", "fitCurve"]),
        ("colour:hello", []),
        ("{name}: x", []),
    ],
)
def test_search(registry: Store, query: str, expected: list[str]) -> None:
    assert sorted(names(registry, query)) == sorted(expected)
    if query.lower() in ("", "hello"):
        assert names(registry, query) == expected


def test_search_in_pages(store: Store) -> None:
    store.apply([AddFunction(record(f"f{n}_job", created=float(n))) for n in range(25)])
    for query in ("job", ""):
        seen: list[str] = []
        for offset in range(0, 30, 10):
            records, total = store.search(query, offset, 10)
            assert total == 25
            seen += [one.name for one in records]
        assert seen == [f"f{n}_job" for n in reversed(range(25))]  # ties: the newest first


def test_a_record_is_changed_by_its_id(store: Store) -> None:
    one = record("before", description="alpha", public=True)
    store.apply([AddFunction(one)])
    one.name, one.description = "after", "beta"
    store.apply([AddFunction(one)])
    assert names(store, "alpha") == names(store, "before") == []
    assert names(store, "beta") == ["after"]
    assert store.functions([new_id(), one.function_id]) == [one]
    one.searchable = False
    store.apply([AddFunction(one)])
    assert names(store, "") == names(store, "beta") == []
    assert store.functions([one.function_id]) == [one]


def test_what_tasks_printed_and_how_they_ended_survive(store: Store) -> None:
    stream = b"stream------"
    large, small = b"x" * (64 * KB + 1), b"y"
    outcomes = [
        Outcome(0, 0, large, 0.5, b"printed a lot"),
        Outcome(1, 1, small, 0.25, b"printed"),
        Outcome(2, 2, small),
        Outcome(3, 3),
    ]
    kinds = {1: [1, 1], 2: [2, 1], 3: [3, 1]}
    store.apply([AddResults(7, stream, [0, 4], outcomes, 1.0, "node1", kinds)])
    assert store.load_results(7) == (outcomes, 1.0, "node1")
    assert sorted(store.recover().kinds) == [(stream, kind, kinds[kind]) for kind in (1, 2, 3)]
    store.apply([DropResults([7])])
    assert store.recover().kinds == []

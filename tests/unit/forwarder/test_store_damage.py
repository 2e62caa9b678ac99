"""Whatever a disk does to the store: it opens, tells, and gives back only what was stored."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from fxhpc.errors import ForwarderError
from fxhpc.forwarder.core import Forwarder
from fxhpc.forwarder.store.operations import (
    AddBody,
    AddContainer,
    AddException,
    AddFunction,
    AddResults,
    AddStream,
    AddSubmission,
    ExceptionKind,
)
from fxhpc.forwarder.store.store import Store
from fxhpc.ids import new_id, new_stream
from fxhpc.protocol.containers import Container
from fxhpc.protocol.messages import StreamInfo
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.protocol.service import ContainerRecord, FunctionRecord

NOTE = "store.db.acknowledged"
ROWS = 40  # of submissions; every other one has results
TASKS = 25  # in each
BODY = bytes(range(256)) * 20
DIGEST = hashlib.sha256(BODY).digest()
SHARED = b"shared" * 100_000
SHARED_DIGEST = hashlib.sha256(SHARED).digest()


def argument(row: int, task: int) -> bytes:
    """A task's argument; in each tenth row the first is a row of its own, in each 20th a file."""
    size = 40
    if task == 0 and row % 10 == 0:
        size = 300_000 if row % 20 == 0 else 70_000
    return (b"%d %d|" % (row, task) * size)[:size]


def value(row: int, task: int) -> bytes:
    return argument(row, task)[::-1]


class Stored:
    """A store as a kill -9 left it: half of it in the database, half in its log, files beside."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.info = StreamInfo(new_stream(), new_id(), DIGEST)
        self.function = FunctionRecord(new_id(), DIGEST, "f", source="def f(): pass")
        self.container = ContainerRecord(new_id(), Container("podman", "img"), "a name")
        store = Store(str(directory / "store.db"))
        store.checkpoint_by_hand()
        store.raise_epoch()
        store.apply(
            [
                AddBody(DIGEST, BODY),
                AddBody(SHARED_DIGEST, SHARED),
                AddFunction(self.function),
                AddContainer(self.container),
                AddStream(self.info),
                AddException(self.info.stream, 3, ExceptionKind.CRASHED, b"story"),
            ]
        )
        for row in range(1, ROWS + 1):
            if row == ROWS // 2:
                store.checkpoint()
            first = (row - 1) * TASKS
            arguments = [argument(row, task) for task in range(TASKS)]
            shared = [SHARED_DIGEST] if row % 4 == 0 else []
            store.apply([AddSubmission(row, self.info.stream, first, arguments, shared)])
            if row % 2 == 0:
                kind = OutcomeKind.VALUE
                outcomes = [Outcome(first + n, kind, value(row, n)) for n in range(TASKS)]
                store.apply([AddResults(row, self.info.stream, [first, TASKS], outcomes)])
        self.copy = directory / "copy"
        self.copy.mkdir()
        for name in ("store.db", "store.db-wal", NOTE):
            shutil.copy(directory / name, self.copy / name)
        shutil.copytree(directory / "payloads", self.copy / "payloads")
        store.close()

    def damaged_copy(self, directory: Path, *, has_note: bool = True) -> Path:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(self.copy, directory)
        if not has_note:
            (directory / NOTE).unlink()
        return directory

    def check(self, directory: Path) -> int:
        """Open what is there, twice: how many tasks and results are as they were stored."""
        found = 0
        for _ in range(2):
            store = Store(str(directory / "store.db"))
            store.raise_epoch()
            recovered = store.recover()
            Forwarder(recovered.epoch).recover(recovered)
            told = bool(store.notices)
            found = 0
            known = {info.stream for info, _ in recovered.streams}
            for info, _ in recovered.streams:
                assert info == self.info
            submissions = {row.row for row in recovered.submissions if row.stream in known}
            results = {row.row for row in recovered.results if row.stream in known}
            functions = store.functions([self.function.function_id])
            assert functions == [self.function] or told or self.told
            assert store.containers([]) == [self.container] or told or self.told
            for digest, body in ((DIGEST, BODY), (SHARED_DIGEST, SHARED)):
                try:
                    kept = store.load_body(digest)
                except ForwarderError:
                    continue
                assert kept == body or told or self.told, "a body is damaged or missing"
            for row in submissions:
                try:
                    payloads, shared = store.load_submission(row)
                except ForwarderError:
                    continue  # whoever waits for it is told so
                assert payloads == [argument(row, task) for task in range(TASKS)]
                assert shared == ([SHARED_DIGEST] if row % 4 == 0 else [])
                found += 1
            for row in results:
                outcomes, _, _ = store.load_results(row)
                assert len(outcomes) == TASKS
                good = 0
                for task, outcome in enumerate(outcomes):
                    assert outcome.index == (row - 1) * TASKS + task
                    if outcome.kind == OutcomeKind.VALUE:
                        assert outcome.data == value(row, task)
                        good += 1
                found += good == TASKS
            if not self.told:
                self.told = told
            store._connection.close()  # as a kill -9 ends it
            missing = (ROWS - len(submissions)) + (ROWS // 2 - len(results)) + (1 - len(known))
            assert not missing or self.told, f"{missing} rows are missing, and nothing was told"
        return found

    told = False


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return Stored(tmp_path_factory.mktemp("store"))


WHOLE = ROWS + ROWS // 2


def mutate(directory: Path, source: random.Random) -> str:
    """Do one of the things that disks do; returns which."""
    files = [directory / "store.db"] * 5 + [directory / "store.db-wal"] * 3
    files += [source.choice(sorted((directory / "payloads").iterdir()))]
    path = source.choice(files)
    data = bytearray(path.read_bytes())
    kind = source.choice(("bit", "bits", "zeros", "cut", "cut page", "noise", "stale"))
    at = source.randrange(len(data))
    if kind == "bit":
        data[at] ^= 1 << source.randrange(8)
    elif kind == "bits":
        for _ in range(20):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    elif kind == "zeros":
        start = at // 4096 * 4096
        data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    elif kind == "cut":
        del data[-source.randrange(1, 600) :]
    elif kind == "cut page":
        del data[-(len(data) % 4096 or 4096) :]
    elif kind == "noise":
        data[at : at + 512] = source.randbytes(len(data[at : at + 512]))
    else:  # a page of elsewhere was written here
        start, other = at // 4096 * 4096, source.randrange(len(data)) // 4096 * 4096
        data[start : start + 4096] = data[other : other + 4096]
    path.write_bytes(data)
    return f"{kind} of {path.name} at {at}"


def test_an_undamaged_copy_is_whole(stored: Stored, tmp_path: Path) -> None:
    stored.told = False
    assert stored.check(stored.damaged_copy(tmp_path / "home")) == WHOLE
    assert not stored.told


@pytest.mark.parametrize("part", range(8))
def test_f04_random_damage_is_survived_and_told(stored: Stored, tmp_path: Path, part: int) -> None:
    """F4, torn writes: cut, zeroed, flipped and swapped blocks of database, log and files. The
    store opens, gives back nothing that was not stored, and says so if anything is missing."""
    for seed in range(part * 30, part * 30 + 30):
        source = random.Random(seed)
        # Without one it is as after a boot.
        directory = stored.damaged_copy(tmp_path / "home", has_note=bool(seed % 2))
        stored.told = False
        what = mutate(directory, source)
        try:
            stored.check(directory)
        except Exception as error:
            raise AssertionError(f"seed {seed}, {what}") from error


@pytest.mark.parametrize(
    "damage", ["short by a page", "short by half a page", "other magic", "other page size"]
)
def test_f04_a_file_that_does_not_begin_or_end_right_is_read_all_the_same(
    stored: Stored, tmp_path: Path, damage: str
) -> None:
    """F4: SQLite itself reads nothing of such a file; all but the pages that are gone is saved."""
    directory = tmp_path / "home"
    directory.mkdir()
    shutil.copytree(stored.directory / "payloads", directory / "payloads")
    store = Store(str(stored.damaged_copy(tmp_path / "whole") / "store.db"))
    identity = store.identity
    store.close()  # all of it is in one file
    data = bytearray((tmp_path / "whole" / "store.db").read_bytes())
    if damage == "short by a page":
        del data[-4096:]
    elif damage == "short by half a page":
        del data[-2048:]
    elif damage == "other magic":
        data[:16] = bytes(16)
    else:
        data[16:18] = b"\x00\x07"
    (directory / "store.db").write_bytes(data)
    (directory / "store.db.is-damaged").touch(0o600)
    stored.told = False
    assert stored.check(directory) >= WHOLE - 8
    assert stored.told
    store = Store(str(directory / "store.db"))
    assert store.identity == identity
    store.close()

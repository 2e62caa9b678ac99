"""Rows I1 and F4 at the interchange: its spool and journals, damaged at any byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxhpc.interchange.blocks.block_journal import BlockJournal
from fxhpc.interchange.events import BlockKnown, ManagerKnown, Sent
from fxhpc.interchange.journal import Journal, read_journal
from fxhpc.interchange.outbox import result_refs
from fxhpc.interchange.spool import Spool
from fxhpc.protocol.messages import ResultRun, Results, TaskRefs
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.protocol.provision import BlockRef

STREAM = b"s" * 12
BOOT = "a boot"


def results(number: int) -> Results:
    outcomes = [Outcome(number * 10 + i, OutcomeKind.VALUE, b"value" * number) for i in range(2)]
    return Results(number, [ResultRun(STREAM, 1, 1, outcomes)])


MESSAGES = [results(number) for number in (1, 2, 3, 4)]
SENT = [Sent("m", [TaskRefs(STREAM, [number * 10, 2], 1, 1)]) for number in range(4)]
BLOCKS = [BlockKnown(BlockRef(number, f"fxhpc-midway-{number}", ""), True) for number in (1, 2, 3)]


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    """A file's bytes in every way that a disk or a crash may leave them."""
    for position in range(len(data)):
        yield f"cut at {position}", data[:position]
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        yield f"bit {position % 8} of byte {position}", bytes(flipped)
    for position in range(0, len(data), 7):
        yield f"zeros from {position}", data[:position] + bytes(len(data) - position)
    yield "zeros behind", data + bytes(4096)
    yield "noise behind", data + b"\x07\x00\x00\x00noise"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "fdatasync", lambda file: None)  # a thousand files take their time
    return tmp_path / "file"


def sweep(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def test_i01_a_spool_is_read_whatever_a_byte_of_it_became(path: Path) -> None:
    """Each record that is whole is found and true, also behind damage; what was damaged is told,
    and kept in a file beside it; what is written after that is read by the next process.
    """
    spool = Spool(str(path))
    assert spool.add(MESSAGES) == [1, 2, 3, 4]
    spool.close()
    whole = path.read_bytes()
    told = {message.number: result_refs(message) for message in MESSAGES}
    for how, data in damaged(whole):
        sweep(path)
        path.write_bytes(data)
        spool = Spool(str(path))
        assert all(told[number] == refs for number, refs in spool.found), how
        numbers = [number for number, _ in spool.found]
        assert len(numbers) >= 3 or not how.startswith("bit"), how
        cut = how.startswith("cut")
        assert len(numbers) == 4 or cut or spool.damage, how  # a cut between two leaves no trace
        assert not spool.damage or list(path.parent.glob("file.damaged-*")), how
        assert spool.add([results(5)]) == [5]
        found, missing = spool.read([*numbers, 5])
        assert found == [*(MESSAGES[number - 1] for number in numbers), results(5)], how
        assert not missing
        spool.close()
        again = Spool(str(path))
        assert [number for number, _ in again.found] == [*numbers, 5], how
        again.close()


def test_i01_a_journal_that_is_damaged_says_that_it_does_not_know_all(path: Path) -> None:
    """What it lacks, no process takes for not sent; what is written after that is read."""
    journal = Journal(str(path), boot=BOOT)
    journal.write(ManagerKnown("m", True))
    for record in SENT:
        journal.write(record)
    journal.close()
    whole = path.read_bytes()
    assert not read_journal(str(path), BOOT)[1].incomplete
    later = Sent("m", [TaskRefs(STREAM, [100, 1], 2, 1)])
    for how, data in damaged(whole):
        sweep(path)
        path.write_bytes(data)
        _, recovered = read_journal(str(path), BOOT)
        assert all(sent in SENT for sent in recovered.sent), how
        lacks = recovered.sent != SENT or recovered.managers != ["m"]
        assert not lacks or recovered.incomplete or how.startswith("cut"), how
        journal = Journal(str(path), None, recovered.managers, boot=BOOT)
        journal.write(later)
        journal.close()
        _, again = read_journal(str(path), BOOT)
        assert again.sent == [*recovered.sent, later], how
        assert again.incomplete >= recovered.incomplete, how


def test_i01_a_journal_of_before_the_hosts_end_may_lack_records(path: Path) -> None:
    """Nothing of it is synchronised: a power cut drops its end without a trace."""
    journal = Journal(str(path), boot=BOOT)
    journal.write(ManagerKnown("m", True))
    journal.close()
    assert not read_journal(str(path), BOOT)[1].incomplete
    assert read_journal(str(path), "another boot")[1].incomplete
    journal = Journal(str(path), None, ["m"], boot="another boot")
    assert journal.incomplete
    journal.close()
    assert read_journal(str(path), "another boot")[1].incomplete  # until nothing is outstanding
    journal = Journal(str(path), None, ["m"], boot="another boot")
    journal.compact(has_all=True)
    journal.close()
    assert not read_journal(str(path), "another boot")[1].incomplete


def test_i01_a_journal_of_blocks_is_read_whatever_a_byte_of_it_became(path: Path) -> None:
    """Blocks that it still names are adopted or cancelled; that it lacks some is told."""
    journal = BlockJournal(str(path))
    for record in BLOCKS:
        journal.write(record)
    journal.close()
    whole = path.read_bytes()
    for how, data in damaged(whole):
        sweep(path)
        path.write_bytes(data)
        journal = BlockJournal(str(path))
        found = journal.recovered.blocks
        assert all(BlockKnown(block, True) in BLOCKS for block in found), how
        assert len(found) >= 2 or not how.startswith("bit"), how
        assert len(found) == 3 or how.startswith("cut") or journal.damage, how
        journal.write(BlockKnown(BlockRef(9, "fxhpc-midway-9", ""), True))
        journal.close()
        again = BlockJournal(str(path))
        assert again.recovered.blocks == [*found, BlockRef(9, "fxhpc-midway-9", "")], how
        assert not again.damage, how  # it was written anew
        again.close()


def test_i01_what_cannot_be_read_back_is_named(path: Path) -> None:
    """A spool that is damaged while the interchange runs: the rest is read, the lost is named."""
    spool = Spool(str(path))
    spool.add(MESSAGES)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found, missing = spool.read([1, 2, 3, 4])
    assert len(found) == 3
    assert len(missing) == 1
    assert "run again" in spool.damage
    spool.close()

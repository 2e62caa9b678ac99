"""The journal of blocks: what a next process learns, whatever became of the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.endpoint.leftovers import outdated_blocks
from fxhpc.interchange.blocks import block_journal
from fxhpc.interchange.blocks.block_journal import BlockJournal
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.interchange.events import BlockKnown, RecoveredBlocks
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import BlockRef, InterchangeSpec, ProvisionerSpec, blocks_digest


def ref(number: int, job: str = "") -> BlockRef:
    return BlockRef(number, f"fxhpc-midway-0123abcd-{number}", job)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "blocks.journal")


def test_blocks_that_may_be_there_are_found_again(path: str) -> None:
    journal = BlockJournal(path)
    assert journal.recovered == RecoveredBlocks([], 0)
    for number in (1, 2, 3):
        journal.write(BlockKnown(ref(number), True))
    journal.write(BlockKnown(ref(2, "22"), True))
    journal.write(BlockKnown(ref(3), False))
    journal.close()
    assert BlockJournal(path).recovered == RecoveredBlocks([ref(1), ref(2, "22")], 3)
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_a_number_is_never_used_again(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_journal, "COMPACT_BYTES", 100)
    journal = BlockJournal(path)
    for number in range(1, 50):
        journal.write(BlockKnown(ref(number), True))
        journal.write(BlockKnown(ref(number), False))
    journal.write(BlockKnown(ref(50), True))
    journal.close()
    size = Path(path).stat().st_size
    journal = BlockJournal(path)
    assert journal.recovered == RecoveredBlocks([ref(50)], 50)
    assert Path(path).stat().st_size < size / 10
    journal.write(BlockKnown(ref(50), False))
    journal.close()
    assert BlockJournal(path).recovered == RecoveredBlocks([], 50)


def test_what_a_crash_cut_off_is_left_out(path: str) -> None:
    journal = BlockJournal(path)
    journal.write(BlockKnown(ref(1), True))
    journal.write(BlockKnown(ref(2), True))
    journal.close()
    with open(path, "r+b") as file:
        file.truncate(Path(path).stat().st_size - 3)
    journal = BlockJournal(path)
    assert journal.recovered.blocks == [ref(1)]
    journal.write(BlockKnown(ref(3), True))
    journal.close()
    assert BlockJournal(path).recovered.blocks == [ref(1), ref(3)]


def test_a_full_disk_is_told(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the block is not submitted."""
    journal = BlockJournal(path)

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal._records, "append", full)
    with pytest.raises(OSError, match="No space left"):
        journal.write(BlockKnown(ref(1), True))
    assert journal.recovered == RecoveredBlocks([], 0)
    journal.close()


def spec(worker_init: str = "", preload: str = "numpy", max_blocks: int = 1) -> InterchangeSpec:
    return InterchangeSpec(
        provisioner=ProvisionerSpec(
            endpoint="midway",
            provider={"type": "SlurmProvider", "max_blocks": max_blocks},
            directory="/blocks",
            command="run",
            worker_init=worker_init,
        ),
        manager=ManagerSpec(endpoint=b"", workers=0, address_file="/address", preload=[preload]),
    )


def test_what_blocks_are_made_from() -> None:
    assert blocks_digest(InterchangeSpec()) == ""
    assert blocks_digest(spec()) == blocks_digest(spec(max_blocks=7)) != ""
    assert len({blocks_digest(one) for one in (spec(), spec("ml gcc"), spec(preload="x"))}) == 3


def test_blocks_made_from_another_configuration_are_counted(tmp_path: Path) -> None:
    directory = EndpointDirectory(tmp_path)
    journal = BlockJournal(str(directory.known_blocks))
    old, new = (blocks_digest(one) for one in (spec(), spec("ml gcc")))
    for number, made_from in enumerate([old, old, new, old, ""], 1):
        journal.write(BlockKnown(BlockRef(number, f"b-{number}", "", made_from), True))
    journal.write(BlockKnown(BlockRef(1, "b-1", "", old), False))
    journal.close()
    assert outdated_blocks(directory, spec("ml gcc")) == 2
    assert outdated_blocks(directory, spec()) == 1

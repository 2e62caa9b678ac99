"""What a manager and a worker share: no task can end its manager by what it does to that."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fxhpc.manager.sharing import Worker
from fxhpc.protocol import kept

RECORD = kept.record(3, kept.VALUE, b"three")


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(0)
    yield worker
    worker.handed_over()
    worker.close()


def test_the_page_cannot_be_cut(worker: Worker) -> None:
    _, page, *_ = worker.their_fds
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(page, size)
    worker.words[0] = 7
    assert os.pread(page, 1, 0) == b"\x07"


def test_what_is_kept_of_calls_may_be_cut(worker: Worker) -> None:
    _, _, theirs, *_ = worker.their_fds
    assert worker.kept() == b""
    os.pwrite(theirs, RECORD + RECORD[:-1], 0)
    assert worker.kept() == RECORD  # the last one was being written when it died
    os.ftruncate(theirs, 0)
    assert worker.kept() == b""

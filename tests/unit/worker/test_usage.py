"""What is told of a task that ran for a moment: against the truth."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import msgspec
import pytest

from fxhpc import ShellFunction
from fxhpc.protocol.outcome import Output
from fxhpc.version import __version__
from fxhpc.worker import usage

_decode = msgspec.msgpack.Decoder(Output).decode
_MB = 2**20


def _burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_processor_time_is_that_of_the_task() -> None:
    worker = usage.Usage()
    _burn(0.1)  # of what was before
    worker.begin()
    _burn(0.05)
    first = _decode(worker.told(0.05, b""))
    second = _decode(worker.told(0.01, b""))
    assert 0.05 <= first.cpu_s < 0.09
    assert second.cpu_s < 0.01


def test_processor_time_of_children_counts() -> None:
    worker = usage.Usage()
    worker.begin()
    program = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert _decode(worker.told(0.3, b"")).cpu_s >= 0.19


def test_when_and_where() -> None:
    worker = usage.Usage()
    told = _decode(worker.told(2.0, b""))
    assert told.started == pytest.approx(time.time() - 2.0, abs=1.0)
    assert told.pid == os.getpid()
    python, fxhpc, *_ = told.versions.split()
    assert python == ".".join(map(str, sys.version_info[:3]))
    assert fxhpc == __version__


@pytest.mark.parametrize("size", [64 * _MB])
def test_the_largest_memory_is_that_of_the_task(size: int) -> None:
    worker = usage.Usage()
    before = _decode(worker.told(0.02, b"")).peak_memory
    data = bytearray(b"x") * size
    del data
    large = _decode(worker.told(0.02, b"")).peak_memory
    after = _decode(worker.told(0.02, b"")).peak_memory
    assert large > before + size // 2
    if worker._can_reset:
        assert after < large - size // 2
    else:
        assert after == 0  # nobody knows whose it was


def test_the_memory_of_children_counts() -> None:
    worker = usage.Usage()
    own = _decode(worker.told(0.02, b"")).peak_memory  # of the process that runs all these tests
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * usage._UNIT
    size = max(most, 2 * own) + 64 * _MB
    program = f"head -c {size} /dev/zero | tail -n 1 > /dev/null"  # one line, that tail keeps
    subprocess.run(["sh", "-c", program], check=True)
    assert _decode(worker.told(0.3, b"")).peak_memory > size
    assert _decode(worker.told(0.02, b"")).peak_memory < size
    for _ in range(2):  # of a command it is known, though it is no larger than one before
        ShellFunction(f"head -c {size // 2} /dev/zero | tail -n 1 > /dev/null")()
        assert size // 2 < _decode(worker.told(0.3, b"")).peak_memory < size
    assert _decode(worker.told(0.02, b"")).peak_memory < size // 2


def test_where_the_kernel_does_not_count_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = usage.Usage()

    def refuse(*_: object) -> int:
        raise PermissionError(13, "not here")

    with monkeypatch.context() as patched:
        patched.setattr(usage, "_open", refuse)
        worker.told(0.02, b"")
    assert not worker._can_reset
    assert _decode(worker.told(0.02, b"")).peak_memory == 0
    data = bytearray(b"x") * (_decode(worker.told(0.02, b"")).peak_memory + 96 * _MB)
    peak = _decode(worker.told(0.02, b"")).peak_memory
    assert peak == 0 or peak > len(data)  # told if it has grown, and so was this task's


def test_what_was_printed_stays() -> None:
    worker = usage.Usage()
    printed = msgspec.msgpack.encode(Output(b"out", b"err", 30, 3))
    told = _decode(worker.told(0.5, printed))
    assert (told.stdout, told.stderr, told.stdout_bytes) == (b"out", b"err", 30)
    assert told.pid

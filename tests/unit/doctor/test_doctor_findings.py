"""What `fxhpc doctor` says of what it finds: pure functions over facts."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from fxhpc.doctor import leftovers, limits, network, places, versions
from fxhpc.doctor.apart import look_apart
from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding
from fxhpc.version import __version__

_PATH = Path("/home/ann")
_NO = resource.RLIM_INFINITY
_GB = 2**30


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (limits.open_files(1024, 4096), OK, "1,024"),
        (limits.open_files(32, 4096), PROBLEM, "32 (ulimit -n)"),
        (limits.open_files(256, 256), WARNING, "have the hard limit raised"),
        (limits.processes(_NO, 900), OK, "unlimited"),
        (limits.processes(1000, 990), PROBLEM, "no worker may start"),
        (limits.processes(1000, 990, is_root=True), OK, "990 of 1,000"),
        (limits.processes(1000, 800), WARNING, "800 of 1,000"),
        (limits.address_space(_GB // 2), PROBLEM, "ulimit -v"),
        (limits.address_space(4 * _GB), WARNING, "4.0 GB"),
        (limits.stack(2**19), WARNING, "ulimit -s 8192"),
        (limits.stack(8 * 2**20), OK, "8.0 MB"),
        (places.room("room", _PATH, 2 * _GB, 10**6, 10**7), OK, "2.0 GB free"),
        (places.room("room", _PATH, _GB // 4, 10**6, 10**7), WARNING, "fxhpc store purge"),
        (places.room("room", _PATH, 10**6, 10**6, 10**7), PROBLEM, "fxhpc store purge"),
        (places.room("room", _PATH, 2 * _GB, 10, 10**7), PROBLEM, "room for 10 files"),
        (places.room("room", _PATH, 2 * _GB, 0, 0), OK, "free"),
        (places.clock("clock", _PATH, 1.0), OK, "agree"),
        (places.clock("clock", _PATH, -90.0), WARNING, "behind this host's"),
        (places.file_system("home", _PATH, "nfs4", "home"), OK, "nfs4: every commit"),
        (places.file_system("/tmp", _PATH, "lustre", "sockets"), WARNING, "sockets mostly do not"),
        (versions.installed("pyzmq", "26.4.0"), WARNING, "encryption is slow"),
        (versions.installed("pyzmq", "27.3.0"), OK, "27.3.0"),
        (versions.installed("dill", ""), PROBLEM, "is not installed"),
        (versions.running("forwarder", "pid 7", __version__, ""), OK, "pid 7"),
        (versions.running("forwarder", "pid 7", "0.0.9", ""), WARNING, "of version 0.0.9"),
        (leftovers.fullness(10, 100), OK, "10 bytes"),
        (leftovers.fullness(81, 100), WARNING, "fxhpc store purge"),
        (network.addresses({"10.0.0.1": ""}), OK, "10.0.0.1"),
        (network.addresses({"127.0.0.1": ""}), WARNING, "loopback"),
        (network.addresses({"10.0.0.1": "timed out"}), PROBLEM, "10.0.0.1 (timed out)"),
    ],
)
def test_facts_become_findings(found: Finding, level: str, words: str) -> None:
    assert found.level == level
    assert words in f"{found.text}; {found.hint}"


def test_keys_are_their_users_alone() -> None:
    assert leftovers.key(_PATH, 1000, 0o600, own=1000) is None
    for owner, mode, words in ((1000, 0o644, "chmod 600"), (1001, 0o600, "user 1001")):
        found = leftovers.key(_PATH, owner, mode, own=1000)
        assert found is not None
        assert words in f"{found.text} {found.hint}"


def test_batch_systems_are_known_by_their_commands() -> None:
    assert [f.level for f in network.batch_systems(set())] == [OK]
    (whole,) = network.batch_systems({"sbatch", "squeue", "scancel", "sinfo"})
    (part,) = network.batch_systems({"qsub", "qstat"})
    assert whole.level == OK
    assert (part.level, "qdel" in part.text) == (WARNING, True)


def test_what_hangs_or_fails_holds_up_nothing_else(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def hangs() -> list[Finding]:
        return [Finding(OK, "x", pipe.read_text())]  # nobody ever writes to it

    def fails() -> list[Finding]:
        raise OSError("stale file handle")

    found = look_apart(
        {"a": hangs, "b": fails, "c": lambda: [Finding(OK, "c", "good")]}, limit_s=0.3
    )

    assert (found["a"][0].level, "gave no answer" in found["a"][0].text) == (PROBLEM, True)
    assert (found["b"][0].what, "stale file handle" in found["b"][0].text) == ("b", True)
    assert found["c"] == [Finding(OK, "c", "good")]


def test_a_store_that_is_none_is_told(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    store.write_bytes(b"SQLite format 3\0 and so on")
    assert leftovers.database(store) is None
    store.write_bytes(b"")
    assert leftovers.database(store) is None
    for damage, words in ((b"nonsense", "damaged"), (None, "is no file")):
        if damage is None:
            store.unlink()
            os.mkfifo(store)
        else:
            store.write_bytes(damage)
        found = leftovers.database(store)
        assert found is not None
        assert found.level == PROBLEM
        assert words in found.text


def test_paths_in_another_encoding_are_told_too() -> None:
    odd = Finding(PROBLEM, "home", os.fsdecode(b"caf\xe9 is full"))
    found = look_apart({"home": lambda: [odd]}, 5.0)
    assert found["home"][0].text == "caf\\udce9 is full"

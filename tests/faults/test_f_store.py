"""F2, F4, F7: stores that are damaged, on full disks, too large, with a real forwarder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from fxhpc.forwarder.home import Home
from tests.faults.figures import record_figure
from tests.process.homes import TestHome
from tests.waiting import eventually

SUBMIT = """
import sys
from fxhpc import FuncXClient

def f(x, more=b""):
    return x * 2

if __name__ == "__main__":
    local = "4b116d3c-1703-4f8f-9f6f-39921e5864df"
    more = [bytes(int(size)) for size in sys.argv[1:]]
    with FuncXClient() as fxc:
        batch = fxc.create_batch()
        function = fxc.register_function(f)
        for n in range(2000):
            batch.add(n, *more, function_id=function, endpoint_id=local)
        ids = fxc.batch_run(batch)
        fxc.wait(ids)
        print(ids[0], ids[-1])
"""

READ = """
import sys
from fxhpc import FuncXClient, errors

with FuncXClient() as fxc:
    for name in sys.argv[1:]:
        try:
            print(fxc.get_result(name))
        except errors.FxhpcError as error:
            print(type(error).__name__)
"""


def command(home: TestHome, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fxhpc.cli.main", *arguments],
        env=home.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def leave(home: TestHome) -> None:
    """Wait until the home's forwarder has gone."""
    eventually(lambda: not home.processes())


def test_f04_a_damaged_store_is_set_aside_and_what_is_whole_is_kept(home: TestHome) -> None:
    """F4: pages of the database are overwritten while nobody is there. The next client is told in
    one line, has what is whole, and `store du` names what was set aside."""
    first, last = home.run("submit.py", SUBMIT).split()
    leave(home)
    path = Home(home.path).store
    data = bytearray(path.read_bytes())
    # Not the schema, and not the last ones: tables of tasks and results, from their roots on.
    data[4096 : len(data) // 3] = os.urandom(len(data) // 3 - 4096)
    path.write_bytes(data)
    reader = home.start("read.py", READ, first, last)
    out, err = reader.communicate(timeout=60)
    told = [line for line in err.splitlines() if "damaged" in line]
    assert len(told) == 1, err
    assert "Carried over" in told[0]
    assert out.count("\n") == 2, out + err
    assert set(out.split()) <= {"0", "3998", "TaskNotFound", "TaskPending", "TaskLost"}, out
    shown = command(home, "store", "du", "--json")
    (aside, *_) = json.loads(shown.stdout)["set_aside"]
    assert aside["path"] in told[0]
    assert aside["bytes"] > 0


def test_f04_damage_that_is_met_at_work_is_saved_by_the_next_forwarder(home: TestHome) -> None:
    """F4: a mark says that a forwarder met damage: the next one carries over all that is whole."""
    first, last = home.run("submit.py", SUBMIT).split()
    leave(home)
    Path(f"{Home(home.path).store}.is-damaged").touch(0o600)
    reader = home.start("read.py", READ, first, last)
    out, err = reader.communicate(timeout=60)
    assert out.split() == ["0", "3998"], err
    assert "all that was in it" in err
    leave(home)
    assert not Path(f"{Home(home.path).store}.is-damaged").exists()
    assert "damaged" not in home.start("again.py", READ, first).communicate(timeout=60)[1]


def test_f07_the_limit_of_the_store_refuses_and_is_raised_at_work(home: TestHome) -> None:
    """F7: `fxhpc store set` holds for the forwarder that runs; purge gives room back."""
    home.environment["FXHPC_FORWARDER_GRACE"] = "30"
    first, last = home.run("submit.py", SUBMIT, "5000").split()  # 10 MB: it finds an empty store
    command(home, "store", "set", "--max-bytes", "8MB")
    assert Home(home.path).limits.stat().st_mode & 0o077 == 0
    eventually(lambda: json.loads(command(home, "store", "du", "--json").stdout)["max_bytes"] < 1e7)
    before = json.loads(command(home, "store", "du", "--json").stdout)
    assert before["used"] > before["max_bytes"]
    again = home.start("again.py", SUBMIT)
    _, err = again.communicate(timeout=60)
    assert again.returncode
    assert "StoreFull" in err
    assert "fxhpc store purge" in err
    assert command(home, "store", "purge", "--ended").returncode  # nobody is there to be asked
    purged = json.loads(command(home, "store", "purge", "--ended", "--yes", "--json").stdout)
    assert purged["tasks"] >= 2000
    after = json.loads(command(home, "store", "du", "--json").stdout)
    assert after["used"] < before["used"]
    assert after["free_in_database"] == 0
    record_figure("F7", "freed by purging 2,000 tasks", purged["freed_bytes"], "bytes")
    assert home.run("read.py", READ, first, last).split() == ["TaskNotFound"] * 2
    command(home, "store", "set", "--max-bytes", "1GB")
    eventually(lambda: home.start("more.py", SUBMIT).wait(60) == 0, within=30)
    os.kill(home.forwarder().pid, signal.SIGTERM)


FILL = """
import sys, time
from pathlib import Path
from fxhpc import FuncXClient, errors

def f(x):
    return len(x)

if __name__ == "__main__":
    local = "4b116d3c-1703-4f8f-9f6f-39921e5864df"
    with FuncXClient() as fxc:
        function = fxc.register_function(f)
        ids = []
        try:
            while len(ids) < 300:
                ids.append(fxc.run(bytes([len(ids) % 256]) * 400_000, endpoint_id=local,
                                   function_id=function))
            print("never full")
        except errors.StoreFull as error:
            print("refused", "no room left" in str(error))
        print(len(ids) > 5, [fxc.get_result(one) for one in ids] == [400_000] * len(ids))
        print(input())
        deadline = time.monotonic() + 30
        while True:
            try:
                one = fxc.run(b"x" * 100_000, endpoint_id=local, function_id=function)
                break
            except errors.StoreFull:
                assert time.monotonic() < deadline
        print(fxc.get_result(one))
"""


def test_f02_a_full_disk_refuses_submissions_keeps_results_and_recovers(
    small_home: TestHome,
) -> None:
    """F2: the store's disk is full: `run` says so, what was accepted has its result, and when
    there is room again all goes on by itself."""
    small_home.environment["FXHPC_FORWARDER_GRACE"] = "30"
    script = small_home.start("fill.py", FILL)
    assert script.stdout is not None
    assert script.stdin is not None
    if not small_home.path.parent.is_mount():
        script.kill()
        return
    assert script.stdout.readline() == "refused True\n"
    assert script.stdout.readline() == "True True\n"
    purged = json.loads(command(small_home, "store", "purge", "--all", "--yes", "--json").stdout)
    record_figure("F2", "freed on a full disk", purged["freed_bytes"], "bytes")
    script.stdin.write("go\n")
    script.stdin.flush()
    out, err = script.communicate(timeout=60)
    assert out.split() == ["go", "100000"], err
    os.kill(small_home.forwarder().pid, signal.SIGTERM)

"""The home's forwarder dies, and nobody loses anything: real processes, real kills."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

from homes import TestHome, finish

from fxhpc.forwarder.home import Home
from tests.waiting import eventually

RUN_MANY = """
    import sys
    from fxhpc import FuncXClient

    def note(path, index):
        import os, time
        with open(path, "a") as file:  # one short write: lines of two workers do not mix
            file.write(f"{index}\\n")
        time.sleep(0.002)
        return index * 2

    count = int(sys.argv[2])
    fxc = FuncXClient()
    function = fxc.register_function(note)
    batch = fxc.create_batch()
    for index in range(count):
        batch.add(sys.argv[1], index, endpoint_id="local", function_id=function)
    ids = fxc.batch_run(batch)
    print("submitted", flush=True)
    sys.stdin.readline()
    fxc.wait(ids, timeout=60)
    results = fxc.get_batch_result(ids)
    assert [results[i]["result"] for i in ids] == [index * 2 for index in range(count)]
    print("all there", flush=True)
"""


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_a_killed_forwarder_loses_nothing_and_nothing_runs_twice(
    home: TestHome, tmp_path: Path
) -> None:
    notes, count = tmp_path / "notes", 1500
    script = home.start("many.py", RUN_MANY, str(notes), str(count))
    assert script.stdout is not None
    assert script.stdout.readline() == "submitted\n"
    assert script.stdin is not None
    script.stdin.write("\n")
    script.stdin.flush()
    killed: set[int] = set()
    for share in (0.1, 0.4, 0.7):
        eventually(lambda share=share: len(_lines(notes)) > share * count)
        before = home.forwarder()
        os.kill(before.pid, signal.SIGKILL)
        killed.add(before.pid)
        at = time.monotonic()
        eventually(lambda: home.forwarder().pid not in killed)
        assert time.monotonic() - at < 2.0
    assert "all there" in finish(script)
    assert Counter(_lines(notes)) == Counter(map(str, range(count)))


def test_results_are_there_for_a_later_process(home: TestHome, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    first = home.start(
        "first.py",
        """
        import sys, time
        from fxhpc import FuncXClient

        def note(path, index):
            with open(path, "a") as file:
                file.write(f"{index}\\n")
            return index

        def wait(path, index):
            import time
            with open(path, "a") as file:
                file.write(f"{index}\\n")
            time.sleep(60 if index < 2 else 0)
            return index

        fxc = FuncXClient()
        done, waiting = fxc.register_function(note), fxc.register_function(wait)
        ids = [fxc.run(sys.argv[1], -1, endpoint_id="local", function_id=done)]
        fxc.wait(ids)
        ids += [
            fxc.run(sys.argv[1], index, endpoint_id="local", function_id=waiting)
            for index in (0, 1, 2, 3)
        ]
        print(*ids, flush=True)
        time.sleep(60)
        """,
        str(notes),
    )
    assert first.stdout is not None
    ids = first.stdout.readline().split()
    eventually(lambda: len(_lines(notes)) == 3)  # one is done, two run, two have not begun
    first.kill()
    later = home.run(
        "later.py",
        """
        import sys
        from fxhpc import FuncXClient
        fxc = FuncXClient()
        done, _, _, *waiting = sys.argv[1:]
        # Those are asked for; the two that would sleep are not, and are left alone.
        print(fxc.get_result(done), [fxc.get_result(i, timeout=30) for i in waiting])
        """,
        *ids,
    )
    assert later == "-1 [2, 3]\n"
    assert Counter(_lines(notes)) == Counter(["-1", "0", "1", "2", "3"])


def test_the_forwarder_leaves_some_time_after_its_last_client(home: TestHome) -> None:
    home.run("one.py", "from fxhpc import FuncXClient\nFuncXClient()")
    pid = home.forwarder().pid
    eventually(lambda: not home.processes(), within=10)
    assert Home(home.path).read_owner() is None
    assert pid

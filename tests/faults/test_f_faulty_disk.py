"""F2: quotas, read-only file systems and disks with errors under a forwarder at work."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.faulty_disk import FaultyDisk
from tests.process.homes import TestHome
from tests.waiting import eventually

#: Answers each line that it is given with one; tasks write what they are into `ran`.
CLIENT = """
import os, sys, time
from pathlib import Path
from fxhpc import Executor, FuncXClient, errors

def slow(n, directory):
    import os, time
    descriptor = os.open(directory + "/ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, b"%d\\n" % n)
    os.close(descriptor)
    while n < 2 and not os.path.exists(directory + "/go"):
        time.sleep(0.01)
    return n * 2

def told(error):
    print(type(error).__name__, str(error).replace("\\n", " "), flush=True)

if __name__ == "__main__":
    here = sys.argv[1]
    local = "4b116d3c-1703-4f8f-9f6f-39921e5864df"
    fxc = FuncXClient()
    executor = Executor(funcx_client=fxc)
    function = fxc.register_function(slow)
    ids = [fxc.run(n, here, endpoint_id=local, function_id=function) for n in range(50)]
    future = executor.submit(slow, 100, here)
    for line in sys.stdin:
        if line == "run\\n":
            try:
                fxc.run(200, here, endpoint_id=local, function_id=function)
                print("accepted", flush=True)
            except errors.FxhpcError as error:
                told(error)
        elif line == "batch\\n":
            batch = fxc.create_batch()
            for n in range(300, 303):
                batch.add(n, here, endpoint_id=local, function_id=function)
            try:
                fxc.batch_run(batch)
                print("accepted", flush=True)
            except errors.FxhpcError as error:
                told(error)
        elif line == "submit\\n":
            later = executor.submit(slow, 400, here)
            print("submitted", flush=True)
        elif line == "later\\n":
            try:
                print(later.result(30), flush=True)
            except errors.FxhpcError as error:
                told(error)
        elif line == "results\\n":
            fxc.wait(ids, timeout=50)
            got = [fxc.get_result(one) for one in ids]
            print(got == [2 * n for n in range(50)], future.result(10), flush=True)
    executor.shutdown()
    fxc.close()
"""

#: What each error is to be called, and a word of it that says what is the matter.
ERRORS = {
    errno.EDQUOT: ("StoreFull", "quota"),
    errno.EROFS: ("HomeError", "read-only"),
    errno.EIO: ("ForwarderError", "Input/output error"),
}


class Client:
    """The script at work."""

    def __init__(self, home: TestHome, directory: Path) -> None:
        self.process = home.start("client.py", CLIENT, str(directory))

    def say(self, line: str) -> str:
        """Its answer to a line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise AssertionError(self.process.communicate(timeout=20)[1])
        return answer

    def leave(self) -> None:
        """It ends well."""
        _, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, err


@pytest.fixture
def disk(home: TestHome, tmp_path: Path) -> Iterator[FaultyDisk]:
    """The disk that the home is on."""
    faulty = FaultyDisk(tmp_path / "faults", home.path)
    home.environment.update(faulty.environment)
    yield faulty
    faulty.fail(0)


def ran(directory: Path) -> list[int]:
    """The tasks that have begun, in their order."""
    path = directory / "ran"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def _cases() -> Iterator[object]:
    for number in ERRORS:
        for killed in (False, True):
            quick = killed if number == errno.EROFS else not killed
            name = f"{errno.errorcode[number]}-{'killed' if killed else 'stays'}"
            marks = () if quick else pytest.mark.load
            yield pytest.param(number, killed, id=name, marks=marks)


@pytest.mark.parametrize(("number", "killed"), list(_cases()))
def test_f02_a_disk_with_errors_refuses_in_words_and_recovers(
    home: TestHome, disk: FaultyDisk, tmp_path: Path, number: int, killed: bool
) -> None:
    """F2: writing to the home fails while tasks run: `run` and `batch_run` are refused in words,
    and once writing works again every task has its result and has run once, also if the forwarder
    was killed meanwhile; nobody has to do anything."""
    client = Client(home, tmp_path)
    eventually(lambda: {0, 1} <= set(ran(tmp_path)))
    name, words = ERRORS[number]
    disk.fail(number)
    for call in ("run", "batch"):
        answer = client.say(call)
        assert answer.split()[0] == name, answer
        assert words in answer
    (tmp_path / "go").touch()
    eventually(lambda: len(ran(tmp_path)) >= 51)
    if killed:
        forwarder = home.forwarder().pid
        os.kill(forwarder, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(forwarder) or _is_dead(forwarder))
    assert client.say("submit") == "submitted"
    if killed:
        # Whoever needs a forwarder now is told in words why there is none.
        told = subprocess.run(
            [sys.executable, "-m", "fxhpc.cli.main", "store", "du"],
            env=home.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert told.returncode
        assert words in told.stderr
        assert "Traceback" not in told.stderr
    else:
        later = client.say("later")  # its result, or an error in words: it does not hang
        assert later == "800" or later.split()[0] == name, later
    disk.fail(0)
    if killed:
        assert client.say("later") == "800"  # a client looks for another forwarder for a minute
    assert client.say("results") == "True 200"
    assert client.say("run") == client.say("batch") == "accepted"
    client.leave()
    begun = [n for n in ran(tmp_path) if n <= 100]
    assert sorted(begun) == [*range(50), 100]


def _is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True

"""Deaths of workers in chunks whose cause is not the call that they meet: nobody else is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from fxhpc import FuncXClient, errors

LOCAL = "local"

#: What a worker has piled up, since it lives.
PILE: list[int] = []


def note(notes: str, x: int) -> None:
    with open(notes, "a") as file:
        file.write(f"{x}\n")


def times(notes: Path) -> list[int]:
    """How often each call was made."""
    found = Counter(map(int, notes.read_text().split()))
    return [found[x] for x in range(max(found) + 1)]


def leak(x: int, notes: str) -> list[int]:
    from test_map_deaths import PILE, note

    note(notes, x)
    PILE.append(x)
    if len(PILE) > 15:  # as if memory ran out
        os.kill(os.getpid(), signal.SIGKILL)
    return [x]


def leave_a_killer(x: int) -> int:
    from test_map_deaths import PILE, _wait_and_kill

    if PILE:  # the call that the thread's kill meets; the one that started it has ended
        PILE.append(x)
        threading.Event().wait()
    if x == 1:
        PILE.append(x)
        threading.Thread(target=_wait_and_kill, daemon=True).start()
    return 2 * x


def _wait_and_kill() -> None:
    from test_map_deaths import PILE

    while len(PILE) < 2:
        os.sched_yield()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("retries", [1, 2])
def test_what_builds_up_is_nobodys_fault(client: FuncXClient, tmp_path: Path, retries: int) -> None:
    """A leak that gets the worker killed at a total: the calls that it meets end well all the
    same.
    """
    notes = tmp_path / "notes"
    client.retries = retries
    function = client.register_function(leak)
    found = client.map_run(
        range(40), endpoint_id=LOCAL, function_id=function, chunksize=40, notes=str(notes)
    )
    told = client.get_batch_result(found, timeout=60)
    assert [told[name].get("result") for name in found] == [[x] for x in range(40)]
    # In the first run nothing was kept. Of the others only the calls that met a death were made
    # again.
    assert sum(times(notes)) == 40 + 15 + 3


def test_a_thread_that_kills_after_its_call_harms_no_call(client: FuncXClient) -> None:
    """Each process in which call 1 was made is killed at the next call."""
    function = client.register_function(leave_a_killer)
    found = client.map_run(range(6), endpoint_id=LOCAL, function_id=function, chunksize=6)
    told = client.get_batch_result(found, timeout=60)
    assert [told[name].get("result") for name in found] == [2 * x for x in range(6)]


def die_once_careful(x: int, notes: str) -> int:
    from test_map_deaths import note

    print(f"call {x}", flush=True)
    note(notes, x)
    if x in (2, 5):
        os.kill(os.getpid(), signal.SIGSEGV)
    if x == 4:
        raise ValueError("four")
    return x


def test_what_has_ended_is_not_made_again(client: FuncXClient, tmp_path: Path) -> None:
    """Two that kill always: each is made three times and lost alone. What ends between their deaths
    is kept: values, errors, and what was printed.
    """
    notes = tmp_path / "notes"
    client.capture_output = True
    function = client.register_function(die_once_careful)
    found = client.map_run(
        range(8), endpoint_id=LOCAL, function_id=function, chunksize=8, notes=str(notes)
    )
    told = client.get_batch_result(found, timeout=60)
    assert [told[name].get("result") for name in found] == [0, 1, None, 3, None, None, 6, 7]
    assert times(notes) == [2, 2, 3, 1, 1, 3, 1, 1]
    for x in (2, 5):
        with pytest.raises(errors.WorkerDied) as died:
            client.get_result(found[x])
        assert died.value.task_id == found[x]
        assert died.value.signal == signal.SIGSEGV
        assert len(died.value.attempts) == 2
    with pytest.raises(ValueError, match="four"):
        client.get_result(found[4])
    printed = client.get_task(found[0])["details"]["stdout"].split("\n")
    assert {f"call {x}" for x in range(8) if x != 2} <= set(printed)


def close_all(x: int, folder: str) -> int:
    if x == 1 and not os.path.exists(f"{folder}/died"):
        Path(folder, "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if x == 3:
        os.closerange(3, 1000)
    return x


def test_a_call_that_closes_what_is_not_its_own_is_lost_alone(
    client: FuncXClient, tmp_path: Path
) -> None:
    """The first worker is killed, so that the chunk runs carefully: in a file that is closed."""
    function = client.register_function(close_all)
    found = client.map_run(
        range(6), endpoint_id=LOCAL, function_id=function, chunksize=6, folder=str(tmp_path)
    )
    told = client.get_batch_result(found, timeout=60)
    assert [told[name].get("result") for name in found] == [0, 1, 2, None, 4, 5]
    with pytest.raises((errors.TaskExited, errors.WorkerDied)):
        client.get_result(found[3])


def cut_all() -> str:
    for fd in range(3, 100):
        try:
            os.ftruncate(fd, 0)
        except OSError:
            pass  # it is none, or no file
    return "done"


def test_a_task_that_cuts_what_is_not_its_own_does_not_end_its_manager(client: FuncXClient) -> None:
    function = client.register_function(cut_all)
    for _ in range(2):
        task = client.run(endpoint_id=LOCAL, function_id=function)
        assert client.get_result(task, timeout=60) == "done"
        assert "attempts" not in client.get_task(task)["details"]

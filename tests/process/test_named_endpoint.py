"""A named endpoint: interchange and managers as processes of their own, over tcp with CURVE."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from homes import TestHome
from notes import lines, note

from fxhpc import Executor, FuncXClient
from fxhpc.testing.endpoint import RunningEndpoint
from tests.waiting import eventually


@pytest.fixture
def endpoint(home: TestHome) -> Iterator[RunningEndpoint]:
    """An endpoint with two managers that is not started yet."""
    endpoint = RunningEndpoint(home.path, "midway", managers=2, workers=1)
    yield endpoint
    endpoint.stop()


def _submit(client: FuncXClient, endpoint: RunningEndpoint, path: Path, count: int) -> list[str]:
    function = client.register_function(note)
    batch = client.create_batch()
    for index in range(count):
        batch.add(str(path), index, endpoint_id=endpoint.endpoint_id, function_id=function)
    ids = client.batch_run(batch)
    assert isinstance(ids, list)
    return ids


def _check(client: FuncXClient, ids: list[str]) -> None:
    client.wait(ids, timeout=60)
    results = client.get_batch_result(ids)
    assert [results[name]["result"] for name in ids] == [2 * index for index in range(len(ids))]


def test_tasks_wait_for_an_endpoint_that_is_away(
    client: FuncXClient, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    ids = _submit(client, endpoint, tmp_path / "notes", 20)
    task = client.get_task(ids[0])
    assert task["pending"] is True
    assert task["status"] == "waiting-for-ep"
    assert client.get_endpoint_status(endpoint.endpoint_id)["status"] == "offline"
    with endpoint:
        _check(client, ids)
        status = client.get_endpoint_status(endpoint.endpoint_id)
        assert status["status"] == "online"
        with Executor(client=client, endpoint_id=endpoint.endpoint_id) as executor:
            assert sorted(executor.map(abs, [-3, -2, -1])) == [1, 2, 3]


def test_interchanges_die_and_nothing_is_lost_or_runs_twice(
    client: FuncXClient, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    notes, count = tmp_path / "notes", 600
    with endpoint:
        ids = _submit(client, endpoint, notes, count)
        for share in (0.2, 0.5):
            eventually(lambda share=share: len(lines(notes)) > share * count)
            assert endpoint.interchange is not None
            endpoint.interchange.kill()
            endpoint.interchange.wait()
            endpoint.start_interchange()
        _check(client, ids)
    assert Counter(lines(notes)) == Counter(map(str, range(count)))


def test_a_forwarder_dies_and_the_endpoint_goes_on(
    client: FuncXClient, home: TestHome, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    notes, count = tmp_path / "notes", 400
    with endpoint:
        ids = _submit(client, endpoint, notes, count)
        eventually(lambda: len(lines(notes)) > 0.3 * count)
        os.kill(home.forwarder().pid, signal.SIGKILL)
        _check(client, ids)
    assert Counter(lines(notes)) == Counter(map(str, range(count)))


def test_results_are_spooled_while_there_is_no_forwarder(
    home: TestHome, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    with endpoint:
        ids = home.run(
            "submit.py",
            """
            import sys
            from fxhpc import FuncXClient

            def note(path, index):
                import time
                with open(path, "a") as file:
                    file.write(f"{index}\\n")
                time.sleep(0.02)
                return index * 2

            fxc = FuncXClient()
            function = fxc.register_function(note)
            batch = fxc.create_batch()
            for index in range(60):
                batch.add(sys.argv[1], index, endpoint_id=sys.argv[2], function_id=function)
            print(*fxc.batch_run(batch))
            """,
            str(notes),
            endpoint.endpoint_id,
        ).split()
        eventually(lambda: len(lines(notes)) > 5)
        os.kill(home.forwarder().pid, signal.SIGKILL)  # nobody is there to start another
        eventually(lambda: len(lines(notes)) == 60)
        eventually(lambda: endpoint.directory.spool.stat().st_size > 0)
        assert endpoint.interchange is not None
        endpoint.interchange.kill()
        endpoint.interchange.wait()
        endpoint.start_interchange()
        found = home.run(
            "read.py",
            """
            import sys
            from fxhpc import FuncXClient
            print(*[FuncXClient().get_result(sys.argv[1], timeout=30)][:1])
            fxc = FuncXClient()
            fxc.wait(sys.argv[1:], timeout=30)
            print(*[fxc.get_result(name) for name in sys.argv[1:]])
            """,
            *ids,
        )
        assert found.split()[1:] == [str(2 * index) for index in range(60)]
        eventually(lambda: endpoint.directory.spool.stat().st_size == 0)
    assert Counter(lines(notes)) == Counter(map(str, range(60)))


def test_a_killed_manager_is_noticed_when_its_connection_closes(
    client: FuncXClient, endpoint: RunningEndpoint, tmp_path: Path
) -> None:
    notes, count = tmp_path / "notes", 400
    with endpoint:
        ids = _submit(client, endpoint, notes, count)
        eventually(lambda: len(lines(notes)) > 0.2 * count)
        eventually(
            lambda: client.get_endpoint_status(endpoint.endpoint_id)["logs"][0]["managers"] == 2
        )
        endpoint.managers[0].kill()
        at = time.monotonic()
        _check(client, ids)
        assert time.monotonic() - at < 10  # silence alone would take 15 s
    runs = Counter(lines(notes))
    assert set(runs) == set(map(str, range(count)))
    assert max(runs.values()) <= 2


def test_it_listens_where_it_was_told_to_and_nowhere_else(endpoint: RunningEndpoint) -> None:
    with endpoint:
        assert endpoint.interchange is not None
        found = [
            connection.laddr
            for connection in psutil.Process(endpoint.interchange.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        address = endpoint.directory.read_address()
        assert address is not None
        assert [f"tcp://{where.ip}:{where.port}" for where in found] == [address.managers]
        assert found[0].ip == "127.0.0.1"


def test_i03_a_second_interchange_is_refused_by_name(endpoint: RunningEndpoint) -> None:
    with endpoint:
        first = endpoint.interchange
        assert first is not None
        with pytest.raises(RuntimeError, match=f"'midway' runs already.*{first.pid}"):
            endpoint.start_interchange()
        assert endpoint.interchange is not None
        endpoint.interchange.wait()
        endpoint.interchange = first

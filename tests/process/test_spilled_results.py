"""Results above the limit, with real workers: in files while somebody may ask for them."""

from __future__ import annotations

import concurrent.futures as cf
import os
from pathlib import Path

import pytest

from fxhpc import Executor, FuncXClient, errors
from fxhpc.forwarder import spilled
from fxhpc.protocol.provision import InterchangeSpec
from fxhpc.protocol.sizes import SizeLimits
from fxhpc.testing.endpoint import RunningEndpoint
from tests.process.homes import TestHome
from tests.waiting import eventually

LIMIT = 20_000
LARGE = 2_000_000


def zeros(count: int) -> bytes:
    return bytes(count)


def length(data: bytes, more: bytes = b"") -> int:
    return len(data) + len(more)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.fixture
def spilling(client: FuncXClient) -> FuncXClient:
    client.max_payload = LIMIT
    client.on_exceed = "spill"
    return client


def test_through_a_home(spilling: FuncXClient, home: TestHome) -> None:
    """Whoever asks gets them, as often as they like; what was changed or is gone is told."""
    zeros_id, length_id = map(spilling.register_function, (zeros, length))
    counts = [10, 50_000, LARGE]
    ids = spilling.map_run(counts, endpoint_id="local", function_id=zeros_id)
    batch = spilling.create_batch()
    for _ in range(2):
        batch.add(bytes(LARGE), more=b"m", endpoint_id="local", function_id=length_id)
    for task in spilling.batch_run(batch):
        assert spilling.get_result(task, timeout=60) == LARGE + 1
    for _ in range(2):
        assert [len(spilling.get_result(task, timeout=60)) for task in ids] == counts
    assert len(_files(home.path / "spill")) == 2
    code = "import sys; from fxhpc import FuncXClient; print(len(FuncXClient().get_result("
    assert home.run("other.py", f"{code}sys.argv[1])))", ids[2]) == f"{LARGE}\n"
    (file,) = (path for path in _files(home.path / "spill") if path.stat().st_size > LARGE)
    os.truncate(file, 100)
    found = spilling.get_batch_result(ids)
    assert len(found[ids[1]]["result"]) == 50_000
    with pytest.raises(errors.SpilledResultLost, match="has 100 bytes instead of") as caught:
        found[ids[2]]["exception"].reraise()
    assert ids[2] in str(caught.value)
    assert str(file) in str(caught.value)
    spilling.on_exceed = "error"
    with pytest.raises(errors.PayloadTooLarge):
        spilling.run(bytes(LARGE), endpoint_id="local", function_id=length_id)
    refused = spilling.run(50_000, endpoint_id="local", function_id=zeros_id)
    with pytest.raises(errors.MaxResultSizeExceeded):
        spilling.get_result(refused, timeout=60)


def test_files_stay_with_their_tasks(home: TestHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `run` has made stays for the next client of its store. What a client was to take over
    that was killed before goes."""
    code = """
        import os
        from fxhpc import FuncXClient, Executor
        from fxhpc.client.sending import groups
        groups.adopt_files = lambda outcomes: outcomes
        options = {"max_payload": 20_000, "on_exceed": "spill"}
        fxc = FuncXClient(embedded=True, path="store.db", workers=1, **options)
        kept = fxc.run(60_000, endpoint_id="local", function_id=fxc.register_function(bytes))
        fxc.get_result(kept, timeout=60)
        Executor(client=fxc, **options).submit(bytes, 50_000).result(60)
        print(kept, flush=True)
        os.kill(os.getpid(), 9)
    """
    kept = home.start("killed.py", code).communicate(timeout=60)[0].strip()
    spill = home.scripts / "store.db.spill"
    assert len(_files(spill)) == 2
    eventually(lambda: not home.processes())
    monkeypatch.setattr(spilled, "LOOK_S", 0.05)
    with FuncXClient(embedded=True, path=str(home.scripts / "store.db")) as client:
        assert client.get_result(kept) == bytes(60_000)
        eventually(lambda: len(_files(spill)) == 1)
        (file,) = _files(spill)
        assert file.parent.name == kept.replace("-", "")[:24]


@pytest.mark.parametrize("where", ["home", "embedded", "a store of its own"])
def test_an_executor_leaves_no_files(
    client: FuncXClient, home: TestHome, tmp_path: Path, where: str
) -> None:
    """Results are read after the executor has ended, and there was no file by then."""
    options = {"client": client} if where == "home" else {"max_workers": 1}
    store = tmp_path / "store.db"
    if where == "a store of its own":
        options["path"] = str(store)
    with Executor(max_payload=LIMIT, on_exceed="spill", **options) as executor:
        futures = [executor.submit(zeros, count) for count in (10, 50_000, LARGE)]
        futures += [executor.submit(length, bytes(LARGE), bytes(3))]
        chunked = executor.map(len, [b"a", bytes(50_000), b"ccc"], chunksize=2)
        made = executor.map(zeros, [1, 700, 600, 50_000], chunksize=2)
        cf.wait(futures, timeout=60)
        directory = home.path / "spill" if where == "home" else Path(f"{store}.spill")
        assert not _files(directory)
        assert list(chunked) == [1, 50_000, 3]
    assert [len(future.result()) for future in futures[:3]] == [10, 50_000, LARGE]
    assert futures[3].result() == LARGE + 3
    assert list(map(len, made)) == [1, 700, 600, 50_000]
    assert futures[1].result() is futures[1].result()
    assert not _files(directory)


def test_a_named_endpoint_that_says_so(client: FuncXClient, home: TestHome) -> None:
    """`limits.on_exceed: spill` holds for whoever submits; the files lie with the endpoint."""
    client.max_payload = LIMIT
    spec = InterchangeSpec(limits=SizeLimits(spill=True))
    with RunningEndpoint(home.path, "midway", managers=0, spec=spec) as endpoint:
        endpoint.start_manager(spill=str(endpoint.directory.spill))
        place = {"endpoint_id": endpoint.endpoint_id}
        function = client.register_function(zeros)
        task = client.run(50_000, function_id=function, **place)
        assert client.get_result(task, timeout=60) == bytes(50_000)
        (file,) = _files(endpoint.directory.spill)
        with Executor(client=client, max_payload=LIMIT, **place) as executor:
            assert executor.submit(zeros, 60_000).result(60) == bytes(60_000)
        assert _files(endpoint.directory.spill) == [file]


def test_a_named_endpoint_that_limits_sizes(client: FuncXClient, home: TestHome) -> None:
    """What is too large for it is refused at once, or fails its task alone; what is started with
    other limits has these from then on."""
    limits = SizeLimits(argument=LIMIT, result=LIMIT)
    spec = InterchangeSpec(limits=limits)
    with RunningEndpoint(home.path, "midway", managers=0, spec=spec) as endpoint:
        endpoint.start_manager(spill=str(endpoint.directory.spill))
        place = {"endpoint_id": "midway"}
        zeros_id, length_id = map(client.register_function, (zeros, length))
        made = client.map_run([10, 50_000, 20], function_id=zeros_id, **place)
        with pytest.raises(errors.PayloadTooLarge, match="of endpoint midway"):
            client.run(bytes(50_000), function_id=length_id, **place)
        with Executor(client=client, **place) as executor:
            small = executor.submit(length, b"abc")
            with pytest.raises(errors.PayloadTooLarge, match="of endpoint midway"):
                executor.submit(length, bytes(50_000))
            assert small.result(60) == 3
        assert [len(client.get_result(made[n], timeout=60)) for n in (0, 2)] == [10, 20]
        with pytest.raises(errors.MaxResultSizeExceeded, match=r"50\d\d\dB exceeded.* 20000B"):
            client.get_result(made[1], timeout=60)
        known = client._attached().connection.limits
        assert endpoint.interchange is not None
        endpoint.interchange.kill()
        endpoint.interchange.wait()
        endpoint.start_interchange(InterchangeSpec(limits=SizeLimits(LARGE, LIMIT, spill=True)))
        eventually(lambda: known.of(endpoint.endpoint_id, 10**7, False) == (LARGE, True))
        large = client.run(bytes(LARGE), more=b"m", function_id=length_id, **place)
        assert client.get_result(large, timeout=60) == LARGE + 1
        made = client.map_run([50_000], function_id=zeros_id, **place)
        assert len(client.get_result(made[0], timeout=60)) == 50_000


def test_a_full_directory_fails_the_task_alone(spilling: FuncXClient, home: TestHome) -> None:
    (home.path / "spill").write_text("in the way")
    function = spilling.register_function(zeros)
    ids = spilling.map_run([50_000, 10], endpoint_id="local", function_id=function)
    with pytest.raises(errors.MaxResultSizeExceeded, match="Not a directory") as caught:
        spilling.get_result(ids[0], timeout=60)
    assert ids[0] in str(caught.value)
    assert len(spilling.get_result(ids[1], timeout=60)) == 10

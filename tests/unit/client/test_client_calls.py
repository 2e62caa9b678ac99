"""FuncXClient's calls, against what funcX scripts expect of them."""

from __future__ import annotations

import concurrent.futures as cf
import logging
import threading
import time
import uuid
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Batch, Executor, FuncXClient, errors, ids
from fxhpc.client.connection import attachments
from fxhpc.protocol import service
from tests.waiting import eventually

ENDPOINT = "4b116d3c-1703-4f8f-9f6f-39921e5864df"


def double(x: int, plus: int = 0) -> int:
    return 2 * x + plus


def failing() -> None:
    raise Exception("deterministic failure")


def leaving() -> None:
    raise SystemExit(3)


@pytest.fixture
def function(client: FuncXClient, forwarder: FakeForwarder) -> str:
    forwarder.service.teach(double)
    forwarder.service.teach(failing)
    return client.register_function(double, description="twice")


def test_run_and_get_result(client: FuncXClient, function: str) -> None:
    assert str(uuid.UUID(function)) == function
    task = client.run(4, endpoint_id=ENDPOINT, function_id=function, plus=1)
    assert str(uuid.UUID(task)) == task
    assert client.get_result(task) == 9
    assert client.get_result(uuid.UUID(task)) == 9
    told = client.get_task(task)
    assert told == {
        "pending": False,
        "status": "success",
        "result": 9,
        "completion_t": "1623881816.333504",
    }


def test_ids_may_be_uuids_and_local_a_name(client: FuncXClient, function: str) -> None:
    for endpoint in (uuid.UUID(ENDPOINT), ENDPOINT.upper(), "local"):
        task = client.run(1, endpoint_id=endpoint, function_id=uuid.UUID(function))
        assert client.get_result(task) == 2


def test_failures_are_raised_again(client: FuncXClient, function: str) -> None:
    task = client.run(endpoint_id=ENDPOINT, function_id=client.register_function(failing))
    with pytest.raises(Exception, match="deterministic failure") as caught:
        client.get_result(task)
    assert type(caught.value) is Exception
    told = client.get_task(task)
    assert told["status"] == "failed"
    assert told["pending"] is False
    with pytest.raises(Exception, match="deterministic failure"):
        told["exception"].reraise()


def test_pending(client: FuncXClient, function: str, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    task = client.run(1, endpoint_id=ENDPOINT, function_id=function)
    assert client.get_task(task) == {
        "pending": True,
        "status": "waiting-for-nodes",
        "reason": "no worker yet",
    }
    with pytest.raises(errors.TaskPending) as caught:
        client.get_result(task, timeout=0)
    assert caught.value.reason == "waiting-for-nodes: no worker yet"
    assert client.get_batch_result([task])[task]["pending"] is True
    forwarder.do(forwarder.service.run_held)
    assert client.get_result(task) == 2


def test_many_pending_tasks_are_waited_for_once(
    client: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    tasks = [client.run(x, endpoint_id=ENDPOINT, function_id=function) for x in range(10)]
    began = time.monotonic()
    for task in tasks:
        with pytest.raises(errors.TaskPending):
            client.get_result(task)
    assert 0.2 < time.monotonic() - began < 1.5
    with pytest.raises(errors.TaskPending):
        client.get_result(tasks[0], wait=0)


def test_waiting_without_end(client: FuncXClient, function: str, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    task = client.run(1, endpoint_id=ENDPOINT, function_id=function)
    timer = threading.Timer(0.5, lambda: forwarder.do(forwarder.service.run_held))
    timer.start()
    assert client.get_result(task, timeout=float("inf")) == 2
    timer.join()


def test_unknown_things(client: FuncXClient, function: str) -> None:
    unknown = ids.task_id(ids.new_stream(), 0)
    for ask in (client.get_task, client.get_result):
        with pytest.raises(errors.TaskNotFound, match=unknown):
            ask(unknown)
        with pytest.raises(errors.TaskNotFound):
            ask(str(uuid.uuid4()))
        with pytest.raises(errors.InvalidUUID):
            ask("nonsense")
    told = client.get_batch_result([unknown])[unknown]
    assert (told["pending"], told["status"]) == (False, "unknown")
    with pytest.raises(errors.TaskNotFound):
        told["exception"].reraise()
    with pytest.raises(errors.FunctionNotFound):
        client.run(1, endpoint_id=ENDPOINT, function_id=str(uuid.uuid4()))
    with pytest.raises(errors.EndpointNotFound):
        client.run(1, endpoint_id="nowhere", function_id=function)
    with pytest.raises(errors.InvalidUUID):
        client.run(1, endpoint_id=ENDPOINT, function_id="nonsense")
    assert client.get_result(client.run(1, endpoint_id="local", function_id=function)) == 2


def test_missing_arguments(client: FuncXClient, function: str) -> None:
    with pytest.raises(AssertionError, match="endpoint_id key-word argument must be set"):
        client.run(1, function_id=function)
    with pytest.raises(AssertionError, match="function_id key-word argument must be set"):
        client.run(1, endpoint_id=ENDPOINT)
    with pytest.raises(AssertionError, match="expects a list of task ids"):
        client.get_batch_result(str(uuid.uuid4()))
    with pytest.raises(AssertionError, match="Requires a Batch object"):
        client.batch_run([1])
    with pytest.raises(AssertionError, match="Requires a non-empty batch"):
        client.batch_run(client.create_batch())


def test_too_large(forwarder: FakeForwarder, client: FuncXClient, function: str) -> None:
    client.max_payload = 100
    with pytest.raises(errors.MaxRequestSizeExceeded, match="max_payload"):
        client.run("x" * 100, endpoint_id=ENDPOINT, function_id=function)


def test_batches_in_three_forms(client: FuncXClient, function: str) -> None:
    batch = client.create_batch()
    for x in range(10):
        batch.add(x, endpoint_id=ENDPOINT, function_id=function)
    batch.add(function, ENDPOINT, args=(10,), kwargs={"plus": 1})
    batch.add(function, ENDPOINT, [11])
    tasks = client.batch_run(batch)
    assert len(tasks) == 12
    client.wait(tasks, timeout=10)
    found = client.get_batch_result(tasks)
    assert list(found) == tasks
    assert [told["result"] for told in found.values()] == [*range(0, 20, 2), 21, 22]
    newer = client.create_batch()
    newer.add(function, args=(1,))
    newer.add(function, (2,), {"plus": 5})
    answer = client.batch_run(ENDPOINT, newer)
    assert answer["endpoint_id"] == ENDPOINT
    assert list(answer["tasks"]) == [function]
    assert [client.get_result(task) for task in answer["tasks"][function]] == [2, 9]
    with pytest.raises(errors.MissingArgument, match="endpoint_id"):
        client.batch_run(newer)


def test_a_batch_of_several_functions_keeps_its_order(
    client: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    other = client.register_function(failing)
    batch = client.create_batch()
    for x in range(6):
        if x % 2:
            batch.add(x, endpoint_id=ENDPOINT, function_id=function)
        else:
            batch.add(endpoint_id="local", function_id=other)
    found = client.get_batch_result(client.batch_run(batch), timeout=10)
    assert [told["status"] for told in found.values()] == ["failed", "success"] * 3


def test_large_batches(client: FuncXClient, function: str, forwarder: FakeForwarder) -> None:
    batch = client.create_batch()
    for x in range(2500):
        batch.add(x, endpoint_id=ENDPOINT, function_id=function)
    tasks = client.batch_run(batch)
    assert len(set(tasks)) == 2500
    done, rest = client.wait(tasks, timeout=20)
    assert (len(done), rest) == (2500, [])
    assert sum(t["result"] for t in client.get_batch_result(tasks).values()) == 2500 * 2499


def test_a_refused_batch_leaves_nothing(
    client: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    batch = client.create_batch()
    batch.add(1, endpoint_id="nowhere", function_id=function)
    with pytest.raises(errors.EndpointNotFound):
        client.batch_run(batch)
    assert not any(forwarder.service.tasks.values())


def test_map_run(client: FuncXClient, function: str) -> None:
    tasks = client.map_run(range(5), endpoint_id=ENDPOINT, function_id=function, plus=1)
    assert [client.get_result(task) for task in tasks] == [1, 3, 5, 7, 9]
    assert client.map_run([], endpoint_id=ENDPOINT, function_id=function) == []


def test_a_keyword_may_be_named_self(client: FuncXClient, forwarder: FakeForwarder) -> None:
    def name_of(**given: str) -> str:
        return given["self"]

    forwarder.service.teach(name_of)
    function = client.register_function(name_of)
    batch = client.create_batch()
    batch.add(self="a", endpoint_id="local", function_id=function)
    assert client.get_result(client.batch_run(batch)[0]) == "a"
    assert client.get_result(client.run(self="b", endpoint_id="local", function_id=function)) == "b"


def test_wait_and_as_completed(
    client: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    tasks = client.map_run(range(5), endpoint_id=ENDPOINT, function_id=function)
    assert client.wait(tasks, timeout=0.01) == ([], tasks)
    with pytest.raises(cf.TimeoutError):
        list(client.as_completed(tasks, timeout=0.01))
    forwarder.do(lambda: forwarder.service.run_held(2))
    done, rest = client.wait(tasks, timeout=10, return_when=cf.FIRST_COMPLETED)
    assert (done, rest) == (tasks[:2], tasks[2:])
    timer = threading.Timer(0.1, lambda: forwarder.do(forwarder.service.run_held))
    timer.start()
    assert set(client.as_completed(tasks, timeout=10)) == set(tasks)
    with pytest.raises(ValueError, match="SOMETIMES"):
        client.wait(tasks, return_when="SOMETIMES")


def test_cancel(client: FuncXClient, function: str, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    tasks = client.map_run(range(3), endpoint_id=ENDPOINT, function_id=function)
    assert client.cancel(tasks[0]) is True
    with pytest.raises(cf.CancelledError):
        client.get_result(tasks[0])
    assert client.get_task(tasks[0])["status"] == "cancelled"
    forwarder.do(forwarder.service.start)
    assert client.cancel(tasks[1]) is False
    assert client.cancel(tasks, interrupt=True) == dict.fromkeys(tasks, True)


def test_cancel_by_group(client: FuncXClient, function: str, forwarder: FakeForwarder) -> None:
    forwarder.service.hold = True
    assert client.cancel(task_group_id=client.session_task_group_id) == {}  # nothing yet
    single = client.run(0, endpoint_id=ENDPOINT, function_id=function)
    batch = client.create_batch(task_group_id=str(uuid.uuid4()).upper())
    batch.add(1, endpoint_id=ENDPOINT, function_id=function)
    (task,) = client.batch_run(batch)
    for nobodys in (ids.new_id(), "nonsense"):
        with pytest.raises(errors.TaskGroupNotFound, match=f"{nobodys}.* while its home"):
            client.cancel([single], task_group_id=nobodys)
    assert client.get_task(single)["pending"]
    assert client.cancel(task_group_id=uuid.UUID(batch.task_group_id)) == {task: True}
    # Both are named: both are cancelled.
    assert client.cancel(single, task_group_id=batch.task_group_id) == {single: True, task: True}
    for nothing in ({}, {"task_group_id": ""}, {"task_group_id": None}):
        with pytest.raises(errors.UsageError, match="neither tasks nor a group"):
            client.cancel(**nothing)


@pytest.mark.parametrize(
    "unknown", ["5a4e0000-0000-4000-8000-00000000000a", "5a4e0000-0000-8000-8000-00000000000a"]
)
def test_a_task_that_nobody_knows(client: FuncXClient, function: str, unknown: str) -> None:
    """The same, whether its id might have been one or not."""
    for ask in (client.get_task, client.get_result):
        with pytest.raises(errors.TaskNotFound, match=unknown):
            ask(unknown)
    assert client.cancel(unknown) is False
    assert client.cancel([unknown]) == {unknown: False}
    assert client.get_batch_result([unknown])[unknown]["status"] == "unknown"
    assert client.wait([unknown]) == ([unknown], [])


def test_ctrl_c_ends_what_was_waited_for(
    client: FuncXClient,
    function: str,
    forwarder: FakeForwarder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forwarder.service.hold = True
    task = client.run(1, endpoint_id=ENDPOINT, function_id=function)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(client._results, "state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.get_result(task)
    eventually(lambda: any(isinstance(m, service.CancelTasks) for m in forwarder.service.seen))
    cancel = next(m for m in forwarder.service.seen if isinstance(m, service.CancelTasks))
    assert cancel.interrupt


def test_search_and_status(client: FuncXClient, function: str) -> None:
    found = client.search_function("double", offset=0, limit=5)
    assert found[0]["function_uuid"] == function
    assert found[0]["description"] == "twice"
    assert "def double" in found[0]["function_source"]
    assert (found.total, found.offset, found.has_next_page) == (1, 0, False)
    status = client.get_endpoint_status(ENDPOINT)
    assert status["status"] == "online"
    for entry in (status["logs"][0], status["logs"][0]["info"], status["details"]):
        assert entry["total_workers"] == 2
        assert entry["outstanding_tasks"] == 4
        assert entry["outstanding_tasks_by_type"] == {"RAW": 4}


def test_what_funcx_needed_to_log_in_is_ignored(
    forwarder: FakeForwarder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="fxhpc")
    with FuncXClient(embedded=True, force_login=True, funcx_service_address="x") as client:
        client.throttling_enabled = False
        client.version_check()
        client.logout()
        assert str(uuid.UUID(client.session_task_group_id))
    assert "force_login" in caplog.text


@pytest.mark.parametrize(
    ("make", "option", "meant"),
    [
        (FuncXClient, "retry", "retries"),
        (FuncXClient, "max_workers", "workers"),
        (FuncXClient, "nonsense", ""),
        (Executor, "endpoint", "endpoint_id"),
        (Batch, "task_group", "task_group_id"),
    ],
)
def test_a_keyword_that_is_no_option_is_refused(
    forwarder: FakeForwarder, make: Any, option: str, meant: str
) -> None:
    with pytest.raises(errors.UnknownOption, match=f"has no option '{option}'") as raised:
        make(**{option: 0})
    assert isinstance(raised.value, TypeError)
    assert raised.value.meant == meant
    assert (f"did you mean '{meant}'?" in str(raised.value)) == bool(meant)


def test_a_misspelt_key_makes_no_batch(client: FuncXClient) -> None:
    with pytest.raises(errors.UnknownOption, match="did you mean 'idempotency_key'"):
        client.create_batch(idempotencykey="tonight")
    assert len(client.create_batch(create_websocket_queue=True)) == 0


def test_options_of_globus_computes_executor_are_ignored(forwarder: FakeForwarder) -> None:
    with Executor(1, amqp_port=443, api_burst_limit=4):
        pass
    with (
        FuncXClient(embedded=True) as client,
        pytest.raises(errors.UsageError, match="a client is given as client="),
    ):
        Executor(client)  # type: ignore[arg-type]


def test_older_work_is_told_in_one_line(
    forwarder: FakeForwarder, capsys: pytest.CaptureFixture[str]
) -> None:
    forwarder.service.older = 1234
    with FuncXClient(embedded=True) as client:
        client.resume()
    assert capsys.readouterr().err.count("1,234 older tasks of `local` endpoints") == 1


def test_a_single_older_task_is_told_as_one(
    forwarder: FakeForwarder, capsys: pytest.CaptureFixture[str]
) -> None:
    forwarder.service.older = 1
    with FuncXClient(embedded=True):
        pass
    said = capsys.readouterr().err
    assert "1 older task of a `local` endpoint that is gone waits in" in said
    assert "resume() runs it here." in said


@pytest.mark.parametrize(
    ("version", "advice"),
    [("999.0.0", "a program takes it up when it is started again"), ("0.0.9", "fxhpc forwarder")],
)
def test_the_older_of_two_versions_is_told_to_be_replaced(
    version: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    attachments._tell_notices(service.Attached(1, version, 1, ""))
    assert advice in capsys.readouterr().err


def test_after_close(client: FuncXClient, function: str) -> None:
    client.close()
    with pytest.raises(errors.ForwarderError, match="closed"):
        client.run(1, endpoint_id=ENDPOINT, function_id=function)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": "2"},
        {"workers": 0},
        {"wait": "x"},
        {"max_payload": "5MB"},
        {"on_exceed": "maybe"},
        {"retries": -1},
    ],
)
def test_an_option_that_is_no_number_is_refused_by_its_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}="):
        FuncXClient(embedded=True, **options)


def test_a_wrong_number_of_workers_in_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FXHPC_WORKERS", "abc")
    with pytest.raises(ValueError, match="FXHPC_WORKERS is 'abc'"):
        FuncXClient(embedded=True)


def test_one_id_is_no_list_of_ids(client: FuncXClient) -> None:
    for call in (client.wait, client.as_completed, client.get_batch_result):
        for nonsense in ("110ba79e-1cc1-8c40-aaa8-359bb04f4afb", 5, None):
            with pytest.raises(errors.NotAList, match=call.__name__):
                list(call(nonsense))  # type: ignore[operator]
    with pytest.raises(errors.NotAList, match="cancel expects a list"):
        client.cancel(5)  # type: ignore[arg-type]

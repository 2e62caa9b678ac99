"""Errors: they pickle whatever their constructors take, and say what funcX said and what to do."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
import signal
from concurrent.futures import CancelledError
from typing import Any

import pytest

from fxhpc import errors
from fxhpc.errors import refusals

ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "MissingArgument": (("endpoint_id",), {}),
    "MaxRequestSizeExceeded": ((11, 10), {"what": "arguments of f"}),
    "PayloadTooLarge": ((11, 10, "function f"), {"option": "max_function"}),
    "MaxResultSizeExceeded": ((11, 10), {"what": "of task 1"}),
    "TaskPending": (("waiting-for-ep",), {}),
    "TaskExecutionFailed": (("Traceback ...\nValueError: 1",), {"completion_t": "1.5"}),
    "TaskInterrupted": (("Traceback ...",), {}),
    "SerializationError": (("Result Object Deserialization",), {}),
    "SpilledResultLost": (("0000-1", "/home/a b/f", "cannot be read"), {}),
    "FuncXUnreachable": (("ipc:///tmp/x",), {"detail": "refused"}),
    "ForwarderUnreachable": (("ipc:///tmp/x",), {}),
    "FunctionNotPermitted": (("f", "e"), {}),
    "EndpointStatsError": (("e", "away"), {}),
    "UserCancelledException": ((), {}),
    "EmptyBatch": ((), {}),
    "UserUnauthenticated": ((), {}),
    "InitializerFailed": (("load", "ValueError: no", "node7", 4711), {}),
    "UnknownOption": (("FuncXClient", "retry", "retries"), {}),
    "WalltimeTooLong": (("midway", 7200.0, 3600.0), {}),
    "ResourcesTooLarge": (("midway", "6 cores", "4 cores"), {}),
}
LOSS = {
    "task_id": "0000-1",
    "host": "node7",
    "pid": 4711,
    "signal": int(signal.SIGKILL),
    "exit_code": 3,
    "peak_memory": 3 * 2**30,
    "stderr": "Killed\n",
    "attempts": ["On node1 its worker died."],
    "ran_s": 3300.0,
    "block_s": 3600.0,
}


def make(name: str) -> errors.FxhpcError:
    cls = errors._BY_NAME[name]
    if issubclass(cls, errors.TaskLost):
        return cls("it is gone", **LOSS)
    args, kwargs = ARGUMENTS.get(name, (("because",), {}))
    return cls(*args, **kwargs)


@pytest.mark.parametrize("name", sorted(errors._BY_NAME))
def test_every_error_pickles_with_its_text_and_attributes(name: str) -> None:
    error = make(name)
    error.note = "kept"  # type: ignore[attr-defined]
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in (2, 3, 4, 5)]
    for again in [*copies, copy.copy(error), copy.deepcopy(error)]:
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert again.__dict__ == error.__dict__
    assert str(error)


@pytest.mark.parametrize("name", sorted(errors._BY_NAME))
def test_error_named_rebuilds_from_strings(name: str) -> None:
    args, _ = ARGUMENTS.get(name, (("because",), {}))
    again = errors.error_named(name, [str(arg) for arg in args])
    assert type(again) is errors._BY_NAME[name]


def test_error_named_knows_only_its_own() -> None:
    for name, arguments in (("os.system", ["x"]), ("ValueError", ["x"]), ("MissingArgument", [])):
        again = errors.error_named(name, arguments)
        assert type(again) is errors.FxhpcError
        assert name in str(again)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.MissingArgument("endpoint_id"), "endpoint_id key-word argument must be set"),
        (errors.MissingArgument("function_id"), "function_id key-word argument must be set"),
        (errors.NotAList("str"), "get_batch_result expects a list of task ids"),
        (errors.NotABatch("list"), "Requires a Batch object as input"),
        (errors.EmptyBatch(), "Requires a non-empty batch"),
    ],
)
def test_wrong_calls_are_assertion_and_value_errors(error: Exception, text: str) -> None:
    assert text in str(error)
    assert isinstance(error, AssertionError)
    assert isinstance(error, ValueError)
    assert isinstance(error, errors.FxhpcError)


def test_texts_of_funcx() -> None:
    assert "Task is pending due to waiting-for-ep" in str(errors.TaskPending("waiting-for-ep"))
    assert errors.TaskPending("waiting-for-ep").reason == "waiting-for-ep"
    result = errors.MaxResultSizeExceeded(12, 10)
    assert "Task result of 12B exceeded current limit of 10B" in str(result)
    assert (result.result_size, result.result_size_limit) == (12, 10)
    request = errors.MaxRequestSizeExceeded(5242881, 5242880)
    assert "5,242,881 bytes" in str(request)
    assert "exceeded limit of 5,242,880" in str(request)
    assert "`max_payload`" in str(request)
    assert "Serialization Error during: x" in str(errors.SerializationError("x"))
    assert str(errors.TaskExecutionFailed("text", "1.0")) == "text"
    for cls, text in (
        (errors.FunctionNotFound, "Function u could not be resolved"),
        (errors.EndpointNotFound, "Endpoint u could not be resolved"),
        (errors.TaskNotFound, "Task u not found"),
    ):
        error = cls("u")
        assert text in str(error)
        assert (error.uuid, error.http_status_code, error.http_status) == ("u", 404, 404)


def test_response_errors_pack_and_unpack() -> None:
    error = errors.FunctionNotPermitted("f", "e")
    again = errors.FuncxResponseError.unpack(error.pack())
    assert type(again) is errors.FunctionNotPermitted
    assert str(again) == str(error)
    assert errors.FuncxResponseError.unpack({"status": "Success"}) is None
    unknown = errors.FuncxResponseError.unpack({"status": "Failed", "code": 999, "reason": "x"})
    assert isinstance(unknown, errors.FailureResponse)
    codes = [cls.code for cls in refusals._BY_CODE.values()]
    assert sorted(codes) == list(range(1, 23))


def test_a_loss_tells_everything() -> None:
    text = str(errors.lost("WORKER_KILLED", "the worker died", **LOSS))
    for fact in ("0000-1", "node7", "4711", "SIGKILL", "3.0 GB", "Killed", "On node1", "What to"):
        assert fact in text
    assert type(errors.lost("WORKER_EXITED", exit_code=3)) is errors.TaskExited
    exited = errors.TaskExited("it called sys.exit", exit_code=3)
    assert exited.code == 3
    assert "exit code 3" in str(exited)
    assert type(errors.lost("UNDELIVERED")) is errors.TaskLost
    assert errors.signal_name(200) == "200"


def test_who_is_to_be_asked_about_a_lost_manager_depends_on_what_it_was() -> None:
    ran = "the task ran on n7 when its manager m"
    assert "batch system" in str(errors.ManagerLost(f"{ran} in block 3, job 9 was lost: gone"))
    assert "batch system" not in str(errors.ManagerLost(f"{ran} was lost: gone"))
    assert "batch system" not in str(errors.ManagerLost(f"{ran} was lost: gone", alone=2))
    seed = errors.ManagerLost("worker 1 was ended: the process that starts workers died")
    assert "see what ended the process that starts workers (" in str(seed)


def test_a_task_is_not_blamed_for_one_manager_that_was_lost_with_it() -> None:
    lost = "the task ran on n7 when its manager m was lost: gone"
    once = str(errors.lost("MANAGER_LOST", lost, alone=1, retries=0))
    assert "it ran alone" not in once
    assert "retries=0, so it was not run again, though it may have done some of its" in once
    again = str(errors.lost("MANAGER_LOST", lost, alone=1, retries=1, attempts=["lost as well"]))
    assert "it ran alone once, and then" in again
    assert "retries=0" not in again
    assert "it ran alone twice" in str(errors.lost("MANAGER_LOST", lost, alone=2, retries=1))


@pytest.mark.parametrize("cause", ["WORKER_EXITED", "TASK_WALLTIME", "TASK_MEMORY", "UNDELIVERED"])
def test_what_would_not_run_again_anyway_is_not_said_to_lack_retries(cause: str) -> None:
    assert "retries=0" not in str(errors.lost(cause, "it was lost", retries=0))


def test_a_task_over_its_memory_says_what_it_used_and_what_its_limit_was() -> None:
    text = "it used 2.3 GB, its limit is 2.0 GB (resource_specification memory)"
    error = errors.lost("TASK_MEMORY", text, host="node7", peak_memory=23, limit_bytes=20)
    assert isinstance(error, errors.TaskMemoryExceeded)
    assert (error.used, error.limit) == (23, 20)
    for fact in ("used 2.3 GB", "its limit is 2.0 GB", "on node7", "declare more"):
        assert fact in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.used, again.limit, str(again)) == (23, 20, str(error))


def test_what_was_interrupted_says_what_to_do_now() -> None:
    stopped = errors.lost("INTERRUPTED", "the endpoint was stopped by its user", retries=0)
    assert "start the endpoint again (fxhpc endpoint start NAME)" in str(stopped)
    cancelled = errors.lost("INTERRUPTED", "its block was cancelled", retries=0)
    assert "endpoint start" not in str(cancelled)
    assert "then submit it again" in str(cancelled)


def test_a_loss_of_a_map_names_its_elements() -> None:
    died = errors.lost("WORKER_KILLED", "the worker died", **LOSS)
    chunk = died.of_map(40, 10)
    assert type(chunk) is errors.WorkerDied
    assert chunk.elements == (40, 10)
    assert "elements 40 to 49 of the map, counted from 0" in str(chunk)
    assert "with chunksize=1: if it was one of them, you see which" in str(chunk)
    cut_off = errors.lost("WALLTIME", "its block ended").of_map(40, 10)
    assert "map these 10 elements again in smaller chunks (chunksize=)" in str(cut_off)
    assert "chunksize" not in str(errors.lost("WORKER_UNSTARTABLE").of_map(40, 10))
    one = chunk.of_map(45)
    assert "It had element 45 of the map" in str(one)
    assert "chunk" not in str(one)
    assert str(pickle.loads(pickle.dumps(one))) == str(one)
    assert "map" not in str(died)


def test_errors_say_where_and_what_to_do() -> None:
    assert "It is task 0000-1. Ask again" in str(errors.TaskPending("x", "0000-1"))
    killed = str(errors.WorkerDied(signal=9))
    assert "Executor(max_workers=N)" in killed
    assert "max_workers_per_node" in killed
    gone = str(errors.ManagerLost("the process whose `local` endpoint ran it has ended"))
    assert "a process that lives until it has ended" in gone
    assert "of the FuncXClient or Executor" in str(errors.PayloadTooLarge(2, 1))
    assert "on_exceed='spill'" in str(errors.PayloadTooLarge(2, 1))
    assert "spill" not in str(errors.PayloadTooLarge(2, 1, option="max_function"))
    assert "on_exceed='spill'" in str(errors.MaxResultSizeExceeded(2, 1))
    assert "spill" not in str(errors.MaxResultSizeExceeded(2, 1, "no file can be written"))
    assert "/h/forwarder.log says more" in str(errors.ForwarderUnreachable("/h", "it died"))


def test_cancelled_is_what_futures_raise() -> None:
    assert issubclass(errors.TaskCancelled, CancelledError)


def test_a_remote_traceback_shows_its_text() -> None:
    cause = errors.RemoteTraceback("Traceback: x\n")
    assert str(cause) == '\n"""\nTraceback: x\n"""'
    assert str(pickle.loads(pickle.dumps(cause))) == str(cause)


def test_errors_are_known_by_their_public_name_wherever_they_stand() -> None:
    modules = [info.name for info in pkgutil.iter_modules(errors.__path__)]
    for module in modules:
        for name, cls in vars(importlib.import_module(f"fxhpc.errors.{module}")).items():
            if isinstance(cls, type) and issubclass(cls, errors.FxhpcError) and name != "Told":
                assert getattr(errors, name) is cls
                assert name in errors.__all__
                assert cls.__module__ == "fxhpc.errors"
    assert errors.RemoteTraceback.__module__ == "fxhpc.errors"
    pickled = b"".join(pickle.dumps(make(name), 0) for name in errors._BY_NAME)
    assert not any(f"fxhpc.errors.{module}".encode() in pickled for module in modules)


def test_errors_that_were_stored_when_all_stood_in_one_module_are_read() -> None:
    stored = (
        b"cfxhpc.errors\n_make_again\np0\n(cfxhpc.errors\nTaskPending\np1\n(Vx\np2\ntp3\n(dp4\n"
        b"tp5\nRp6\n(dp7\nVreason\np8\ng2\nsb."
    )
    error = pickle.loads(stored)
    assert type(error) is errors.TaskPending
    assert error.reason == "x"

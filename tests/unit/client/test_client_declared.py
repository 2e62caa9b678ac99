"""What is declared of tasks: how long they take, what is kept of what they print."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fake_forwarder import FakeForwarder

from fxhpc import Executor, FuncXClient, errors
from fxhpc.client.declared.resources import MAX_CAPTURE_BYTES, capture_bytes
from fxhpc.client.shown.details import output_in
from fxhpc.client.shown.output import printed_in
from fxhpc.protocol import service
from fxhpc.protocol.outcome import Output

LOCAL = "4b116d3c-1703-4f8f-9f6f-39921e5864df"


def square(x: int) -> int:
    return x * x


@pytest.fixture(autouse=True)
def _known(forwarder: FakeForwarder) -> None:
    forwarder.service.teach(square)


def infos(forwarder: FakeForwarder) -> list[tuple[float, int]]:
    """Duration and capture of each task, in the order in which they came."""
    known = forwarder.service.tasks.values()
    return [(task.info.walltime_s, task.info.capture) for tasks in known for task in tasks.values()]


def test_how_much_is_kept() -> None:
    given = (None, False, True, 0, 10, MAX_CAPTURE_BYTES)
    assert [*map(capture_bytes, given)] == [0, 0, 64 * 1024, 0, 10, MAX_CAPTURE_BYTES]
    for wrong in (-1, MAX_CAPTURE_BYTES + 1, 1.5, "64K"):
        with pytest.raises(errors.UsageError, match="capture_output is"):
            capture_bytes(wrong)  # type: ignore[arg-type]


def test_an_executor_takes_what_was_set_when_submit_was_called(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    futures = [executor.submit(square, 1)]
    for n in (2, 3):  # as Parsl's adapter does it for each task
        executor.resource_specification = {"walltime": "2m"}
        try:
            futures.append(executor.submit(square, n))
        finally:
            executor.resource_specification = None
    executor.capture_output = True
    futures.append(executor.submit(square, 4))
    assert executor.capture_output == 64 * 1024
    assert [future.result(10) for future in futures] == [1, 4, 9, 16]
    # Three streams: what is declared again goes into the stream that there is.
    assert infos(forwarder) == [(0, 0), (120, 0), (120, 0), (0, 64 * 1024)]
    assert len(forwarder.service.tasks) == 3


def test_what_is_wrong_is_told_where_it_is_set(forwarder: FakeForwarder) -> None:
    with pytest.raises(errors.UsageError):
        Executor(2, resource_specification={"walltime": "x"})
    with Executor(2, resource_specification={"walltime": 5}) as executor:
        with pytest.raises(errors.UsageError):
            executor.resource_specification = {"walltime": -1}
        assert executor.resource_specification == {"walltime": 5}
        assert list(executor.map(square, [1, 2])) == [1, 4]
    assert infos(forwarder) == [(5, 0), (5, 0)]


def test_a_client_and_its_batches(client: FuncXClient, forwarder: FakeForwarder) -> None:
    function = client.register_function(square)
    client.run(1, endpoint_id="local", function_id=function)
    client.resource_specification = {"walltime": "1h"}
    client.capture_output = 100
    client.run(2, endpoint_id="local", function_id=function)
    client.run(3, endpoint_id="local", function_id=function)
    client.map_run([4], endpoint_id="local", function_id=function)
    for batch in (
        client.create_batch(),
        client.create_batch(resource_specification={"walltime": 1}, capture_output=False),
    ):
        batch.add(5, endpoint_id="local", function_id=function)
        client.batch_run(batch)
    assert infos(forwarder) == [(0, 0), *([(3600, 100)] * 4), (1, 0)]
    assert len(forwarder.service.tasks) == 5


def test_too_long_for_any_block(executor: Executor, forwarder: FakeForwarder) -> None:
    failed = service.Failed(0, "WalltimeTooLong", ["midway", "7200.0", "3600.0"])

    def refuse(peer: Any, message: Any) -> None:
        peer(msgspec.structs.replace(failed, call=message.call))

    forwarder.service.submit = refuse  # type: ignore[method-assign]
    executor.resource_specification = {"walltime": "2h"}
    with pytest.raises(errors.WalltimeTooLong, match=r"2 h.*midway.*1 h.*Nothing was") as raised:
        executor.submit(square, 1).result(10)
    assert (raised.value.walltime_s, raised.value.longest_s) == (7200, 3600)


def test_what_a_task_printed(
    client: FuncXClient, executor: Executor, forwarder: FakeForwarder
) -> None:
    printed = msgspec.msgpack.encode(Output("où\n".encode(), b"", 4, 0))
    with _printing(forwarder, printed):
        future = executor.submit(square, 3)
        assert future.result(10) == 9
        function = client.register_function(square)
        task = client.run(2, endpoint_id="local", function_id=function)
    assert (future.stdout, future.stderr) == ("où\n", "")  # type: ignore[attr-defined]
    assert future.output["stdout_bytes"] == 4  # type: ignore[attr-defined]
    details = client.get_task(task)["details"]
    assert (details["stdout"], details["stderr"], details["stdout_bytes"]) == ("où\n", "", 4)
    silent = executor.submit(square, 3)
    assert silent.result(10) == 9
    assert (silent.stdout, silent.output) == ("", {})  # type: ignore[attr-defined]


@contextlib.contextmanager
def _printing(forwarder: FakeForwarder, printed: bytes) -> Iterator[None]:
    run = forwarder.service.run

    def run_and_print(tasks: Any) -> None:
        push = forwarder.service.push

        def push_with_output(ended: Any) -> None:
            for task in ended:
                task.outcome.output = printed
            push(ended)

        forwarder.service.push = push_with_output  # type: ignore[method-assign]
        try:
            run(tasks)
        finally:
            forwarder.service.push = push  # type: ignore[method-assign]

    forwarder.service.run = run_and_print  # type: ignore[method-assign]
    yield
    forwarder.service.run = run  # type: ignore[method-assign]


def test_text_that_was_cut_is_not_cut_inside_a_character() -> None:
    whole = "aéz".encode()
    for begin, text in ((0, "aéz"), (1, "éz"), (2, "z"), (3, "z")):
        packed = msgspec.msgpack.encode(Output(whole[begin:], b"", len(whole), 0))
        assert printed_in(output_in(packed))["stdout"] == text
    assert printed_in(Output(b"\xff\x80a", b"", 3, 0))["stdout"] == "��a"
    assert printed_in(output_in(b"")) == printed_in(output_in(b"nonsense")) == {}


def test_lists_of_tasks(client: FuncXClient, forwarder: FakeForwarder) -> None:
    function = client.register_function(square)
    done = client.map_run([1, 2], endpoint_id="local", function_id=function)
    forwarder.do(lambda: setattr(forwarder.service, "hold", True))
    held = client.run(3, endpoint_id="local", function_id=function)
    found = client.tasks()
    assert {task["task_id"] for task in found} == {*done, held}
    (waiting,) = client.tasks(endpoint="local", state="pending")
    assert waiting["task_id"] == held
    assert waiting["pending"] is True
    assert (waiting["function_name"], waiting["endpoint_id"]) == ("square", LOCAL)
    assert [task["status"] for task in client.tasks(state=["success", "failed"])] == ["success"] * 2
    assert len(client.tasks(limit=1)) == 1
    with pytest.raises(errors.UsageError, match=r"no state 'done'.*waiting-for-ep"):
        client.tasks(state="done")
    with pytest.raises(errors.EndpointNotFound):
        client.tasks(endpoint="midway")

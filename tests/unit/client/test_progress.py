"""fxhpc.progress: what its line says, where it is shown and how often, and for what tasks."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import io
from collections.abc import Mapping
from typing import Any

import pytest
from fake_forwarder import FakeForwarder

import fxhpc
from fxhpc import Executor, FuncXClient, errors
from fxhpc.client.shown import progress as showing
from fxhpc.client.shown import progress_lines as lines
from fxhpc.testing.clock import FakeClock
from tests.waiting import eventually

WHERE = {"endpoint_id": "local"}


def double(x: int) -> int:
    if x < 0:
        raise ValueError("a negative one")
    return 2 * x


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Tasks:
    """So many of a hundred end in a second, on a fake clock."""

    def __init__(self, clock: FakeClock, each_s: float) -> None:
        self._clock = clock
        self._begun = clock()
        self._each_s = each_s
        self.waits: list[float] = []

    def look(self, wait_s: float) -> Mapping[str, int]:
        self.waits.append(wait_s)
        self._clock.advance(wait_s)
        ended = min(100, int((self._clock() - self._begun) / self._each_s))
        return {"success": ended, lines.PENDING: 100 - ended}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


# --- the line -----------------------------------------------------------------------------------


def test_what_the_line_says() -> None:
    counts = {"success": 1200, "failed": 3, "cancelled": 1, "unknown": 1, "running": 2}
    counts |= {"pending": 3}
    assert lines.line(counts, 3700, 0.25, "sweep") == (
        "sweep: 1,205 of 1,210 ended (99 %), 3 failed, 1 cancelled, 1 not known here, 2 running; "
        "1:01:40, 0.25/s, about 0:20 left"
    )
    assert lines.line({}, 0, 0) == "0 of 0 ended; 0:00"
    assert lines.line({"success": 2}, 1, 2000) == "2 of 2 ended (100 %); 0:01, 2,000/s"


def test_a_label_commands_no_terminal() -> None:
    assert "\x1b" not in lines.line({"pending": 1}, 0, 0, "\x1b]0;title\x07\n")


def test_the_speed_is_that_of_the_last_minute() -> None:
    speed = lines.Speed()
    assert speed.lately == 0
    speed.note(0.0, 0)
    assert speed.lately == 0
    for second in range(1, 11):
        speed.note(float(second), 100 * second)
    assert speed.lately == 100
    for second in range(11, 200):
        speed.note(float(second), 1000)
    assert (speed.lately, speed.mean) == (0, 1000 / 199)


# --- where it is shown --------------------------------------------------------------------------


def test_a_log_has_a_line_every_30_seconds(clock: FakeClock) -> None:
    file = io.StringIO()
    tasks = Tasks(clock, 1.0)
    assert showing.watch(tasks, lines.Log(file), now=clock) == {"success": 100}
    assert file.getvalue().splitlines() == [
        "fxhpc: 0 of 100 ended (0 %); 0:00",
        "fxhpc: 30 of 100 ended (30 %); 0:30, 1/s, about 1:10 left",
        "fxhpc: 60 of 100 ended (60 %); 1:00, 1/s, about 0:40 left",
        "fxhpc: 90 of 100 ended (90 %); 1:30, 1/s, about 0:10 left",
        "fxhpc: 100 of 100 ended (100 %); 2:00, 0.83/s",
    ]
    assert tasks.waits == [0, 30, 30, 30, 30]


def test_a_terminal_has_one_line(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    file = Tty()
    showing.watch(Tasks(clock, 0.002), lines.Terminal(file), "x" * 40, now=clock)
    assert file.getvalue() == 2 * ("\r" + "x" * 26 + "...") + "\n"


def test_a_shorter_line_leaves_nothing_of_a_longer_one() -> None:
    file = Tty()
    terminal = lines.Terminal(file)
    terminal.show("a long one", 0.0)
    terminal.show("short", 0.5)
    assert file.getvalue() == "\ra long one\rshort     "


def test_a_notebook_has_one_output_that_is_replaced(clock: FakeClock) -> None:
    shown: list[tuple[str, dict[str, str]]] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.append(("update", data))

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        shown.append(("display", data))
        return Handle()

    showing.watch(Tasks(clock, 0.005), lines.Notebook(display), "<b>", now=clock)
    assert [how for how, _ in shown] == ["display", "update"]
    data = shown[-1][1]
    assert data["text/plain"] == "<b>: 100 of 100 ended (100 %); 0:00, 200/s"
    assert 'value="1.0000"' in data["text/html"]
    assert "&lt;b&gt;" in data["text/html"]


def test_where_nobody_reads_it_the_wait_goes_on(clock: FakeClock) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert showing.watch(Tasks(clock, 1.0), lines.Log(Closed()), now=clock)["success"] == 100


def test_a_label_that_a_terminal_has_no_letters_for(clock: FakeClock) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    showing.watch(Tasks(clock, 0.001), lines.Log(file), "ü", now=clock)
    assert file.buffer.getvalue().startswith(b"fxhpc: \\xfc: 0 of 100")  # type: ignore[attr-defined]


def test_ctrl_c_says_where_it_is(clock: FakeClock) -> None:
    class Interrupted(Tasks):
        def look(self, wait_s: float) -> Mapping[str, int]:
            if self._clock() - self._begun > 50:
                raise KeyboardInterrupt
            return super().look(wait_s)

    file = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        showing.watch(Interrupted(clock, 1.0), lines.Log(file), now=clock)
    assert file.getvalue().endswith("about 0:40 left (looked at no more; the tasks go on)\n")


def test_where_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(showing._display(Tty()), lines.Terminal)
    assert isinstance(showing._display(io.StringIO()), lines.Log)
    monkeypatch.setattr("sys.stderr", None)
    assert isinstance(showing._display(None), lines.Nothing)


# --- for what -----------------------------------------------------------------------------------


@pytest.fixture
def function(client: FuncXClient, forwarder: FakeForwarder) -> str:
    forwarder.service.teach(double)
    return client.register_function(double)


def seen(tasks: Any, **options: Any) -> dict[str, int]:
    return fxhpc.progress(tasks, file=io.StringIO(), **options)


def test_futures(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.teach(double)
    futures: list[Any] = [executor.submit(double, number) for number in (1, -1, 2)]
    futures += executor.map(double, [0, 1, -2, 3], chunksize=2).futures
    assert seen(futures) == {"success": 5, "failed": 2}
    assert seen(futures) == {"success": 5, "failed": 2}  # that have ended
    assert futures[0]._result.__class__.__name__ == "Outcome"  # nobody has unpacked it
    assert seen(futures[1]) == {"failed": 1}


def test_futures_that_are_cancelled_and_of_others(
    executor: Executor, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    future = executor.submit(double, 1)
    with cf.ThreadPoolExecutor(1) as threads:
        others = [threads.submit(double, 1), threads.submit(double, -1)]
        assert future.cancel()
        assert seen([future, *others]) == {"success": 1, "failed": 1, "cancelled": 1}


def test_ids(client: FuncXClient, function: str) -> None:
    found = client.map_run([1, -1, 2], function_id=function, **WHERE)
    assert seen(found) == {"success": 2, "failed": 1}
    assert seen(list(found)) == {"success": 2, "failed": 1}  # the client is found
    assert seen(found[1], client=client) == {"failed": 1}
    assert seen([], client=client) == {}


def test_ids_that_nobody_knows(client: FuncXClient, function: str) -> None:
    found = client.map_run([1], function_id=function, **WHERE)
    strange = "00000000-0000-8000-8000-000000000000"
    assert seen([*found, strange], client=client) == {"success": 1, "unknown": 1}


def test_ids_end_while_it_looks(
    client: FuncXClient, function: str, forwarder: FakeForwarder
) -> None:
    forwarder.service.hold = True
    found = client.map_run([1, 2, 3], function_id=function, **WHERE)
    file = io.StringIO()
    with cf.ThreadPoolExecutor(1) as threads:
        looking = threads.submit(fxhpc.progress, found, file=file, every_s=0.01)
        eventually(lambda: file.getvalue())
        forwarder.do(lambda: forwarder.service.run_held(1))
        eventually(lambda: "1 of 3 ended" in file.getvalue())
        forwarder.do(forwarder.service.run_held)
        assert looking.result(10) == {"success": 3}


def test_a_group_and_calls_of_chunks(client: FuncXClient, function: str) -> None:
    found = client.map_run(range(5), function_id=function, chunksize=2, **WHERE)
    assert seen(found) == {"success": 5}
    assert seen(client.group()) == {"success": 5}


def test_tasks_of_an_asynchronous_client(client: FuncXClient, function: str) -> None:
    async def main() -> dict[str, int]:
        client.asynchronous = True
        task: Any = client.run(1, function_id=function, **WHERE)
        found = await asyncio.to_thread(seen, [task])
        assert await task == 2
        return found

    assert asyncio.run(main()) == {"success": 1}


def test_what_it_cannot_be_given(client: FuncXClient) -> None:
    with pytest.raises(errors.NotAList, match="progress expects a list of task ids"):
        seen(3)
    with pytest.raises(errors.InvalidUUID):
        seen(["nothing"], client=client)
    with pytest.raises(errors.UsageError, match="futures and ids"):
        seen([cf.Future(), "00000000-0000-8000-8000-000000000000"])
    with pytest.raises(errors.UsageError, match="every_s=0"):
        seen([], client=client, every_s=0)
    with pytest.raises(errors.UsageError, match="client="):
        seen(["00000000-0000-8000-8000-000000000000"], client=3)
    with pytest.raises(errors.UsageError, match="client=3"):
        seen(cf.Future(), client=3)
    with pytest.raises(errors.UsageError, match="take away"):
        seen(client.group().results())
    with pytest.raises(errors.UsageError, match="file='log'"):
        fxhpc.progress([], client=client, file="log")  # type: ignore[arg-type]


def test_a_map_can_still_be_read(executor: Executor, forwarder: FakeForwarder) -> None:
    forwarder.service.teach(double)
    values = executor.map(double, range(5), chunksize=2)
    assert seen(values) == {"success": 5}
    assert list(values) == [0, 2, 4, 6, 8]

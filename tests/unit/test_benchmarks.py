"""The benchmarks: what they name exists, their tables, and one measurement from end to end."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import apart, connections, environments, processes
from benchmarks.floors import FLOORS, against_floors
from benchmarks.report import plain_table, told
from benchmarks.rows import Row, all_rows
from benchmarks.systems import all_systems


@pytest.mark.parametrize("row", all_rows(), ids=lambda row: row.name)
@pytest.mark.parametrize("quick", [False, True], ids=["whole", "quick"])
def test_each_row_has_cases_that_differ(row: Row, quick: bool) -> None:
    cases = list(row.cases([one for one in all_systems() if row.name in one.rows], quick))

    assert cases
    assert len({(case.system, case.label) for case in cases}) == len(cases)
    assert row.title
    assert row.about


def test_a_case_has_the_name_of_what_it_measures() -> None:
    suite = command.Suite(argparse.Namespace(), 1, {"tasks": 1200.0})
    cases = {
        row.name: suite._changed(case)
        for row in all_rows()
        for case in row.cases([one for one in all_systems() if row.name in one.rows], False)
    }
    told = {name: cases[name].label for name in ("reader", "queued", "throughput", "payload")}
    assert told == {"reader": "1,200", "queued": "1,200", "throughput": "", "payload": "10 MB"}
    assert cases["reader"].settings["tasks"] == 1200


def test_systems_are_in_rows_that_exist_and_have_names_of_their_own() -> None:
    rows = {row.name for row in all_rows()}
    systems = all_systems()

    assert len({system.name for system in systems}) == len(systems)
    for system in systems:
        assert rows.issuperset(system.rows)
        assert set(system.rows).issuperset(system.quick_rows or ())
        assert not system.environment or system.environment in environments.REQUIREMENTS


def test_floors_are_of_cases_that_are_measured() -> None:
    cases = {
        (row.name, case.system.name, case.label)
        for row in all_rows()
        for case in row.cases([one for one in all_systems() if row.name in one.rows], False)
    }
    for floor in FLOORS:
        labels = [label for row, name, label in cases if (row, name) == (floor.row, floor.system)]
        assert labels, floor
        assert floor.label in ("", *labels), floor
        assert (floor.goal <= floor.floor) if floor.smaller else (floor.goal >= floor.floor)


def test_what_is_below_its_floor_is_told() -> None:
    found = {"death": {("fxhpc Executor, embedded", ""): {"again_s": [0.5, 0.2, 0.01]}}}
    scale = {
        ("fxhpc Executor, embedded", "10,000"): {"cpu_us": [10.0]},
        ("fxhpc Executor, embedded", "1,000,000"): {"cpu_us": [12.0]},
    }

    lines = against_floors({**found, "scale": scale}).splitlines()

    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["**below**", "floor"]
    assert "0.20 [0.01-0.50]" in lines[2]


def test_a_figure_that_no_case_has_is_no_column() -> None:
    shown = plain_table({("one", "2"): {"rate": [1234.5]}}, "size", {"rate": "/s", "disk": "MB"})

    assert shown.splitlines()[0].split() == ["|", "system", "|", "size", "|", "/s", "|"]
    assert told([1234.5]) == "1,234"
    assert told(None) == "-"


def test_one_case_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    (row,) = [row for row in all_rows() if row.name == "latency"]
    (system,) = [one for one in all_systems() if one.name == "multiprocessing.Pool"]
    (case,) = row.cases([system], True)

    found = apart.measure(row, case._replace(settings={"calls": 3}), str(tmp_path))

    assert found["figures"]["calls"] == 3
    assert 0 < found["figures"]["p50_ms"] <= found["figures"]["p99_ms"]
    assert not list(tmp_path.iterdir())


def test_a_measurement_that_fails_says_why(tmp_path: Path) -> None:
    (row,) = [row for row in all_rows() if row.name == "latency"]
    (system,) = [one for one in all_systems() if one.name == "multiprocessing.Pool"]
    (case,) = row.cases([system], True)

    with pytest.raises(apart.Failed, match="KeyError: 'calls'"):
        apart.measure(row, case._replace(settings={}), str(tmp_path))


def test_figures_are_put_between_the_marks_of_a_text(tmp_path: Path) -> None:
    text = tmp_path / "performance.md"
    text.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n")

    command.put_into(text, "new")

    assert text.read_text() == f"before\n{command.BEGIN}\n\nnew\n\n{command.END}\nafter\n"


def test_memory_and_time_of_this_process_are_found() -> None:
    assert processes.family()[0] == os.getpid()
    assert 10**6 < processes.memory_bytes() < 10**11
    assert processes.cpu_seconds() > 0
    assert processes.wake_ups() > 0
    assert "client" in processes.by_kind()


def test_real_connections_in_small() -> None:
    row = connections.measure(managers=3, tasks=500, credit=16, idle_s=0.1)

    assert row["managers"] == 3
    assert row["tasks per s"] > 0

"""`preload`: modules that the seed imports for its workers, and those that it leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from workers import tasks
from workers.interchange import ROOT, Interchange

from fxhpc.serialize import unpack_result
from tests.waiting import LIMIT


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A directory with modules of all kinds."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "harmless_one.py").write_text("WHERE = __import__('os').getpid()\n")
    (folder / "threaded_one.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    (folder / "broken_one.py").write_text("raise ValueError('not today')\n")
    (folder / "leaving_one.py").write_text("import os; os._exit(3)\n")
    return folder


def test_workers_are_forked_with_what_can_be_had(modules: Path, tmp_path: Path) -> None:
    names = ["harmless_one", "threaded_one", "broken_one", "leaving_one", "missing_one"]
    interchange = Interchange(
        file=tmp_path / "manager.json",
        watch_pid=0,
        workers=1,
        sys_path=[str(modules), ROOT, *sys.path],
        preload=names,
    )
    try:
        (outcome,) = interchange.ready().run(tasks.imported, (names,))
        assert unpack_result(outcome.data) == ["harmless_one"]
        interchange.process.terminate()
        interchange.process.wait(LIMIT)
        assert interchange.process.stderr is not None
        said = interchange.process.stderr.read().decode()
    finally:
        interchange.close()
    for name, why in (
        ("threaded_one", "it leaves 1 threads behind"),
        ("broken_one", "ValueError: not today"),
        ("leaving_one", "the interpreter died of it"),
        ("missing_one", "ModuleNotFoundError"),
    ):
        assert f"the module {name!r} is left out: {why}" in said


def test_a_module_finds_the_variables_of_all_workers(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numerical libraries look once how many threads they may have, when they are imported."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = ["counting_one"]
    (modules / "counting_one.py").write_text(
        "import os\n"
        "names = 'OMP_NUM_THREADS', 'PARSL_WORKER_COUNT'\n"
        "found = {name: os.environ.get(name) for name in names}\n"
        "assert found == {'OMP_NUM_THREADS': '3', 'PARSL_WORKER_COUNT': '2'}, found\n"
    )
    interchange = Interchange(
        file=tmp_path / "manager.json",
        watch_pid=0,
        workers=2,
        cores_per_worker=3.0,
        sys_path=[str(modules), ROOT, *sys.path],
        preload=names,
    )
    try:
        (outcome,) = interchange.ready().run(tasks.imported, (names,))
        assert unpack_result(outcome.data) == names
    finally:
        interchange.close()


def test_one_that_takes_too_long_is_left_out(modules: Path) -> None:
    (modules / "endless_one.py").write_text("import threading; threading.Event().wait()\n")
    program = (
        "from fxhpc.manager.seeds.preload import preload\n"
        "from fxhpc.protocol.pool import SeedSpec\n"
        f"path = [{str(modules)!r}, *__import__('sys').path]\n"
        "preload(SeedSpec('', path, {}, preload=['endless_one']), limit_s=0.2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.stderr == (
        "fxhpc: preload: the module 'endless_one' is left out: it was not imported within 200 ms\n"
    )

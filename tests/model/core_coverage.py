"""Which lines, branches and transitions of the cores the state machine takes, and which never."""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import fxhpc
from tests.model.transitions import Transitions

#: What decides, and is the real thing in the simulation. Blocks are `tests/model/blocks.py`'s.
CORES = {
    "forwarder": (
        "answering attaching cancelling core delivery feeding gathering listing sending "
        "state streams submitting"
    ),
    "interchange": (
        "bodies core dispatching ending forwarder_link held losses outbox recovering registering "
        "state walltimes"
    ),
    "manager": "backlog core desk held leaving losses outbox pace staff",
    "protocol": "codec link turns",
}


def core_files() -> list[str]:
    """The sources of the cores."""
    package = Path(fxhpc.__file__).parent
    return [
        str(package / folder / f"{name}.py")
        for folder, names in CORES.items()
        for name in names.split()
    ]


def measure() -> Iterator[None]:
    """Measure while the tests of a module run, if `FXHPC_MODEL_COVERAGE` names a file for it."""
    target = os.environ.get("FXHPC_MODEL_COVERAGE")
    if not target:
        yield
        return
    import coverage

    transitions = Transitions()
    files = core_files()
    measured = coverage.Coverage(data_file=None, branch=True, include=files)
    measured.start()
    try:
        for file in files:  # what is done once, when they are imported, was done long ago
            runpy.run_path(file, run_name=_module_name(file))
        with transitions.watched():
            yield
    finally:
        measured.stop()
        with open(target, "w") as report:
            measured.report(show_missing=True, sort="Cover", file=report)
            transitions.report(report)
    impossible = transitions.impossible()
    assert not impossible, f"these were taken, and cannot be: {impossible}"


def _module_name(file: str) -> str:
    return ".".join(["fxhpc", *Path(file).with_suffix("").parts[-2:]])

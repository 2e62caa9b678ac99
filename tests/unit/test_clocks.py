"""No time-out reads the wall clock: whoever does so at all stands here, with the reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import fxhpc

_ROOT = Path(fxhpc.__file__).parent

#: What tells the wall clock: attributes of modules, and of `datetime`.
_WALL = {"time", "time_ns", "CLOCK_REALTIME", "now", "utcnow", "today", "localtime", "gmtime"}
_OWNERS = {"time", "datetime", "date"}
# Most modules need not be parsed to know that they do not.
_MAYBE = re.compile(r"\b(?:time|datetime|date)\.\w|\bfrom (?:time|datetime) import")

_SHOWN = "for people to read"
_STAMP = "a stamp that is kept or sent, for people to read"
_FILES = "compared with times of files, which only other clocks know; at most a file stays longer"
_BATCH = "batch systems tell the ends of jobs by the wall clock; read once, monotonic from then on"
_PROBE = "compares the clocks of two hosts, which is what is asked"

#: Modules that may read it, and why.
ALLOWED = {
    "cli/access.py": _STAMP,
    "cli/explaining.py": _SHOWN,
    "cli/forwarder.py": _SHOWN,
    "cli/status.py": _SHOWN,
    "cli/store_usage.py": _SHOWN,
    "cli/task.py": _SHOWN,
    "client/client.py": _SHOWN,
    "client/declared/containers.py": _STAMP,
    "client/executor.py": _SHOWN,
    "client/sending/groups.py": _STAMP,
    "client/shown/notebooks.py": _SHOWN,
    "client/registering.py": _STAMP,
    "client/results.py": "the age of a task that another process may have submitted; at most 5 s",
    "client/submissions.py": _STAMP,
    "doctor/places.py": _PROBE,
    "endpoint/identity.py": _FILES,
    "endpoint/node_probe.py": _PROBE,
    "endpoint/on_node.py": _PROBE,
    "endpoint/provisioner/scripts.py": _FILES,
    "endpoint/supervisor.py": _STAMP,
    "forwarder/access.py": _STAMP,
    "forwarder/away.py": _SHOWN,
    "forwarder/elsewhere.py": _SHOWN,
    "forwarder/loop.py": "retention: days, which go on while no forwarder runs",
    "forwarder/process.py": _FILES,
    "forwarder/remotes.py": _STAMP,
    "forwarder/store/store.py": "an epoch above all those that a lost store has given out",
    "hosts.py": _SHOWN,
    "interchange/process.py": "the offset of the two clocks, for stamps",
    "interchange/status_file.py": _STAMP,
    "manager/__main__.py": _BATCH,
    "manager/shell.py": _BATCH,
    "serialize/fresh.py": _FILES,
    "transport/directories.py": _FILES,
    "worker/usage.py": _SHOWN,
}


def _readers() -> Iterator[tuple[str, int]]:
    """Every place that reads the wall clock: module, line."""
    for path in sorted(_ROOT.rglob("*.py")):
        name = str(path.relative_to(_ROOT))
        text = path.read_text()
        if not _MAYBE.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and node.attr in _WALL:
                owner = node.value
                found = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                if found in _OWNERS:
                    yield name, node.lineno
            elif isinstance(node, ast.ImportFrom) and node.module in _OWNERS:
                yield from ((name, node.lineno) for one in node.names if one.name in _WALL)


def test_i08_no_time_out_reads_the_wall_clock() -> None:
    """A step of the clock must not expire anything: time-outs use `time.monotonic()`.

    Who needs to know the time of day adds the module to `ALLOWED`, with a reason.
    """
    found = list(_readers())
    strangers = [f"fxhpc/{name}:{line}" for name, line in found if name not in ALLOWED]
    assert not strangers, f"these read the wall clock: {strangers}"
    unused = ALLOWED.keys() - {name for name, _ in found}
    assert not unused, f"these do not read it any more: {sorted(unused)}"

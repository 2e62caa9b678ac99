"""What users define in scripts, at prompts and in notebooks, through a worker of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parent / "programs" / "matrix.py"
CASES = re.findall(r"^@case\ndef (\w+)", PROGRAM.read_text(), re.MULTILINE)

#: A notebook's cells: compiled under a name that is no file, with lines that linecache knows,
#: run in the namespace of a module that cannot be imported.
NOTEBOOK = """
import linecache, sys, types
text = open({path!r}).read()
shell = types.ModuleType("__main__")
sys.modules["__main__"] = shell
linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(keepends=True), "<cell 1>")
exec(compile(text, "<cell 1>", "exec"), vars(shell))
"""


def _outcome(output: str) -> dict[str, str]:
    line = next(line for line in output.splitlines() if line.startswith("OUTCOME"))
    outcome: dict[str, str] = json.loads(line.removeprefix("OUTCOME"))
    return outcome


@pytest.fixture(scope="module")
def outcomes(run_program: Callable[..., str]) -> dict[str, dict[str, str]]:
    return {
        "script": _outcome(run_program(PROGRAM)),
        "prompt": _outcome(run_program("-", stdin=PROGRAM.read_text())),
        "notebook": _outcome(run_program("-c", NOTEBOOK.format(path=str(PROGRAM)))),
    }


@pytest.mark.parametrize("way", ["script", "prompt", "notebook"])
@pytest.mark.parametrize("case", CASES)
def test_case(outcomes: dict[str, dict[str, str]], way: str, case: str) -> None:
    assert outcomes[way][case] == ""


def test_typed_at_an_interactive_prompt(run_program: Callable[..., str]) -> None:
    lines = """
from remote import Remote
class Point:
    def __init__(self, x): self.x = x

def move(p): return Point(p.x + STEP)

STEP = 2
with Remote() as r:
    moved = r.call(move, Point(1))

print("MOVED", type(moved) is Point, moved.x)
"""
    output = run_program("-i", "-q", stdin=lines)
    assert "MOVED True 3" in output


LATER = """
import sys
from remote import Remote
from fxhpc.serialize import pack_result, unpack_result
{definition}
if sys.argv[1] == "write":
    with Remote() as r:
        kind, data = r.send(*_packed())
    open(sys.argv[2], "wb").write(data)
else:
    value = unpack_result(open(sys.argv[2], "rb").read())
    own = globals().get("Point")
    print("READ", own is type(value), value.x, value.double())
"""
WITH_POINT = """
from dataclasses import dataclass
from fxhpc.serialize import pack_arguments, pack_function

@dataclass
class Point:
    x: int
    def double(self): return 2 * self.x

def _packed():
    packed = pack_function(lambda: Point(4))
    return packed.digest, packed.body, pack_arguments((), {}, 10**6)
"""


def test_a_later_run_reads_results_as_its_own_classes(
    run_program: Callable[..., str], tmp_path: Path
) -> None:
    same, without, changed = (tmp_path / f"{name}.py" for name in ("same", "without", "changed"))
    same.write_text(LATER.format(definition=WITH_POINT))
    without.write_text(LATER.format(definition=""))
    changed.write_text(LATER.format(definition=WITH_POINT.replace("x: int", "y: int")))
    result = tmp_path / "result"
    run_program(same, "write", result)
    assert "READ True 4 8" in run_program(same, "read", result)
    assert "READ False 4 8" in run_program(without, "read", result)
    assert "READ False 4 8" in run_program(changed, "read", result)

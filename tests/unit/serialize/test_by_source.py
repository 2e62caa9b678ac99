"""Functions whose byte code the worker's Python cannot read."""

from __future__ import annotations

import json
import linecache
import marshal
import os
import shutil
import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fxhpc.errors import SerializationError
from fxhpc.serialize import build, by_source, pack_function

ROOT = Path(__file__).resolve().parents[3]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
#: This Python, which takes itself for another: so the way is tested where there is only one.
PRETENDED = {"FXHPC_WORKER_VERSION": "2.77"}


def _others() -> list[str]:
    """The interpreters of other versions that are here and can run a worker."""
    found = []
    for version in VERSIONS:
        path = shutil.which(f"python{version}")
        if path is None or version == build.python_version():
            continue
        # What PATH has may be a script that knows no such version.
        done = subprocess.run(
            [path, "-c", "import sys, fxhpc.serialize; print('%d.%d' % sys.version_info[:2])"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode == 0 and done.stdout.strip() == version:
            found.append(path)
    return found


def test_functions_of_all_shapes(run_program: Callable[..., str], programs: Path) -> None:
    workers = [PRETENDED, *({"FXHPC_WORKER_PYTHON": path} for path in _others())]
    for environment in workers:
        assert "DONE" in run_program(programs / "by_source.py", environment=environment)


def define(name: str, text: str, namespace: dict[str, Any]) -> Any:
    """As in a notebook's cell: the lines are in linecache alone."""
    linecache.cache["<defined>"] = (len(text), None, text.splitlines(keepends=True), "<defined>")
    exec(compile(text, "<defined>", "exec", dont_inherit=True), namespace)
    return namespace[name]


@pytest.fixture(autouse=True)
def _no_lines_left() -> Any:
    yield
    linecache.cache.pop("<defined>", None)


def by_source_of(fn: types.FunctionType) -> types.CodeType | None:
    source = by_source.text_of(fn.__code__)
    return None if source is None else by_source.compiled(source)


@pytest.mark.parametrize(
    "text",
    [
        "def f(x): return x + 1",
        "if True:\n    def f(x):\n        return '''\na'''\n\n    y = 1",
        "f = lambda x: x + 1",
        "g, f = [lambda x: x + 1, lambda x: (x,\n 2)]",
        "import os\ndef f(x):\n    return os.path.join(x)",
        "def f(x):\n    def f(y): return x\n    return f",
        "class f:\n    def m(self): return self.__x\nf = f.m",
        "def f(*, x: int = 3, **y: str) -> None:\n    class C:\n        z = x\n    return C",
    ],
)
def test_the_source_gives_the_same_code(text: str) -> None:
    fn = define("f", text, {"__name__": "somewhere"})
    code = by_source_of(fn)
    assert code is not None
    assert by_source.same_code(code, fn.__code__)
    assert code.co_firstlineno == fn.__code__.co_firstlineno
    assert code.co_filename == "<defined>"


def test_a_source_that_is_not_the_functions_is_not_sent() -> None:
    # A code that no other test has: what was found for it once would be found again.
    fn = define("f", "def f(x):\n    return x + 71\n", {})
    text = "def f(x):\n    return x - 71\n"
    linecache.cache["<defined>"] = (len(text), None, text.splitlines(keepends=True), "<defined>")
    assert by_source_of(fn) is None


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    path.write_text("def f(): return 1\n")
    linecache.getlines(str(path))
    text = "# longer than before\ndef f(): return 2\n"
    path.write_text(text)
    namespace: dict[str, Any] = {}
    exec(compile(text, str(path), "exec"), namespace)
    code = by_source_of(namespace["f"])
    linecache.cache.pop(str(path), None)
    assert code is not None
    assert eval(code) == 2


def test_byte_code_is_preferred_where_it_can_be_read() -> None:
    fn = define("f", "def f(): return 1", {})
    source = by_source.text_of(fn.__code__)
    assert source is not None
    wrong = source._replace(text="def f(): return 2")
    packed = marshal.dumps(fn.__code__)
    assert eval(build.code(build.python_version(), packed, (*wrong,))) == 1
    assert eval(build.code("2.77", packed, (*wrong,))) == 2
    assert eval(build.code(build.python_version(), b"", (*wrong,))) == 2  # marshal refuses it


def test_syntax_that_this_python_does_not_know() -> None:
    fn = define("f", "def f(): return 1", {})
    source = by_source.text_of(fn.__code__)
    assert source is not None
    newer = source._replace(text="def f(): return new syntax")
    with pytest.raises(SerializationError, match=r"<defined>, line 1\) does not compile here"):
        build.code("2.77", b"", (*newer,))


def test_bodies_with_sources_are_the_same_each_time() -> None:
    fn = define("f", "def f(x):\n" + "    x += 1\n" * 200 + "    return x\n", {})
    first = pack_function(fn)
    by_source._find.cache_clear()
    assert pack_function(fn) == first
    assert first.body.count(b"x += 1") == 200  # for tracebacks; that to compile is compressed


def test_matrix_without_byte_code(run_program: Callable[..., str], programs: Path) -> None:
    output = run_program(programs / "matrix.py", environment=PRETENDED)
    line = next(line for line in output.splitlines() if line.startswith("OUTCOME"))
    outcome = json.loads(line.removeprefix("OUTCOME"))
    assert outcome
    assert {name: words for name, words in outcome.items() if words} == {}

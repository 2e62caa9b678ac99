"""`local` is the process that uses it: its interpreter, directory, environment and modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import textwrap
import venv
from pathlib import Path

import pytest
from homes import TestHome, finish
from lives import GRACE, only_forwarder_left, read_line, say, script

import fxhpc


def _environment(folder: Path) -> Path:
    """A virtual environment that sees the packages of this one; its interpreter."""
    venv.create(folder, symlinks=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = sysconfig.get_path("purelib")
    source = str(Path(fxhpc.__file__).parents[1])
    (folder / "lib" / version / "site-packages" / "others.pth").write_text(
        f"import site; site.addsitedir({packages!r})\n{source}\n"
    )
    return folder / "bin" / "python"


def _start(
    home: TestHome, command: list[object], cwd: Path, **environment: str
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        list(map(str, command)),
        env={**home.environment, "FXHPC_FORWARDER_GRACE": GRACE, **environment},
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    home._started.append(process)
    return process


WHERE = """
import json

def where():
    import json, os, sys
    return json.dumps(
        [sys.prefix, sys.executable, os.getcwd(), os.environ.get("FLAVOUR"), sys.path[-1]]
    )

sys.path.append("/of/this/process/" + os.environ["FLAVOUR"])
fxc = FuncXClient()
function = fxc.register_function(where)
at_prompt()
ids = [fxc.run(endpoint_id="local", function_id=function) for _ in range(20)]
fxc.wait(ids, timeout=60)
(told,) = {fxc.get_result(i) for i in ids}
executor = Executor(1)
assert executor.submit(where).result(60) == told
own = [sys.prefix, sys.executable, os.getcwd(), os.environ["FLAVOUR"], sys.path[-1]]
assert json.loads(told) == own, (json.loads(told), own)
print(told)
"""


def test_two_virtual_environments_on_one_home(home: TestHome, tmp_path: Path) -> None:
    path = home.write("where.py", script(WHERE))
    processes = []
    for flavour in ("sweet", "sour"):
        folder = tmp_path / f"in {flavour}"
        folder.mkdir()
        python = _environment(tmp_path / flavour)
        processes.append(_start(home, [python, path], folder, FLAVOUR=flavour))
    for process in processes:
        assert read_line(process) == "prompt"
    for process in processes:
        say(process)
    for flavour, process in zip(("sweet", "sour"), processes, strict=True):
        prefix, executable, cwd, value, entry = json.loads(finish(process))
        assert prefix == str(tmp_path / flavour)
        assert executable == str(tmp_path / flavour / "bin" / "python")
        assert cwd == str(tmp_path / f"in {flavour}")
        assert value == flavour
        assert entry == f"/of/this/process/{flavour}"
    only_forwarder_left(home)


FROM_ELSEWHERE = """
import sys
import helpers
from fxhpc import Executor, FuncXClient

def by_name(x):
    return helpers.scale(x)

def by_import(x):
    import helpers
    return helpers.scale(x), helpers.Box(x).x

if __name__ == "__main__":
    fxc = FuncXClient()
    def through_home(function, *args):
        task = fxc.run(*args, endpoint_id="local", function_id=fxc.register_function(function))
        return fxc.get_result(task, timeout=60)
    with Executor(1) as executor:
        def through_executor(function, *args):
            return executor.submit(function, *args).result(60)
        for call in (through_home, through_executor):
            assert call(by_name, 2) == 20
            assert call(by_import, 2) == (20, 2)
            assert call(helpers.scale, 2) == 20
            box = call(helpers.Box, 7)
            assert isinstance(box, helpers.Box) and box.x == 7
            assert isinstance(call(helpers.Box.bigger, box), helpers.Box)
    print("all there")
"""

HELPERS = """
FACTOR = 10

def scale(x):
    return x * FACTOR

class Box:
    def __init__(self, x):
        self.x = x
    def bigger(self):
        return Box(self.x + 1)
"""


@pytest.mark.parametrize("how", ["script", "module"])
def test_a_script_runs_from_another_directory(home: TestHome, tmp_path: Path, how: str) -> None:
    home.write("sub/helpers.py", HELPERS)
    path = home.write("sub/run.py", FROM_ELSEWHERE)
    if how == "script":  # as `python sub/run.py`
        process = _start(home, [sys.executable, os.path.relpath(path, home.scripts)], home.scripts)
    else:
        process = _start(home, [sys.executable, "-m", "run"], path.parent)
    assert finish(process) == "all there\n"


EDITED = """
import importlib
import middle
import leaf

def through_import():
    import leaf, middle
    return leaf.VERSION, leaf.version(), middle.version()

def through_name():
    return leaf.VERSION, leaf.version(), middle.version()

def call(run):
    return [run(through_import), run(through_name), run(leaf.version), run(middle.version)]

def told(run):
    print(call(run), flush=True)

fxc = FuncXClient()
registered = {}

def through_home(function):
    task = fxc.run(endpoint_id="local", function_id=fxc.register_function(function))
    return fxc.get_result(task, timeout=60)

executor = Executor(1)

def through_executor(function):
    return executor.submit(function).result(60)

for line in sys.stdin:
    if line.strip() == "reload":
        importlib.reload(leaf)
        importlib.reload(middle)
    for run in (through_home, through_executor):
        told(run)
"""


def _version(home: TestHome, version: int) -> None:
    home.write(
        "leaf.py",
        f"""
        VERSION = {version}
        def version():
            return {version}
        """,
    )


def test_a_module_that_was_edited_runs_in_its_new_version(home: TestHome) -> None:
    home.write("middle.py", "import leaf\ndef version():\n    return leaf.version()\n")
    _version(home, 1)
    process = home.start("edited.py", script(EDITED))
    for version, line in ((1, "first"), (2, "reload"), (3, "reload")):
        _version(home, version)
        say(process, line)
        for _ in range(2):
            each = (version, version, version)
            assert read_line(process) == str([each, each, version, version])
    process.stdin.close()  # type: ignore[union-attr]
    assert process.wait(20) == 0


def test_a_module_that_was_edited_on_disk_alone(home: TestHome) -> None:
    """The caller has the old version in memory, and a function that imports reads the new one."""
    home.write("middle.py", "import leaf\ndef version():\n    return leaf.version()\n")
    _version(home, 1)
    code = textwrap.dedent(
        """
        def through_import():
            import leaf, middle
            return leaf.VERSION, leaf.version(), middle.version()

        fxc = FuncXClient()
        function = fxc.register_function(through_import)
        executor = Executor(1)
        for line in sys.stdin:
            task = fxc.run(endpoint_id="local", function_id=function)
            print(fxc.get_result(task, timeout=60), executor.submit(through_import).result(60))
            sys.stdout.flush()
        """
    )
    process = home.start("on_disk.py", script(code))
    for version in (1, 2, 3):
        _version(home, version)
        say(process, "go")
        each = (version, version, version)
        assert read_line(process) == f"{each} {each}"
    process.stdin.close()  # type: ignore[union-attr]
    assert process.wait(20) == 0

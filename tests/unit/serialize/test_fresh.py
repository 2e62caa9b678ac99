"""User modules: an edited one is never run in its old version, a missing one comes in the body."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

EDITED = """
import os, sys
from remote import Remote
from fxhpc.serialize import pack_function, pack_arguments
import edited_module as m

def write(text, stamp=None):
    with open(m.__file__, "w") as file:
        file.write(text)
    if stamp is not None:
        os.utime(m.__file__, ns=(stamp, stamp))

with Remote() as r:
    packed = pack_function(m.answer)
    print("GOT", r.again(packed.digest, packed.body), r.refreshed)
    print("GOT", r.again(packed.digest, None), r.refreshed)
    stamp = os.stat(m.__file__).st_mtime_ns
    write("def answer(): return 2\\n", stamp)           # same size, same time, same inode
    print("GOT", r.again(packed.digest, None), r.refreshed)
    write("def answer(): return 30 + len('x')\\n")      # and another one at once
    print("GOT", r.again(packed.digest, None), r.refreshed)
    os.utime(m.__file__)                                 # touched alone: nothing is dropped
    print("GOT", r.again(packed.digest, None), r.refreshed)
    write("def answer(: broken\\n")
    try:
        r.again(packed.digest, None)
    except Exception as error:
        print("GOT", "SyntaxError" in str(error), r.refreshed)
    write("def answer(): return 5\\n")
    print("GOT", r.again(packed.digest, None), r.refreshed)
    print("GOT", r.call(m.answer), m.answer())           # memory here is old: the file counts
    print("GOT", r.call(lambda: m.answer()))
"""


def got(output: str) -> list[str]:
    return [line.removeprefix("GOT ") for line in output.splitlines() if line.startswith("GOT")]


def test_an_edited_module_is_run_in_its_new_version(
    run_program: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "edited_module.py").write_text("def answer(): return 1\n")
    script = tmp_path / "script.py"
    script.write_text(EDITED)
    # Byte code is written and read here, as in a user's life: it must not be believed.
    output = run_program(script, environment={"PYTHONDONTWRITEBYTECODE": ""})
    assert got(output) == [
        "1 False",
        "1 False",
        "2 True",
        "31 True",
        "31 False",
        "True True",
        "5 True",
        "5 1",
        "5",
    ]


TRANSITIVE = """
from remote import Remote
from pack_a.outer import value, Holder

class Mine(Holder):
    pass

with Remote({options}) as r:
    print("GOT", r.call(value), r.call(lambda: value()), r.call(lambda h: h.get(), Mine()))
    import pack_a.inner
    with open(pack_a.inner.__file__, "w") as file:
        file.write("NUMBER = 2\\n")
    print("GOT", r.call(value), r.call(lambda: value()), r.call(lambda h: h.get(), Mine()))
"""


def _package(path: Path) -> None:
    (path / "pack_a").mkdir(parents=True)
    (path / "pack_a" / "__init__.py").write_text("from . import inner\n")
    (path / "pack_a" / "inner.py").write_text("NUMBER = 1\n")
    (path / "pack_a" / "outer.py").write_text(
        "from .inner import (\n    NUMBER,\n)\n"
        "def value():\n    from pack_a import lazy\n    return NUMBER, lazy.LAZY\n"
        "class Holder:\n    n = NUMBER\n    def get(self): return self.n\n"
    )
    (path / "pack_a" / "lazy.py").write_text("LAZY = 'lazy'\n")


def test_importers_of_an_edited_module_are_new_too(
    run_program: Callable[..., str], tmp_path: Path
) -> None:
    _package(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(TRANSITIVE.format(options=""))
    assert got(run_program(script)) == [
        "(1, 'lazy') (1, 'lazy') 1",
        "(2, 'lazy') (2, 'lazy') 2",
    ]


def test_the_worker_needs_no_path_to_the_modules(
    run_program: Callable[..., str], tmp_path: Path
) -> None:
    _package(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(TRANSITIVE.format(options="same_path=False"))
    assert got(run_program(script)) == [
        "(1, 'lazy') (1, 'lazy') 1",
        "(2, 'lazy') (2, 'lazy') 2",
    ]


NO_FILES = """
import os, sys
from remote import Remote
from fxhpc.serialize import pack_function
from pack_a.outer import value
import pack_a.inner

def pack():
    return pack_function(value)

first = pack()
with open(pack_a.inner.__file__, "w") as file:
    file.write("NUMBER = 22\\n")
second = pack()
root = os.path.dirname(os.path.dirname(pack_a.__file__))
os.rename(os.path.join(root, "pack_a"), os.path.join(root, "gone"))   # another host's files
with Remote(same_path=False) as r:
    print("GOT", r.again(first.digest, first.body))
    print("GOT", r.again(second.digest, second.body))
    print("GOT", r.again(first.digest, first.body))
    try:
        r.call(lambda: __import__("no_such_module_anywhere"))
    except ModuleNotFoundError as error:
        print("GOT", error.name)
"""


def test_a_worker_without_the_files_runs_the_newest_sources_it_got(
    run_program: Callable[..., str], tmp_path: Path
) -> None:
    _package(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(NO_FILES)
    assert got(run_program(script)) == [
        "(1, 'lazy')",
        "(22, 'lazy')",
        "(22, 'lazy')",
        "no_such_module_anywhere",
    ]


def test_helpers_beside_a_script_that_is_run_from_elsewhere(
    run_program: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "beside.py").write_text("def f(x): return x * 7\n")
    (tmp_path / "sub" / "run.py").write_text(
        "from remote import Remote\nimport beside\n"
        "for same in (True, False):\n"
        "    with Remote(same_path=same, cwd='/') as r:\n"
        "        print('GOT', r.call(beside.f, 6), r.call(lambda: beside.f(1)))\n"
    )
    assert got(run_program("sub/run.py", cwd=tmp_path)) == ["42 7", "42 7"]


RELOADED = """
import importlib, sys
from remote import Remote
import edited_module as m

with Remote() as r:
    old = m.Thing()
    print("GOT", r.call(lambda t: t.get(), old))
    with open(m.__file__, "w") as file:
        file.write("class Thing:\\n    def get(self): return 'newer'\\n")
    importlib.reload(m)
    print("GOT", r.call(lambda t: t.get(), m.Thing()), type(r.call(m.Thing)) is m.Thing)
    print("GOT", r.call(lambda t: t.get(), old), type(r.call(lambda t: t, old)) is type(old))
"""


def test_a_reloaded_module(run_program: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "edited_module.py").write_text("class Thing:\n    def get(self): return 'old'\n")
    script = tmp_path / "script.py"
    script.write_text(RELOADED)
    assert got(run_program(script)) == ["old", "newer True", "old True"]


LOADER = """
import hashlib, pickle, sys
from fxhpc.errors import SerializationError
from fxhpc.serialize import Loader, pack_function, pack_exception, unpack_exception

finders = list(sys.meta_path)
packed = pack_function(eval("lambda: 1"))  # without source, whatever the version
loader = Loader()
fn = loader.load_function(packed.digest, packed.body)
print("GOT", fn(), loader.load_function(packed.digest) is fn, loader.has(packed.digest))
for digest, body, words in (
    (packed.digest, packed.body + b"x", None),
    (bytes(32), packed.body, "changed on the way"),
    (hashlib.sha256(b"junk").digest(), b"junk", "unpacking of a function"),
):
    try:
        loader.load_function(digest, body)
    except SerializationError as error:
        print("GOT", words in str(error))
    else:
        print("GOT", words)
try:
    loader.load_function(b"unknown")
except KeyError:
    print("GOT KeyError")
fields = list(pickle.loads(packed.body))
fields[3] = fields[3].replace(b"%d.%d" % sys.version_info[:2], b"2.77")
body = pickle.dumps(tuple(fields))
try:
    loader.load_function(hashlib.sha256(body).digest(), body)
except SerializationError as error:
    print("GOT", "made by Python 2.77" in str(error))
loader.close()
print("GOT", sys.meta_path == finders)
"""


def test_a_loader_checks_what_it_gets(run_program: Callable[..., str]) -> None:
    output = run_program("-c", LOADER)
    # The first body is known already: what comes with it is not looked at.
    assert got(output) == ["1 True True", "None", "True", "True", "KeyError", "True", "True"]


def test_lines_of_a_notebook_are_shown_in_tracebacks(run_program: Callable[..., str]) -> None:
    program = """
import linecache
from remote import Remote
text = "def fails(x):\\n    return 1 / x  # the line\\n"
linecache.cache["<cell 9>"] = (len(text), None, text.splitlines(True), "<cell 9>")
exec(compile(text, "<cell 9>", "exec"))
with Remote() as r:
    try:
        r.call(fails, 0)
    except ZeroDivisionError as error:
        text = str(error.__cause__)
        print("GOT", "# the line" in text, "fxhpc/serialize/" in text)
"""
    assert got(run_program("-c", program)) == ["True False"]


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_sources_are_bounded(run_program: Callable[..., str], tmp_path: Path, size: int) -> None:
    (tmp_path / "big_module.py").write_text("def f(): return 1\n" + "#" * size)
    (tmp_path / "script.py").write_text(
        "from fxhpc.serialize import pack_function\nimport big_module\n"
        "print('GOT', len(pack_function(big_module.f).body) < 1_500_000)\n"
        "from remote import Remote\n"
        "with Remote() as r: print('GOT', r.call(big_module.f))\n"
    )
    assert got(run_program(tmp_path / "script.py")) == ["True", "1"]

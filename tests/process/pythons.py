"""The Pythons of this machine that fxhpc supports, each with what a client needs."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fxhpc

#: What clients, forwarders, managers and workers import. Endpoints need more, and are not tested.
_NEEDED = ("dill", "msgspec", "psutil", "pyzmq", "setproctitle")
_SUPPORTED = range(10, 20)


def found() -> dict[str, str]:
    """Interpreters by version, `3.N`: this one first, then one of each other version.

    They are looked for on the PATH, and where pyenv and uv put them; `FXHPC_TEST_PYTHONS` may name
    others (separated as in PATH). A machine that has no other tests this one alone.
    """
    named = os.environ.get("FXHPC_TEST_PYTHONS", "").split(os.pathsep)
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    uv = os.path.expanduser("~/.local/share/uv/python")
    # pyenv's shims stand for versions that may not be there.
    path = [one for one in os.get_exec_path() if Path(one).name != "shims"]
    interpreters = {f"3.{sys.version_info[1]}": sys.executable}
    for minor in _SUPPORTED:
        name = f"python3.{minor}"
        there = [
            *(one for one in named if Path(one).name == name),
            *sorted(glob.glob(f"{pyenv}/versions/3.{minor}.*/bin/{name}")),
            *sorted(glob.glob(f"{uv}/cpython-3.{minor}.*/bin/{name}")),
            *filter(None, [shutil.which(name, path=os.pathsep.join(path))]),
        ]
        if there:
            interpreters.setdefault(f"3.{minor}", there[0])
    return interpreters


class Installed:
    """An interpreter that has fxhpc: its executable, and what its environment needs."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python = python
        self.environment: dict[str, str] = {}
        if python == sys.executable:
            return
        # fxhpc alone: what else is installed beside it is of another version of Python.
        source = folder / "source"
        source.mkdir()
        (source / "fxhpc").symlink_to(Path(fxhpc.__file__).parent)
        self.environment = {
            "PYTHONPATH": str(source),
            "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
            "PYTHONDONTWRITEBYTECODE": "",
        }
        environment = folder / "environment"
        _run(python, "-m", "venv", "--without-pip", str(environment))
        self.python = str(environment / "bin" / "python")
        # By our pip, as each of them would have to unpack its own.
        target = next((environment / "lib").glob("python3.*")) / "site-packages"
        version = target.parent.name.removeprefix("python")
        _run(
            *(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"),
            *("--no-compile", "--only-binary=:all:", f"--python-version={version}"),
            *("--target", str(target), *_NEEDED),
        )


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"

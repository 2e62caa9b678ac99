"""Where peers are installed: in this interpreter, or in virtual environments of their own.

`python -m benchmarks peers` makes what is missing by pip, below `$XDG_CACHE_HOME/fxhpc-benchmarks`
(`~/.cache` if that is not set). Remove the folder, and they are gone.
"""

from __future__ import annotations

import compileall
import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path

#: What pip is asked for, by environment. Each is made with the interpreter of this process.
REQUIREMENTS: dict[str, list[str]] = {
    "parsl": ["parsl", "pyzmq>=27.3"],
    "dask": ["distributed"],
    "ray": ["ray"],
    "executorlib": ["executorlib"],
    "joblib": ["joblib", "loky"],
}


_ROOT = Path(__file__).resolve().parents[1]


def compile_checkout() -> None:
    """Make bytecode of this checkout, as pip does of whatever it installs.

    Else each process would compile what has changed, all of them each time where
    PYTHONDONTWRITEBYTECODE is set: a tenth of a second in every start.
    """
    for package in ("fxhpc", "benchmarks"):
        compileall.compile_dir(_ROOT / package, quiet=2)  # what cannot be written is not there


def folder() -> Path:
    """Where the environments are."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Path(cache) / "fxhpc-benchmarks" / f"python{version}"


def interpreter(environment: str, module: str) -> str | None:
    """The interpreter that has a module: this one, or that of an environment. None: neither."""
    if environment:
        python = folder() / environment / "bin" / "python"
        if python.exists() and any((folder() / environment / "lib").glob(f"*/*/{module}")):
            return str(python)
    return sys.executable if importlib.util.find_spec(module) else None


def install(wanted: list[str]) -> bool:
    """Make the environments that are wanted, all if none is named. Whether all of them are there.

    Says on standard error what pip says of one that cannot be made; the others are made all the
    same.
    """
    done = True
    for name, requirements in REQUIREMENTS.items():
        if wanted and name not in wanted:
            continue
        place = folder() / name
        print(f"{name}: {place}", file=sys.stderr)
        try:
            venv.create(place, with_pip=True)
            pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run(
                [*pip, "--disable-pip-version-check", *requirements], check=True, timeout=900
            )
        except (subprocess.SubprocessError, OSError) as error:
            print(f"{name}: not installed: {error}", file=sys.stderr)
            done = False
    return done

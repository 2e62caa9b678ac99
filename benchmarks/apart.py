"""A fresh process, with a fresh home, for each measurement: started here, and run here."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import environments, processes
from benchmarks.rows import Case, Row
from benchmarks.systems import System

_ROOT = Path(__file__).resolve().parents[1]
_PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):
    """A measurement that has come to nothing, with the last of what was said."""


def measure(row: Row, case: Case, directory: str | None) -> dict[str, Any]:
    """Measure one case once.

    Args:
        directory: where its home lies, which is gone afterwards.

    Returns:
        "figures", and "versions" of what was measured.

    Raises:
        Failed: it did not end well, or not in time.
    """
    python = environments.interpreter(case.system.environment, case.system.needs)
    if python is None:
        raise Failed(f"{case.system.needs} is not installed: `python -m benchmarks peers`")
    home = tempfile.mkdtemp(prefix="fxhpc-benchmark-", dir=directory)
    settings = json.dumps(case.settings)
    command = [python, "-m", "benchmarks.apart", row.name, case.system.name, settings]
    environ = {
        **os.environ,
        "FXHPC_HOME": os.path.join(home, "fxhpc"),
        "FXHPC_FORWARDER_GRACE": "0.2",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")])),
        # Parsl and Ray look for their scripts there.
        "PATH": os.pathsep.join([os.path.dirname(python), os.environ.get("PATH", "")]),
        **row.environ(case.settings, home),
    }
    try:
        with open(os.path.join(home, "stderr"), "w+") as stderr:
            process = subprocess.Popen(
                command, env=environ, cwd=_ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
            peak = processes.Peak(process.pid) if row.peak_memory else None
            try:
                out, _ = process.communicate(timeout=row.limit_s)
            except subprocess.TimeoutExpired:
                _end(process)
                raise Failed(f"it was not done after {row.limit_s:.0f} s") from None
            except BaseException:
                _end(process)
                raise
            finally:
                most = peak.end() if peak else 0
            if process.returncode:
                stderr.seek(0)
                lines = stderr.read().strip().splitlines()
                raise Failed(lines[-1] if lines else f"exit code {process.returncode}")
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        if most:
            found["figures"]["peak_mb"] = most / 1e6
        return found
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _end(process: subprocess.Popen[str]) -> None:
    """End a measurement with all its processes."""
    for pid in reversed(processes.family(process.pid)):
        try:
            os.kill(pid, 9)
        except OSError:
            pass
    process.communicate()


def _be_measured(row_name: str, system_name: str, settings: dict[str, Any]) -> None:
    from benchmarks import rows, systems

    # A subreaper: what a system detaches stays below this process, and is counted.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.makedirs(os.environ["FXHPC_HOME"], mode=0o700)
    system: System = systems.named(system_name)()
    figures = rows.named(row_name).measure(system, settings)
    print(json.dumps({"figures": figures, "versions": _versions(system.versions)}), flush=True)
    processes.end_all()
    os._exit(0)  # what a system has left in this process is not what is measured


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return found


if __name__ == "__main__":
    importlib.import_module("benchmarks")
    _be_measured(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))

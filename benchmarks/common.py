"""What the benchmarks share: a process for each measurement, clocks and counters, tables."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from systems import ALL, System, chosen

_HERE = Path(__file__).resolve().parent
_LIMIT_S = 900.0

#: What one measurement found: figures by name.
Figures = dict[str, float]


def main(
    row: str,
    description: str,
    measure: Callable[[System, argparse.Namespace], Figures],
    show: Callable[[dict[str, dict[str, list[float]]], argparse.Namespace], str],
    default_tasks: int,
) -> None:
    """Measure all systems of a table in turn, so many times, and print the table.

    Args:
        row: the table: "throughput" or "latency".
        measure: measures one system, in a process of its own.
        show: makes the table from every figure's values by system.
        default_tasks: how many tasks, where nothing is asked for.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tasks", type=int, default=default_tasks, help="tasks per measurement")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each system")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="systems whose names have these"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    parser.add_argument("--directory", help="where the homes lie: the disk that is measured")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        _be_measured(measure, options)
        return
    systems, notes = chosen(row, options.only)
    found: dict[str, dict[str, list[float]]] = {}
    for repeat in range(options.repeats):
        for system in systems:
            figures = _measure_apart(system, options)
            said = ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())
            print(f"[{repeat + 1}/{options.repeats}] {system.name}: {said}", file=sys.stderr)
            for name, value in figures.items():
                found.setdefault(system.name, {}).setdefault(name, []).append(value)
    print(f"{machine()}; {options.repeats} interleaved repeats, median [min-max]\n")
    print(show(found, options))
    for note in notes:
        print(f"\n{note}")
    if options.json:
        told = {"machine": machine(), "options": vars(options), "figures": found}
        options.json.write_text(json.dumps(told, indent=2, default=str) + "\n")


def _measure_apart(system: type[System], options: argparse.Namespace) -> Figures:
    """One measurement in a fresh process, with a fresh home, all of which is gone afterwards."""
    home = tempfile.mkdtemp(prefix="fxhpc-benchmark-", dir=options.directory)
    command = [sys.executable, os.path.abspath(sys.argv[0]), "--measure", system.name]
    command += ["--tasks", str(options.tasks)]
    path = [str(_HERE), *_source_path(), os.environ.get("PYTHONPATH", "")]
    environ = dict(
        os.environ,
        FXHPC_HOME=os.path.join(home, "fxhpc"),
        FXHPC_FORWARDER_GRACE="0.2",
        PYTHONPATH=os.pathsep.join(filter(None, path)),
        # Parsl looks for its scripts there.
        PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
    )
    try:
        with open(os.path.join(home, "stderr"), "w+") as stderr:
            process = subprocess.run(
                command, env=environ, stdout=subprocess.PIPE, stderr=stderr, timeout=_LIMIT_S
            )
            if process.returncode:
                stderr.seek(0)
                raise SystemExit(f"{system.name} failed:\n{stderr.read()}")
        figures: Figures = json.loads(process.stdout.splitlines()[-1])
        return figures
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _source_path() -> list[str]:
    """The folder of an fxhpc that is not installed."""
    import fxhpc

    folder = str(Path(fxhpc.__file__).parents[1])
    return [] if folder.endswith("-packages") else [folder]


def _be_measured(
    measure: Callable[[System, argparse.Namespace], Figures], options: argparse.Namespace
) -> None:
    # A subreaper: what a system detaches stays below this process, and is counted.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    system = next(system for system in ALL if system.name == options.measure)
    os.makedirs(os.environ["FXHPC_HOME"], mode=0o700)
    print(json.dumps(measure(system(), options)))
    _end_all()


def _end_all() -> None:
    """Whatever is still there ends before the next measurement begins."""
    left = psutil.Process().children(recursive=True)
    _, alive = psutil.wait_procs(left, timeout=3.0)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(alive, timeout=3.0)


# --- counters -------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    """Processor time of this process and all below it, those that have ended among them."""
    total = 0.0
    for process in _family():
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            pass
    return total


def memory_bytes() -> int:
    """Proportional set size of this process and all below it, once it no longer changes."""
    before = _memory_now()
    for _ in range(50):
        time.sleep(0.2)
        now = _memory_now()
        if abs(now - before) < 100_000:
            break
        before = now
    return now


def _memory_now() -> int:
    total = 0
    for process in _family():
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            pass
    return total


def _family() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


# --- tables ---------------------------------------------------------------------------------------


def machine() -> str:
    """What the figures were measured on, and with."""
    versions = [f"Python {platform.python_version()}"]
    for name in ("pyzmq", "parsl"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            pass
    return f"{os.cpu_count()} cores ({_processor()}), {', '.join(versions)}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def told(values: Sequence[float], digits: int = 0) -> str:
    """A median with its range: `12,345 [11,000-13,000]`; a dash where nothing was measured."""
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    if len(values) == 1:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} [{low:,.{digits}f}-{high:,.{digits}f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned for those who read it as text."""
    widths = [max(len(row[n]) for row in (header, *rows)) for n in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}{'-' if n == 0 else ':'}" for n, width in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def ratio(values: dict[str, list[float]], peer: dict[str, list[float]] | None, name: str) -> str:
    """How many times a peer's median this is."""
    if not peer or name not in peer or name not in values:
        return "-"
    times: Any = statistics.median(values[name]) / statistics.median(peer[name])
    return f"{times:,.1f}"

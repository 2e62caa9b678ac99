"""The suite's command line: `python -m benchmarks [--quick] [ROW ...]`, from the repository's top.

    python -m benchmarks peers           # once: environments for the peers, by pip
    python -m benchmarks --quick         # all rows, smaller, once each: under 5 minutes
    python -m benchmarks --json FILE --into docs/performance.md   # all, three times: half an hour
    python -m benchmarks throughput latency --only "fxhpc,Pool" --repeats 5

Tables in Markdown go to standard output, what is being measured to standard error. Measurements of
a row take turns: all its systems once, then all of them again. Each has a process and a home of its
own. Figures are medians, with the least and the most in brackets.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import apart, environments
from benchmarks.floors import against_floors
from benchmarks.report import machine
from benchmarks.rows import Case, Found, Row, all_rows
from benchmarks.systems import System, all_systems

#: Between these marks a text has the tables of the last run: `--into FILE`.
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main() -> int:
    """Measure, and print the tables; 1 if something of fxhpc's came to nothing."""
    names = [row.name for row in all_rows()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"{', '.join(names)}; or: peers [NAME ...]"
    )
    parser.add_argument("--quick", action="store_true", help="smaller, once, and fewer peers")
    parser.add_argument("--repeats", type=int, help="measurements of each system: 3, or 1 if quick")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="systems with these in the name"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="a text with marks for the tables"
    )
    parser.add_argument("--directory", help="where the homes lie: the disk that is measured")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=NUMBER", help="of a row: tasks=1000"
    )
    options = parser.parse_args()
    if options.rows[:1] == ["peers"]:
        return 0 if environments.install(options.rows[1:]) else 1
    if unknown := set(options.rows) - set(names):
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    try:
        settings = {name: float(value) for name, value in (one.split("=") for one in options.set)}
    except ValueError:
        parser.error("--set is NAME=NUMBER")
    repeats = options.repeats or (1 if options.quick else 3)
    environments.compile_checkout()
    suite = Suite(options, repeats, settings)
    parts: list[str] = []

    def say(part: str) -> None:
        print(f"\n{part}" if parts else part, flush=True)
        parts.append(part)

    say(f"{suite.machine}; {repeats} x, in turn; medians [min-max].")
    for row in all_rows():
        if not options.rows or row.name in options.rows:
            say(f"### {row.title}\n\n{row.about}\n\n{suite.measure(row)}")
    if compared := against_floors(suite.found):
        say(f"### Against the floors\n\n{compared}")
    say(f"Versions: {suite.versions_told()}.")
    if options.into:
        put_into(options.into, "\n\n".join(parts))
    if options.json:
        options.json.write_text(json.dumps(suite.told(), indent=1, default=str) + "\n")
    return suite.failed


def put_into(text: Path, tables: str) -> None:
    """Put the tables between the marks that a text has for them."""
    before, _, rest = text.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    text.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}")


class Suite:
    """What was measured so far.

    Attributes:
        found: by row.
        versions: of what was measured, by system and distribution.
        failed: 1 if a measurement of fxhpc's came to nothing.
    """

    def __init__(
        self, options: argparse.Namespace, repeats: int, settings: dict[str, float]
    ) -> None:
        self.found: dict[str, Found] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.failed = 0
        self.machine = machine()  # as it was before there was anything to measure
        self._options = options
        self._repeats = repeats
        self._settings = settings
        self._took: dict[str, float] = {}
        self._notes: dict[str, list[str]] = {}

    def measure(self, row: Row) -> str:
        """Measure a row: its table, and notes on what is not in it."""
        began = time.monotonic()
        found = self.found.setdefault(row.name, {})
        notes = self._notes.setdefault(row.name, [])
        missing = set()
        cases = []
        for case in map(self._changed, row.cases(list(self._systems(row)), self._options.quick)):
            needs = (case.system.environment, case.system.needs)
            if environments.interpreter(*needs) is not None:
                cases.append(case)
                found[case.system.name, case.label] = {}
            elif case.system not in missing:
                missing.add(case.system)
                notes.append(
                    f"{case.system.name}: not installed; `python -m benchmarks peers {needs[0]}`"
                )
        given_up: set[tuple[str, str]] = set()
        for repeat in range(self._repeats):
            for case in cases:
                place = (case.system.name, case.label)
                once = row.peers_once and case.system.environment
                if repeat >= (1 if once else case.repeats) or place in given_up:
                    continue
                turn = f"[{row.name} {repeat + 1}/{self._repeats}] {' '.join(place).strip()}"
                try:
                    figures = self._one(row, case)
                except apart.Failed as failed:
                    print(f"{turn}: {failed}", file=sys.stderr)
                    notes.append(f"{' '.join(place).strip()}: came to nothing: {failed}")
                    given_up.add(place)
                    if case.system.needs == "fxhpc":
                        self.failed = 1
                    continue
                said = ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())
                print(f"{turn}: {said}", file=sys.stderr, flush=True)
                for name, value in figures.items():
                    found[place].setdefault(name, []).append(value)
        for place in [place for place, values in found.items() if not values]:
            del found[place]
        self._took[row.name] = time.monotonic() - began
        print(f"[{row.name}] {self._took[row.name]:.0f} s", file=sys.stderr)
        return "\n".join([row.show(found), *(f"\n{note}" for note in notes)])

    def told(self) -> dict[str, Any]:
        """Everything, for JSON."""
        figures = {
            row: [
                {"system": system, "case": label, "figures": values}
                for (system, label), values in found.items()
            ]
            for row, found in self.found.items()
        }
        return {
            "machine": self.machine,
            "interpreter": sys.version,
            "versions": self.versions,
            "options": vars(self._options),
            "seconds": self._took,
            "notes": self._notes,
            "rows": figures,
        }

    def versions_told(self) -> str:
        """Each distribution's versions, with a system that has it where there are several."""
        users: dict[str, dict[str, str]] = {}
        for system, versions in self.versions.items():
            for name, version in versions.items():
                users.setdefault(name, {}).setdefault(version, system)
        return ", ".join(
            f"{name} {version}" + (f" ({system})" if len(found) > 1 else "")
            for name, found in sorted(users.items())
            for version, system in found.items()
        )

    def _one(self, row: Row, case: Case) -> dict[str, float]:
        done = apart.measure(row, case, self._options.directory)
        self.versions[case.system.name] = done["versions"]
        figures: dict[str, float] = done["figures"]
        return figures

    def _systems(self, row: Row) -> Iterator[type[System]]:
        words = [word.strip().lower() for word in self._options.only.split(",") if word.strip()]
        for system in all_systems():
            rows = system.rows
            if self._options.quick and system.quick_rows is not None:
                rows = system.quick_rows
            if row.name not in rows:
                continue
            if not words or any(word in system.name.lower() for word in words):
                yield system

    def _changed(self, case: Case) -> Case:
        """The case with what `--set` says, as far as it has such settings, and named so."""
        changes = {name: value for name, value in self._settings.items() if name in case.settings}
        label = case.label
        for name, value in changes.items():
            if label == f"{case.settings[name]:,}":
                label = f"{value:,.0f}"
        return case._replace(label=label, settings={**case.settings, **changes})


if __name__ == "__main__":
    sys.exit(main())

"""Random kills under five workloads at once: `python -m benchmarks.chaos --seconds 600 --seed 1`.

Prints a Markdown table: what was submitted, how it ended, what was killed, and how much longer it
took than the same work in peace. Ends with 1, and the stories, if anything was lost, hung, failed
or ran twice. Run it from the top directory of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fxhpc.forwarder.attach import module_environment
from fxhpc.testing import workloads

#: Seconds of the quiet run, and beyond a workload's own time until it is given up.
_QUIET_S, _BEYOND_S = 30.0, 400.0

#: Seconds without any outcome, when nothing is killed any more, until what is missing counts as
#: hanging: longer than whatever is waited for on purpose.
_PATIENCE_S = 120.0


def main() -> int:
    """Measure, and print the table; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=_seconds, default=600.0, help="of kills")
    parser.add_argument("--every", type=_seconds, default=2.0, help="seconds between kills, mean")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="WORDS", help="workloads that have these")
    parser.add_argument("--directory", help="where the homes lie")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        _be_measured(options)
        return 0
    names = [name for name in workloads.ALL if options.only in name]
    if not names:
        parser.error(
            f"--only: no workload has {options.only!r}; there are {'; '.join(workloads.ALL)}"
        )
    quiet = _all(names, options, min(_QUIET_S, options.seconds), quiet=True)
    found = _all(names, options, options.seconds, quiet=False)
    print(
        f"{options.seconds:.0f} s of kills, one each {options.every:g} s on average in each "
        f"workload, seed {options.seed}, {len(names)} workloads at once, {os.cpu_count()} cores\n"
    )
    print(_table(found, quiet))
    broken = [name for name, one in found.items() if not one["is_clean"]]
    for name in broken:
        print(f"\n{name}:\n{found[name]['story']}", file=sys.stderr)
    return bool(broken)


def _seconds(text: str) -> float:
    found = float(text)
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return found


def _all(
    names: list[str], options: argparse.Namespace, seconds: float, quiet: bool
) -> dict[str, dict[str, Any]]:
    """Run workloads at the same time: what each came to."""
    running = {}
    for place, name in enumerate(names):
        command = [sys.executable, "-m", "benchmarks.chaos", "--measure", name]
        command += ["--seconds", str(seconds), "--every", str(options.every)]
        command += ["--seed", str(options.seed + place)] + ["--quiet"] * quiet
        command += ["--directory", options.directory] * bool(options.directory)
        running[name] = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=module_environment()
        )
    found = {}
    for name, process in running.items():
        try:
            out, _ = process.communicate(timeout=seconds + _BEYOND_S)
            found[name] = json.loads(out.splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
            process.kill()
            story = f"it came to no end: {error!r}"
            nothing = dict.fromkeys(("submitted", "ended", "lost", "failed", "hung"), 0)
            nothing |= dict.fromkeys(("twice", "again", "unexplained", "rate"), 0)
            found[name] = {"is_clean": False, "story": story, "kills": {}, "dying": [], **nothing}
    return found


def _be_measured(options: argparse.Namespace) -> None:
    """Run one workload, in this process: its figures as a line of JSON."""
    os.environ.setdefault("FXHPC_FORWARDER_GRACE", "2")
    with tempfile.TemporaryDirectory(
        prefix="fxhpc-chaos-", dir=options.directory, ignore_cleanup_errors=True
    ) as directory:
        plan = workloads.Plan(
            Path(directory),
            options.seconds,
            options.every,
            options.seed,
            quiet=options.quiet,
            patience_s=_PATIENCE_S,
        )
        figures = workloads.ALL[options.measure](plan)
    account = figures.account
    told = {
        "submitted": account.submitted,
        "ended": account.ended,
        "lost": len(account.lost),
        "failed": len(account.failed) + len(figures.errors),
        "hung": len(account.hung),
        "twice": len(account.twice),
        "again": account.again,
        "unexplained": len(account.unexplained),
        "dying": account.dying_s,
        "kills": dict(figures.chaos.counts),
        "rate": figures.rate(),
        "is_clean": account.is_clean() and not figures.errors,
        "story": figures.tell(),
    }
    print(json.dumps(told))


def _table(found: dict[str, dict[str, Any]], quiet: dict[str, dict[str, Any]]) -> str:
    kinds = sorted({kind for one in found.values() for kind in one["kills"]})
    columns = ("submitted", "ended", "lost", "failed", "hung", "twice", "unexplained", "again")
    words = {"twice": "run twice by live attempts", "again": "run again after a kill"}
    head = ["workload", *(words.get(name, name) for name in columns), *(f"{k} hit" for k in kinds)]
    head += ["tasks/s", "in peace", "makespan"]
    lines = [_line(head), "|---|" + "---:|" * (len(head) - 1)]
    for name, one in found.items():
        peace = quiet[name]["rate"]
        cells = [name, *(f"{one[column]:,}" for column in columns)]
        cells += [f"{one['kills'].get(kind, 0):,}" for kind in kinds]
        ratio = f"x {peace / one['rate']:.1f}" if one["rate"] else "-"
        cells += [f"{one['rate']:.0f}", f"{peace:.0f}", ratio]
        lines.append(_line(cells))
    dying = [seconds for one in found.values() for seconds in one["dying"]]
    if dying:
        lines.append(
            f"\n{len(dying)} tasks ran again while their worker was dying with its manager, the "
            f"longest for {1000 * max(dying):.0f} ms."
        )
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())

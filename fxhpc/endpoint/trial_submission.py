"""Asks the batch system whether it would take a job, without submitting one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator

from fxhpc.durations import parse_duration
from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding
from fxhpc.protocol.provision import ProvisionerSpec
from fxhpc.units import format_duration

_LIMIT_S = 20.0
_OUTPUT = re.compile(r"^#SBATCH --(?:output|error)=.*\n", re.MULTILINE)
#: What Slurm says if it is away, and not the job wrong.
_AWAY = ("unable to contact", "connection refused", "timed out", "connection timed", "try again")


def tried(spec: ProvisionerSpec, script: str) -> Iterator[Finding]:
    """What the batch system says of a job's script. Only Slurm can be asked."""
    if spec.provider.get("type") != "SlurmProvider":
        return
    what = "the job"
    if spec.walltime_s and not spec.provider.get("clusters"):
        yield from _within_limits(str(spec.provider.get("partition") or ""), spec.walltime_s)
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        # Where it would write does not matter, and is shown for people, without the shell's quotes.
        file.write(_OUTPUT.sub("", script))
        file.flush()
        try:
            done = subprocess.run(
                ["sbatch", "--test-only", file.name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LIMIT_S,
                check=False,
            )
        except FileNotFoundError:
            return  # that is told already
        except (OSError, subprocess.SubprocessError) as error:
            yield Finding(WARNING, what, f"`sbatch --test-only` gave no answer: {error}")
            return
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    words = " | ".join(lines)[:500]
    if done.returncode == 0:
        yield Finding(OK, what, f"Slurm would take it: {words or 'it says nothing more'}")
    elif any(word in words.lower() for word in _AWAY):
        yield Finding(WARNING, what, f"Slurm cannot be asked now: {words}")
    else:
        yield Finding(
            PROBLEM,
            what,
            f"Slurm would refuse it: {words or f'exit code {done.returncode}'}",
            "mend the provider's keys in config.yaml: partition, account, qos, walltime, nodes",
        )


def _within_limits(partitions: str, walltime_s: float) -> Iterator[Finding]:
    """Most sites' Slurm takes a job that is longer than its partition allows, and never starts it.

    Args:
        partitions: names by commas; empty: the default one.
    """
    try:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%P|%l"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return  # whether Slurm can be asked is told by the other question
    wanted = set(partitions.split(",")) if partitions else set()
    limits = {}
    for line in done.stdout.splitlines():
        name, _, limit = line.strip().partition("|")
        if (name.rstrip("*") in wanted) if wanted else name.endswith("*"):
            try:
                limits[name.rstrip("*")] = parse_duration(limit)
            except ValueError:
                return  # "infinite"
    if limits and all(walltime_s > limit for limit in limits.values()):
        most = ", ".join(f"{name}: {format_duration(limit)}" for name, limit in limits.items())
        yield Finding(
            PROBLEM,
            "walltime",
            f"{format_duration(walltime_s)} is longer than the partition allows ({most}): such a "
            f"job waits for ever",
            "write a shorter `walltime`, or name another partition",
        )

"""Asks the batch system whether it would take a job, without submitting one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator

from fxhpc.endpoint.check import OK, PROBLEM, WARNING, Finding

_LIMIT_S = 20.0
_OUTPUT = re.compile(r"^#SBATCH --(?:output|error)=.*\n", re.MULTILINE)
#: What Slurm says if it is away, and not the job wrong.
_AWAY = ("unable to contact", "connection refused", "timed out", "connection timed", "try again")


def tried(provider: str, script: str) -> Iterator[Finding]:
    """What the batch system says of a job's script. Only Slurm can be asked."""
    if provider != "SlurmProvider":
        return
    what = "the job"
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

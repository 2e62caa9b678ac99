"""A batch system that answers as PBS Pro does: its jobs are processes of this host.

`qsub`, `qstat`, `qdel` and `qselect` beside this file are its commands; put this directory in front
of PATH, and name a directory of its own in PBS_STANDIN. There lie:

* `jobs/N.json`: the jobs, those that have ended too;
* `calls`: a line for each command that was run;
* `slots`: how many jobs run at once, 2 if it is not there;
* `queues`: the names of its queues, if it is to refuse others;
* `fault` or `fault.COMMAND`: what goes wrong: `down` (no server), `hang`, `garbage`, `slow`
  (a second), or `lost` (qsub: the job is made, and its answer never comes).

As with PBS, a job starts in the home directory with an environment of its own, its output is
copied to where it belongs when it has ended, and jobs that have ended are still known.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SERVER = "pbs"
KILL_DELAY_S = 2.0

Job = dict[str, Any]


def state_directory() -> Path:
    """Where everything is kept."""
    directory = Path(os.environ["PBS_STANDIN"])
    (directory / "jobs").mkdir(parents=True, exist_ok=True)
    return directory


def begin(tool: str) -> Path:
    """Note the call, and go wrong as it was asked for; else the directory."""
    directory = state_directory()
    with open(directory / "calls", "a") as file:
        file.write(f"{tool} {' '.join(sys.argv[1:])}\n")
    fault = _read(directory / f"fault.{tool}") or _read(directory / "fault")
    if fault == "down":
        print("Connection refused", file=sys.stderr)
        print(f"{tool}: cannot connect to server {SERVER} (errno=111)", file=sys.stderr)
        sys.exit(111)
    if fault == "hang":
        while True:
            signal.pause()
    if fault == "garbage":
        print("<html>the batch system is being replaced</html>")
        sys.exit(0)
    if fault == "slow":
        time.sleep(1.0)
    return directory


def faulty(directory: Path, fault: str) -> bool:
    """Whether `fault` was asked for."""
    return fault in (_read(directory / "fault.qsub"), _read(directory / "fault"))


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One command at a time."""
    with open(directory / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def jobs(directory: Path) -> dict[str, Job]:
    """All jobs by their full ids."""
    found = sorted((directory / "jobs").glob("*.json"), key=lambda path: int(path.stem))
    return {f"{path.stem}.{SERVER}": json.loads(path.read_text()) for path in found}


def write(directory: Path, job: Job) -> None:
    """Keep a job."""
    path = directory / "jobs" / f"{job['number']}.json"
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(job))
    draft.replace(path)


def find(directory: Path, name: str) -> Job | None:
    """The job of an id, in full or short."""
    return jobs(directory).get(f"{name.partition('.')[0]}.{SERVER}")


def schedule(directory: Path) -> None:
    """Start what waits, as far as there is room. Under the lock."""
    slots = int(_read(directory / "slots") or 2)
    known = jobs(directory)
    running = sum(job["state"] == "R" for job in known.values())
    for job in known.values():
        if job["state"] != "Q":
            continue
        if running < slots:
            running += 1
            job["state"], job["comment"] = "R", f"Job run at {time.ctime()} on (node1:ncpus=1)"
            write(directory, job)
            _start(directory, job)
        else:
            job["comment"] = "Not Running: Insufficient amount of resource: ncpus"
            write(directory, job)


def directives(script: str) -> dict[str, str]:
    """What the lines `#PBS -x value` say; of `-l` by the resource's name."""
    found: dict[str, str] = {}
    for option, value in re.findall(r"^#PBS -(\w)\s*(.*)$", script, re.MULTILINE):
        if option == "l":
            for part in value.split(","):
                key, _, amount = part.partition("=")
                found[key.strip()] = amount.strip()
        else:
            found[option] = value.strip()
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _start(directory: Path, job: Job) -> None:
    """A process of its own looks after the job; nobody waits for it."""
    subprocess.Popen(
        [sys.executable, __file__, str(directory), str(job["number"])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        close_fds=True,
    )


def _run(directory: Path, job: Job) -> None:
    """Run the job to its end, as a node's PBS does."""
    number = f"{job['number']}.{SERVER}"
    with tempfile.TemporaryDirectory(dir=directory) as spool:
        out, err, nodes = (Path(spool, name) for name in ("OU", "ER", "nodes"))
        nodes.write_text("localhost\n")
        environ = {
            "HOME": os.path.expanduser("~"),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PBS_ENVIRONMENT": "PBS_BATCH",
            "PBS_JOBID": number,
            "PBS_JOBNAME": job["name"],
            "PBS_NODEFILE": str(nodes),
            "PBS_O_WORKDIR": job["cwd"],
            "NCPUS": job["ncpus"],
        }
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            process = subprocess.Popen(
                ["/bin/bash", str(directory / "jobs" / f"{job['number']}.script")],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environ,
                cwd=environ["HOME"],
                start_new_session=True,
            )
            status = _wait(directory, job, process, stderr.fileno())
        with locked(directory):
            for source, target in ((out, job["out"]), (err, job["err"])):
                with contextlib.suppress(OSError):
                    Path(target).write_bytes(source.read_bytes())
            job = json.loads((directory / "jobs" / f"{job['number']}.json").read_text())
            job["state"], job["exit_status"] = "F", status
            job["comment"] = f"Job run and {'failed' if status else 'finished'}"
            write(directory, job)
            schedule(directory)


def _wait(directory: Path, job: Job, process: subprocess.Popen[bytes], stderr: int) -> int:
    deadline = time.monotonic() + job["walltime"]
    cancelled = directory / "jobs" / f"{job['number']}.deleted"
    kill_at = float("inf")
    while True:
        try:
            status = process.wait(0.05)
            _signal(process, signal.SIGKILL)  # whatever the script has left behind
            return status if status >= 0 else 256 - status
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if now > kill_at:
            _signal(process, signal.SIGKILL)
        elif kill_at == float("inf") and (now > deadline or cancelled.exists()):
            if now > deadline:
                os.write(stderr, b"=>> PBS: job killed: walltime exceeded limit\n")
            kill_at = now + KILL_DELAY_S
            _signal(process, signal.SIGTERM)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To all processes of the job: those of its session."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == process.pid:
                os.kill(int(entry.name), number)


if __name__ == "__main__":
    _directory = Path(sys.argv[1])
    _run(_directory, json.loads((_directory / "jobs" / f"{sys.argv[2]}.json").read_text()))

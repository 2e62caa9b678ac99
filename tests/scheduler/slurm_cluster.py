"""A real Slurm of several nodes on this machine: starts it, breaks it, looks at its jobs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.waiting import eventually

_SCRIPTS = Path(__file__).resolve().parent / "slurm"
_PREFIX = "fxhpc-slurm-"
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

#: Seconds that a command of the cluster may take before it counts as hanging.
COMMAND_S = 60.0


@dataclass(frozen=True)
class Job:
    """A job that Slurm has not seen the end of."""

    id: str
    name: str
    state: str  # PENDING, RUNNING, CONFIGURING ...
    reason: str
    nodes: str


@dataclass(frozen=True)
class Call:
    """A command of Slurm that somebody ran on the login node."""

    command: str  # sbatch, squeue, scancel, ...
    at: float  # wall clock, seconds since the epoch
    arguments: str


class SlurmCluster:
    """A cluster; `start` before anything else, `close` at the end.

    Attributes:
        environment: what a process needs to have in its environment to find the cluster. The
            commands that it finds first on its PATH are stand-ins that note each call.
        host_ip: where nodes reach this machine.
    """

    def __init__(self, nodes: int = 4) -> None:
        _sweep()
        self.nodes = [f"node{number}" for number in range(1, nodes + 1)]
        self.number, self._claim = _free_number()
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.directory.chmod(0o755)  # nodes and other users find the configuration here
        (self.directory / "owner").write_text(f"{os.getpid()} {psutil.Process().create_time()}")
        self.calls_log = self.directory / "calls"
        self.calls_log.touch()
        self.calls_log.chmod(0o666)
        self.host_ip = f"10.213.{self.number}.254"
        path = os.environ["PATH"]
        self._scripts_environment = {
            **{name: value for name, value in os.environ.items() if name[:6] != "SLURM_"},
            "SLURM_TEST_ID": str(self.number),
            "SLURM_TEST_DIR": str(self.directory),
            "SLURM_CONF": str(self.directory / "etc" / "slurm.conf"),
        }
        self.environment = {
            "SLURM_CONF": self._scripts_environment["SLURM_CONF"],
            "FXHPC_TEST_CALLS": str(self.calls_log),
            "FXHPC_TEST_REAL_PATH": path,
            "PATH": f"{self.directory / 'bin'}:{path}",
        }

    def start(self) -> None:
        """Bring it up. Nodes that went away come back."""
        commands = self.directory / "bin"
        if not commands.exists():
            commands.mkdir()
            shutil.copy(_SCRIPTS / "noted-command", commands / "noted-command")
            (commands / "noted-command").chmod(0o755)
            for name in ("sbatch", "squeue", "scancel", "qsub", "qstat", "qdel", "scontrol"):
                (commands / name).symlink_to("noted-command")
        self._script("slurm-up", str(len(self.nodes)))

    def close(self) -> None:
        """Take it down, and remove all its files."""
        self._script("slurm-down", "-c")
        self._claim.close()

    # --- what can happen to it --------------------------------------------------------------------

    def kill(self, node: str) -> None:
        """A power failure of a node; of "controller": kill -9 of slurmctld."""
        self._script("slurm-node", "kill", node)

    def stop(self, node: str) -> None:
        """End a node, or slurmctld ("controller"), by SIGTERM."""
        self._script("slurm-node", "stop", node)

    def boot(self, node: str) -> None:
        """Start a node, or slurmctld, again."""
        self._script("slurm-node", "start", node)

    def cut(self, node: str) -> None:
        """Cut a node off the network; what runs on it goes on."""
        self._script("slurm-node", "cut", node)

    def restore(self, node: str) -> None:
        """Plug the cable in again."""
        self._script("slurm-node", "restore", node)

    def on_node(self, node: str, *command: str) -> str:
        """Run a command on a node: what it printed."""
        return self._script("slurm-node", "exec", node, *command)

    def heal(self) -> None:
        """All nodes up and idle, no job, no call noted: as a test finds it."""
        for node in self.nodes:
            with contextlib.suppress(AssertionError):
                self.restore(node)
        self.answer_late(False)
        self.boot("controller")
        for node in self.nodes:
            self.boot(node)
        eventually(self.answers)
        self.cancel_all()

        def idle() -> bool:
            states = dict(line.split() for line in self._ask("sinfo", "-h", "-N", "-o", "%N %t"))
            for node in self.nodes:
                state = states.get(node, "").rstrip("*")
                with contextlib.suppress(AssertionError):
                    if state == "comp":  # it waits for a node's word that was lost
                        self.slurm(
                            "scontrol", "update", f"nodename={node}", "state=down", "reason=test"
                        )
                    if state in ("down", "drain", "drng", "comp"):
                        self.slurm("scontrol", "update", f"nodename={node}", "state=resume")
            return all(states.get(node) == "idle" for node in self.nodes)

        if not idle():
            eventually(idle, 120, every=0.3)
        self.calls_log.write_text("")

    def processes(self) -> list[str]:
        """What runs on the nodes beside Slurm's own daemons, in words."""
        spaces = {}
        for node in self.nodes:
            with contextlib.suppress(AssertionError):
                spaces[self.on_node(node, "readlink", "/proc/1/ns/pid").strip()] = node
        found = []
        for process in psutil.process_iter():
            try:
                node = spaces.get(os.readlink(f"/proc/{process.pid}/ns/pid"))
                words = " ".join(process.cmdline())
                if node and process.status() != psutil.STATUS_ZOMBIE and not _of_slurm(words):
                    found.append(f"{node}: {process.pid} {words[:300]}")
            except (psutil.Error, OSError):
                continue  # it has ended meanwhile
        return found

    # --- its jobs ---------------------------------------------------------------------------------

    def slurm(self, *command: str) -> str:
        """Run a command of Slurm, as root, without noting it: what it printed."""
        done = subprocess.run(
            command,
            env=self._scripts_environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def answers(self) -> bool:
        """Whether slurmctld answers."""
        try:
            self.slurm("scontrol", "ping")
            self.slurm("squeue", "-h")
        except AssertionError:
            return False
        return True

    def jobs(self) -> list[Job]:
        """All that have not ended, in the order of their numbers.

        Those that are COMPLETING have: Slurm cleans up behind them, for a minute if it was away.
        """
        lines = self._ask("squeue", "-h", "-t", "PD,R,S,CF,RQ", "-o", "%i|%j|%T|%r|%N")
        return sorted(
            (Job(*line.split("|")) for line in lines), key=lambda job: int(job.id.split("_")[0])
        )

    def job_ids(self, state: str = "") -> list[str]:
        """The numbers of those in this state, or of all that have not ended."""
        return [job.id for job in self.jobs() if state in ("", job.state)]

    def cancel(self, job: str) -> None:
        """scancel, by somebody else."""
        self.slurm("scancel", job)

    def occupy(self, node: str) -> str:
        """A job of a stranger that has a node for itself: its number."""
        options = ("--parsable", "--exclusive", "-w", node, "-o", "/dev/null")
        job = self.slurm("sbatch", *options, "--wrap", "sleep 600").strip()
        eventually(lambda: job in self.job_ids("RUNNING"))
        return job

    def cancel_all(self) -> None:
        """Cancel all jobs and wait until they are gone."""
        jobs = self.job_ids()
        if jobs:
            self.slurm("scancel", *jobs)
        eventually(lambda: not self.jobs(), within=60)

    def ends(self) -> dict[str, str]:
        """How the jobs ended that did: Slurm's word by number."""
        log = self.directory / "log" / "jobcomp.log"
        found: dict[str, str] = {}
        for line in log.read_text().splitlines() if log.exists() else []:
            facts = dict(part.split("=", 1) for part in line.split() if "=" in part)
            found[facts["JobId"]] = facts["JobState"]
        return found

    def answer_late(self, late: bool) -> None:
        """Whether sbatch says only after 5 s that it has submitted a job."""
        mark = self.calls_log.with_name(self.calls_log.name + ".late")
        mark.touch() if late else mark.unlink(missing_ok=True)

    def calls(self, command: str = "sbatch", since: float = 0.0) -> list[Call]:
        """What users' processes have asked Slurm since then."""
        found = []
        for line in self.calls_log.read_text().splitlines():
            at, name, arguments = line.split("\t", 2)
            if name == command and float(at) >= since:
                found.append(Call(name, float(at), arguments))
        return found

    def _ask(self, *command: str) -> list[str]:
        return self.slurm(*command).splitlines()

    def _script(self, name: str, *arguments: str) -> str:
        # What it leaves running belongs to nobody here: not to tests that look at their children.
        with _no_subreaper():
            done = subprocess.run(
                [str(_SCRIPTS / name), *arguments],
                env=self._scripts_environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=600 if name == "slurm-up" else COMMAND_S,
            )
        assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout


def _of_slurm(command: str) -> bool:
    return any(part in command for part in ("slurm-node _init", "slurmd ", "slurmstepd: "))


@contextlib.contextmanager
def _no_subreaper() -> Iterator[None]:
    libc = ctypes.CDLL(None)
    before = ctypes.c_int(0)
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def _free_number() -> tuple[int, socket.socket]:
    """A cluster's number that nobody uses, and what claims it as long as this process lives."""
    wanted = os.environ.get("SLURM_TEST_ID")
    for number in [int(wanted)] if wanted else range(100, 250):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0fxhpc-slurm-test-{number}")
        except OSError:
            claim.close()
            continue
        if wanted or not Path(f"/sys/class/net/slurmbr{number}").exists():
            return number, claim
        claim.close()
    raise AssertionError("no number for a test cluster is free")


def _sweep() -> None:
    """Take down clusters whose tests were killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            pid, started = (directory / "owner").read_text().split()
            if psutil.Process(int(pid)).create_time() == float(started):
                continue
        except (OSError, ValueError):
            continue  # being made, or not ours
        except psutil.NoSuchProcess:
            pass
        environment = {**os.environ, "SLURM_TEST_DIR": str(directory)}
        environment.pop("SLURM_TEST_ID", None)
        subprocess.run([_SCRIPTS / "slurm-down", "-c"], env=environment, timeout=COMMAND_S)

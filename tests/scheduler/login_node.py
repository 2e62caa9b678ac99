"""Somebody on the login node: her home, her Python, the commands that she runs, her endpoints."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml
from slurm_cluster import SlurmCluster

from fxhpc.forwarder.home import Home
from tests.process.homes import living
from tests.waiting import eventually

_PR_SET_CHILD_SUBREAPER = 36

#: Seconds that a command may take in a test before it counts as hanging.
LIMIT = 90.0

#: What nearly all endpoints of these tests have in common: fast answers for small work.
_QUICK: dict[str, Any] = {
    "heartbeat_period": 2,
    "poll_interval": 2,
    "engine": {
        "max_workers_per_node": 2,
        "strategy": {"type": "SimpleStrategy", "max_idletime": 600},
        "provider": {
            "type": "SlurmProvider",
            "partition": "normal",
            "walltime": "00:10:00",
            "nodes_per_block": 1,
            "init_blocks": 0,
            "min_blocks": 0,
            "max_blocks": 1,
            "launcher": {"type": "SingleNodeLauncher"},
        },
    },
}


def configuration(engine: Mapping[str, Any] = {}, **provider: Any) -> str:
    """An endpoint's YAML: that of these tests, with these keys of the engine and the provider."""
    made: dict[str, Any] = json.loads(json.dumps(_QUICK))
    made["engine"].update(engine)
    made["engine"]["provider"].update(provider)
    return yaml.safe_dump(made, sort_keys=False)


class CommandFailed(AssertionError):
    """A command of fxhpc ended with another exit code than the test wants."""


class LoginNode:
    """A user's login session on the machine that submits to a cluster.

    Args:
        home: FXHPC_HOME.
        work: where her scripts lie.
        python: an interpreter that has fxhpc, and that she may run.
        user: another user than the tests' own, or none.
    """

    def __init__(
        self, cluster: SlurmCluster, home: Path, work: Path, python: str, user: str = ""
    ) -> None:
        self.cluster = cluster
        self.home = home
        self.work = work
        self.python = python
        self.user = user
        self.environment = {
            **{name: value for name, value in os.environ.items() if name[:6] != "SLURM_"},
            **cluster.environment,
            "FXHPC_HOME": str(home),
            "FXHPC_FORWARDER_GRACE": "1",
        }
        if user:
            self.environment.update(HOME=f"/home/{user}", USER=user, LOGNAME=user)
        self.started = time.time()
        self.endpoints: list[Endpoint] = []
        self._started: list[subprocess.Popen[str]] = []
        # Whatever is orphaned becomes a child of this process: nothing escapes `processes`.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    # --- what she runs ----------------------------------------------------------------------------

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Run a command, and go on."""
        as_user: dict[str, Any] = {}
        if self.user:
            as_user = {"user": self.user, "group": self.user, "extra_groups": []}
        process = subprocess.Popen(
            command,
            env=self.environment,
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **as_user,
        )
        self._started.append(process)
        return process

    def run(self, *command: str, within: float = LIMIT) -> tuple[int, str, str]:
        """Run a command to its end: exit code, what it printed, and its messages."""
        process = self.start(*command)
        try:
            out, err = process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise CommandFailed(
                f"{' '.join(command)} did not end within {within} s\n{out}\n{err}"
            ) from None
        return process.returncode, out, err

    def fxhpc(self, *arguments: str, code: int = 0, within: float = LIMIT) -> str:
        """Run a command of fxhpc, which must end with this code: what it printed."""
        found, out, err = self.run(self.python, "-m", "fxhpc.cli.main", *arguments, within=within)
        if found != code:
            raise CommandFailed(
                f"fxhpc {' '.join(arguments)} ended with {found}, not {code}\n{out}\n{err}"
            )
        return out + err

    def fxhpc_json(self, *arguments: str, code: int = 0) -> Any:
        """The same with --json: the document."""
        out = self.fxhpc(*arguments, "--json", code=code)
        return json.loads(out)

    def script(self, name: str, code: str) -> Path:
        """A file of hers."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
        path.chmod(0o755)
        return path

    def python_script(self, code: str, *arguments: str, within: float = LIMIT) -> str:
        """Run a Python script of hers, which must end well: what it printed."""
        script = self.script("script.py", code)
        found, out, err = self.run(self.python, str(script), *arguments, within=within)
        assert found == 0, f"ended with {found}\n{out}\n{err}"
        return out

    def endpoint(self, name: str, config: str) -> Endpoint:
        """An endpoint with this configuration; not started."""
        made = Endpoint(self, name, config)
        self.endpoints.append(made)
        return made

    # --- what is left of it -----------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Everything alive on this host that the tests have started, however far it went."""
        return living({process.pid for process in self._started})

    def titled(self, *titles: str) -> list[psutil.Process]:
        """Those whose titles begin with one of these: "fxhpc: supervisor"."""
        return [process for process in self.processes() if told(process, titles)]

    def kill(self, *titles: str) -> None:
        """kill -9 of these."""
        for process in self.titled(*titles):
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        eventually(lambda: not self.titled(*titles))

    def close(self) -> None:
        """End everything, and see that it left nothing: no job, no process, no socket."""
        stopped: list[str] = []
        for endpoint in self.endpoints:
            try:
                endpoint.stop_if_running()
            except CommandFailed as error:
                stopped.append(str(error))
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait(LIMIT)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self.cluster.boot("controller")
        eventually(self.cluster.answers)
        try:
            assert not stopped, "\n".join(stopped)
            self.check_nothing_left()
        finally:
            for left in self.processes():
                with contextlib.suppress(psutil.Error):
                    left.kill()
            owner = Home(self.home).read_owner() if self.home.exists() else None
            if owner is not None:  # killed, and nobody needed another
                sockets = os.path.dirname(owner.clients.removeprefix("ipc://"))
                shutil.rmtree(sockets, ignore_errors=True)

    def check_nothing_left(self, within: float = 30.0) -> None:
        """No job, no process here or on a node."""
        eventually(
            lambda: (
                not self.cluster.jobs() and not self.processes() and not self.cluster.processes()
            ),
            within,
            told=lambda: (
                f"left behind: jobs {self.cluster.jobs()}, processes here "
                f"{[title(process) for process in self.processes()]}, "
                f"on nodes {self.cluster.processes()}"
            ),
        )


def title(process: psutil.Process) -> str:
    """A process in words."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid} (ended)"


def told(process: psutil.Process, titles: tuple[str, ...]) -> bool:
    """Whether a process's title begins with one of these."""
    try:
        return " ".join(process.cmdline()).startswith(titles)
    except psutil.Error:
        return False


class Endpoint:
    """A named endpoint, worked with by the commands that people type."""

    def __init__(self, login: LoginNode, name: str, config: str) -> None:
        self.login = login
        self.name = name
        self.directory = login.home / "endpoints" / name
        self.config = self.directory / "config.yaml"
        file = login.script(f"{name}.yaml", config)
        login.fxhpc("endpoint", "configure", name, "--from", str(file))

    @property
    def id(self) -> str:
        """Its UUID."""
        record = json.loads((self.directory / "endpoint.json").read_text())
        return str(record["endpoint"])

    def start(self) -> str:
        """fxhpc endpoint start."""
        return self.login.fxhpc("endpoint", "start", self.name)

    def stop(self, *options: str) -> str:
        """fxhpc endpoint stop."""
        return self.login.fxhpc("endpoint", "stop", self.name, *options)

    def restart(self) -> str:
        """fxhpc endpoint restart."""
        return self.login.fxhpc("endpoint", "restart", self.name)

    def delete(self) -> str:
        """fxhpc endpoint delete."""
        return self.login.fxhpc("endpoint", "delete", self.name, "--yes")

    def stop_if_running(self) -> None:
        """End it without waiting for its tasks, if there is anything to end."""
        if (self.directory / "interchange.json").exists() or self.login.titled(
            f"fxhpc: supervisor {self.name}", f"fxhpc: interchange {self.name}"
        ):
            with contextlib.suppress(CommandFailed):
                self.login.fxhpc("endpoint", "stop", self.name, "--now", code=4)
                return  # it was not running
            if self.login.titled(f"fxhpc: supervisor {self.name}"):
                self.stop("--now")

    def status(self) -> dict[str, Any]:
        """Its status.json; empty if there is none."""
        try:
            found = json.loads((self.directory / "status.json").read_text())
        except (OSError, ValueError):
            return {}
        assert isinstance(found, dict)
        return found

    def logs(self) -> str:
        """All its logs, for a failing test."""
        logs = sorted((self.directory / "logs").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-4000:]}" for log in logs)


def soon(condition: Callable[[], object], within: float = LIMIT) -> object:
    """Wait until something holds, looking a few times a second: what it returned then.

    For conditions that ask Slurm, whose commands take tens of milliseconds.
    """
    return eventually(condition, within, every=0.1)

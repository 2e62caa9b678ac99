"""Parsl's providers and launchers: made from the words of the YAML, used to submit and to cancel.

The only module that imports parsl. All commands that Parsl runs go through `commands`: they have a
limit, and their words are known when they fail.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import os
import re
import shlex
import sys
import tempfile
import types
from collections.abc import Sequence
from typing import Any

import msgspec

from fxhpc.endpoint.launch import SCRIPT, prefix
from fxhpc.endpoint.provisioner import commands
from fxhpc.endpoint.provisioner.commands import CommandError
from fxhpc.endpoint.provisioner.local import Local
from fxhpc.endpoint.provisioner.other import Other
from fxhpc.endpoint.provisioner.pbs import Pbs
from fxhpc.endpoint.provisioner.schedulers import Scheduler
from fxhpc.endpoint.provisioner.scripts import BlockFiles
from fxhpc.endpoint.provisioner.slurm import Slurm
from fxhpc.protocol.provision import BlockRef, JobPhase, ProvisionerSpec

#: Where each provider is, what people call its batch system, and whether jobs see our files.
_PROVIDERS = {
    "SlurmProvider": ("parsl.providers.slurm.slurm", "Slurm"),
    "PBSProProvider": ("parsl.providers.pbspro.pbspro", "PBS"),
    "TorqueProvider": ("parsl.providers.torque.torque", "Torque"),
    "LocalProvider": ("parsl.providers.local.local", "Local"),
    "LSFProvider": ("parsl.providers.lsf.lsf", "LSF"),
    "GridEngineProvider": ("parsl.providers.grid_engine.grid_engine", "Grid Engine"),
    "CondorProvider": ("parsl.providers.condor.condor", "HTCondor"),
    "KubernetesProvider": ("parsl.providers.kubernetes.kube", "Kubernetes"),
    "AWSProvider": ("parsl.providers.aws.aws", "AWS"),
    "AzureProvider": ("parsl.providers.azure.azure", "Azure"),
    "GoogleCloudProvider": ("parsl.providers.googlecloud.googlecloud", "Google Cloud"),
}

#: Their batch systems can be asked how a job has ended.
ASKED = frozenset({"SlurmProvider", "PBSProProvider", "TorqueProvider"})

#: Their jobs run elsewhere: the script is not to be found there.
_FAR_AWAY = frozenset(
    {
        "CondorProvider",
        "KubernetesProvider",
        "AWSProvider",
        "AzureProvider",
        "GoogleCloudProvider",
    }
)

#: What LocalProvider's jobs write beside their scripts.
_LOCAL_OUTPUT = (".out", ".err", ".ec")

#: Packages whose `__init__` imports all of Parsl, half a second's worth; what is wanted of them are
#: single modules.
_SKIPPED = ("parsl", "parsl.providers", "parsl.app")

#: What a batch system says of jobs that are gone already.
_GONE = re.compile(
    r"invalid job id|already completing|already completed|unknown job|has finished|does not exist",
    re.IGNORECASE,
)

#: A path that shells, batch systems and Parsl's texts take as it is.
_PLAIN_PATH = re.compile(r"[\w/.,+:@-]+")


class ProviderError(Exception):
    """The provider cannot be made; the text says why."""


class _Rendered(BaseException):
    """Nothing is submitted: the script is what was wanted. Providers that catch all errors of
    commands do not catch this.
    """


class Batch:
    """One endpoint's access to its batch system.

    Args:
        spec: which provider, and how.
        dry: never run a command: for `render`.

    Raises:
        ProviderError: the provider cannot be made.
    """

    def __init__(self, spec: ProvisionerSpec, dry: bool = False) -> None:
        self._spec = spec
        self._dry = dry
        self._type = str(spec.provider.get("type"))
        if self._type not in _PROVIDERS:
            raise ProviderError(f"there is no provider {self._type!r}")
        self.files = BlockFiles(spec.directory)
        self._script = ""  # the one that is being submitted
        self._last: commands.Answer | None = None
        self._trouble: CommandError | None = None
        self._provider = self._make_provider()
        self.scheduler = self._make_scheduler()

    # --- submitting and cancelling ------------------------------------------------------------

    def submit(self, block: BlockRef) -> str:
        """Submit a job; its id.

        Raises:
            CommandError: the batch system does not take it, in its own words.
        """
        self._last = self._trouble = None
        self.files.forget(block.name)
        far = self._type in _FAR_AWAY
        spooled = self._type not in ("SlurmProvider", "LocalProvider")
        lines = (
            "" if far else prefix(self._spec.directory, block.number, block.name, spooled=spooled)
        )
        self._provider.worker_init = f"{lines}{self._spec.worker_init}\n"
        command = f"env FXHPC_BLOCK={block.number} {self._spec.command}"
        try:
            job = self._provider.submit(command, 1, job_name=block.name)
        except (CommandError, _Rendered):
            raise
        except Exception as error:
            raise self._refusal(error) from error
        if not job:
            raise self._refusal(None)
        return str(job)

    def cancel(self, blocks: Sequence[BlockRef]) -> list[int]:
        """Cancel jobs; the numbers of those that are gone, or were never there.

        Raises:
            CommandError: nothing is known of those.
        """
        if isinstance(self.scheduler, Local):
            return self.scheduler.cancel(blocks)
        for block in blocks:
            if not block.job:
                self.files.cancel(block.name)  # if it appears after all
        jobs = {block.number: block.job for block in blocks if block.job}
        done: list[int] = []
        named = [block for block in blocks if not block.job]
        found = {report.block: report for report in self.scheduler.look(named)} if named else {}
        for block in named:
            report = found.get(block.number)
            if report is None or report.phase in (JobPhase.MISSING, JobPhase.ENDED):
                done.append(block.number)
            else:
                jobs[block.number] = report.job
        if not jobs:
            return done
        if self._cancel(list(jobs.values())):
            return [*done, *jobs]
        failed: CommandError | None = None
        # One that is gone already spoils the command for all.
        for number, job in jobs.items():
            if (len(jobs) > 1 and self._cancel([job])) or self._is_gone():
                done.append(number)
            elif self._last is not None:
                failed = self._last.error()
        if failed is not None and not done:
            raise failed
        return done

    def _cancel(self, jobs: list[str]) -> bool:
        self._last = None
        self.adopt(jobs)
        return all(self._provider.cancel(jobs))

    def _is_gone(self) -> bool:
        return self._last is not None and bool(_GONE.search(self._last.err + self._last.out))

    def adopt(self, jobs: Sequence[str]) -> None:
        """Make the provider know jobs that another process has submitted."""
        status = self._module("parsl.jobs.states")
        for job in jobs:
            self._provider.resources.setdefault(
                job,
                {
                    "job_id": job,
                    "status": status.JobStatus(status.JobState.PENDING),
                    "job_stdout_path": None,
                    "job_stderr_path": None,
                },
            )

    def _refusal(self, error: Exception | None) -> CommandError:
        """Why a submission failed: the batch system's words, where it has said any."""
        if self._trouble is not None:
            return self._trouble  # some providers keep it for themselves
        if self._last is not None and self._last.code != 0:
            return self._last.error()
        if self._last is not None:
            said = repr((self._last.out + self._last.err)[:400].strip())[:200]
            # It may well have taken the job.
            text = f"{self._last.tool}: an answer without a job's id: {said}"
            return CommandError(text, away=True, unclear=True)
        return CommandError(f"{self._type}: {type(error).__name__}: {error}")

    # --- making the provider --------------------------------------------------------------------

    def _make_provider(self) -> Any:
        given = dict(self._spec.provider)
        kind = self._class(self._type)
        launcher = given.pop("launcher", None)
        given = {key: value for key, value in given.items() if value is not None}
        for key in ("type", "worker_init"):
            given.pop(key, None)
        known = inspect.signature(kind.__init__).parameters
        if "walltime" in known:
            given["walltime"] = _clock(given.get("walltime", self._spec.walltime_s) or 600)
        else:
            given.pop("walltime", None)
        for key in ("cmd_timeout", "mem_per_node"):
            if isinstance(given.get(key), float):
                given[key] = math.ceil(given[key])
        try:
            if launcher is not None:
                given["launcher"] = self._make_launcher(launcher)
            provider = kind(**given)
        except TypeError as error:
            raise ProviderError(f"{self._type}: {error}") from error
        except Exception as error:
            raise ProviderError(f"{self._type}: {type(error).__name__}: {error}") from error
        provider.script_dir = self._spec.directory
        self._fit(provider)
        return provider

    def _make_launcher(self, launcher: str | dict[str, Any]) -> Any:
        given = {"type": launcher} if isinstance(launcher, str) else dict(launcher)
        name = given.pop("type")
        kind = getattr(self._module("parsl.launchers.launchers"), name, None)
        if kind is None:
            raise ProviderError(f"there is no launcher {name!r}")
        return kind(**{key: value for key, value in given.items() if value is not None})

    def _fit(self, provider: Any) -> None:
        """Let scripts lie anywhere: Parsl writes their path into commands and texts unquoted."""
        write: Any = getattr(provider, "_write_submit_script", None)
        launcher = provider.launcher
        plain = _PLAIN_PATH.fullmatch(self._spec.directory) is not None

        def write_script(text: str, path: str, *rest: Any) -> Any:
            self._script = path
            if self._type == "LocalProvider" and not self._dry:
                for ending in _LOCAL_OUTPUT:  # a shell writes them, with the umask of the tasks
                    flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW
                    os.close(os.open(path + ending, flags, 0o600))
            quoted = shlex.quote(path)
            if rest:
                name, values = rest
                if not plain:  # commands are run in that very directory
                    for key in ("job_stdout_path", "job_stderr_path"):
                        values[key] = os.path.basename(values.get(key, ""))
                    values["submit_script_dir"] = "."
                values["worker_init"] = values.get("worker_init", "").replace(SCRIPT, quoted)
                return write(text, path, name, values)
            return write(text.replace(SCRIPT, quoted), path)

        if write is not None:
            provider._write_submit_script = write_script
        if not plain:
            # The directory in which the script is run holds what it would write there by name.
            there = f"cd -- {shlex.quote(self._spec.directory)}\n"
            provider.launcher = lambda command, tasks, nodes, directory="": (
                there + launcher(command, tasks, nodes, "")
            )

    def _make_scheduler(self) -> Scheduler:
        limit_s = self._spec.command_s
        if self._type == "SlurmProvider":
            return Slurm(self.files, str(self._spec.provider.get("clusters") or ""), limit_s)
        if self._type in ("PBSProProvider", "TorqueProvider"):
            return Pbs(self.files, self._type == "TorqueProvider", limit_s)
        if self._type == "LocalProvider":
            return Local(self.files)
        return Other(_PROVIDERS[self._type][1], self.files, self._provider)

    # --- parsl ------------------------------------------------------------------------------------

    def _class(self, name: str) -> Any:
        module = self._module(_PROVIDERS[name][0])
        for patched in ("parsl.providers.cluster_provider", module.__name__):
            if hasattr(self._module(patched), "execute_wait"):
                setattr(sys.modules[patched], "execute_wait", self._execute)  # noqa: B010
        return getattr(module, name)

    def _module(self, name: str) -> types.ModuleType:
        try:
            return import_of_parsl(name)
        except ImportError as error:
            raise ProviderError(f"{self._type}: {error}") from error

    def _execute(self, command: str, limit: float | None = None) -> tuple[int, str, str]:
        """In the place of Parsl's own function for commands."""
        tool = commands.tool_of(command)
        if tool == "sacct":
            return 1, "", ""  # squeue is asked, by one command for all
        if self._dry:
            raise _Rendered
        if self._script and not _PLAIN_PATH.fullmatch(self._script):
            command = command.replace(self._script, os.path.basename(self._script))
        environ = None
        if tool == "sbatch":
            # A block that was ended is replaced; a second life of it would be one too many. This
            # is stronger than what the script says.
            environ = {**os.environ, "SBATCH_NO_REQUEUE": "1"}
        where, umask = self._spec.directory, self._spec.umask
        try:
            answer = commands.run(command, self._spec.command_s, environ, umask, where)
        except CommandError as error:
            self._trouble = error
            raise
        self._last = answer
        return answer.code, answer.out, answer.err


def import_of_parsl(name: str) -> types.ModuleType:
    """A module of Parsl, without the rest of Parsl if that can be done.

    Raises:
        ImportError: it is not there, or lacks something that it needs.
    """
    if name in sys.modules:
        return sys.modules[name]
    stand_ins: list[str] = []
    if "parsl" not in sys.modules:
        found = importlib.util.find_spec("parsl")
        if found is None or not found.submodule_search_locations:
            raise ImportError("parsl is not installed here")
        root = found.submodule_search_locations[0]
        for package in _SKIPPED:
            stand_in = types.ModuleType(package)
            stand_in.__path__ = [os.path.join(root, *package.split(".")[1:])]
            sys.modules[package] = stand_in
            stand_ins.append(package)
    try:
        return importlib.import_module(name)
    except (ImportError, AttributeError):
        # A Parsl whose modules want more of each other: all of it, then.
        for loaded in [module for module in sys.modules if module.partition(".")[0] == "parsl"]:
            del sys.modules[loaded]
        importlib.import_module("parsl.providers")
        return importlib.import_module(name)


def render(spec: ProvisionerSpec, block: BlockRef) -> str:
    """The script of the job that would be submitted. No command is run, nothing is left behind.

    Raises:
        ProviderError: the provider cannot be made, or does not write scripts.
    """
    with tempfile.TemporaryDirectory(prefix="fxhpc-") as directory:
        elsewhere = msgspec.structs.replace(spec, directory=directory)
        try:
            Batch(elsewhere, dry=True).submit(block)
        except _Rendered:
            pass
        except CommandError as error:
            raise ProviderError(f"{spec.provider.get('type')} shows no script: {error}") from error
        scripts = sorted(os.path.join(directory, name) for name in os.listdir(directory))
        if not scripts:
            raise ProviderError(f"{spec.provider.get('type')} writes no script")
        with open(scripts[0]) as file:
            return file.read().replace(directory, spec.directory)


def _clock(walltime: float | str) -> str:
    """HH:MM:SS, whole minutes: Parsl leaves seconds out for Slurm."""
    if isinstance(walltime, str):
        return walltime
    minutes = max(1, math.ceil(walltime / 60))
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"

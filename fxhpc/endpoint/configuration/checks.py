"""What must fit together in a configuration, beyond what each value must be by itself."""

from __future__ import annotations

import math
import os
import re
import shlex

from fxhpc.endpoint.configuration.engine import MPI_ENGINES, Address, Engine, Settings
from fxhpc.endpoint.configuration.layout import Layout, did_you_mean
from fxhpc.endpoint.configuration.provider import (
    ONE_NODE_LAUNCHERS,
    TESTED_PROVIDERS,
    BatchProvider,
    Launcher,
    LocalProvider,
    Provider,
)
from fxhpc.endpoint.configuration.yaml_file import KeyPath
from fxhpc.units import format_duration

_PROVIDER: KeyPath = ("engine", "provider")
#: What batch systems do not leave as it is in the path of a job's output.
_UNFIT = {
    "%": "a '%', which stands for a pattern such as %j in the path of a job's output",
    "\\": "a backslash, which batch systems drop from the path of a job's output",
    "\n": "a line break, which ends a line for the batch system",
}
#: A variable that was not replaced.
_UNKNOWN = re.compile(r"\$\{?\w+\}?")
#: More GB than almost any node has.
_MUCH_MEMORY_GB = 8192
#: What a line for the batch system begins with.
_DIRECTIVES = {
    "SlurmProvider": "#SBATCH",
    "PBSProProvider": "#PBS",
    "TorqueProvider": "#PBS",
    "LSFProvider": "#BSUB",
    "GridEngineProvider": "#$",
}


class Checks:
    """Tells the layout what is wrong in it, and keeps what its author should know as `warnings`."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self.warnings: list[str] = []
        self._layout = layout
        self._settings = settings
        engine = settings.engine
        provider: Provider = engine.provider
        self._blocks(provider)
        self._walltime(engine, provider)
        self._workers(engine)
        self._links(engine)
        self._launcher(provider)
        self._provider(provider)
        self._containers(engine)
        self._containers_of_functions(settings)
        self._paths(settings)

    def _wrong(self, path: KeyPath, text: str) -> None:
        self._layout.wrong(self._layout.where(path), text)

    def _warn(self, path: KeyPath, text: str) -> None:
        self.warnings.append(self._layout.problem(path, text))

    def _blocks(self, provider: Provider) -> None:
        most = provider.max_blocks
        default = "" if self._layout.has(*_PROVIDER, "max_blocks") else ", its default"  # type: ignore[arg-type]
        for key in ("init_blocks", "min_blocks"):
            value = getattr(provider, key)
            if value > most:
                self._wrong((*_PROVIDER, key), f"{value} is above max_blocks ({most}{default})")
        given = self._layout.has("engine", "provider", "init_blocks")
        if given and provider.init_blocks < provider.min_blocks <= most:
            self._warn(
                (*_PROVIDER, "init_blocks"),
                f"{provider.init_blocks} is below min_blocks ({provider.min_blocks}), which are "
                f"asked for at the start too",
            )

    def _walltime(self, engine: Engine, provider: Provider) -> None:
        walltime = getattr(provider, "walltime", 0.0)
        drain = engine.drain_period
        path = ("engine", "drain_period")
        if drain is not None and not walltime:
            self._warn(path, "is ignored: blocks have no walltime")
        elif drain is not None and drain >= walltime:
            self._wrong(
                path,
                f"is counted from a block's start, and must be shorter than its walltime "
                f"({format_duration(walltime)})",
            )
        if isinstance(provider, BatchProvider) and walltime % 60:
            whole = format_duration(math.ceil(walltime / 60) * 60)
            self._warn(
                (*_PROVIDER, "walltime"),
                f"{format_duration(walltime)} is rounded up to {whole}: batch systems count whole "
                f"minutes",
            )
        memory = getattr(provider, "mem_per_node", None)
        if memory is not None and memory > _MUCH_MEMORY_GB:
            self._warn(
                (*_PROVIDER, "mem_per_node"),
                f"a plain number is GB, and these are {memory:,} GB on each node; for MB write "
                f"'{memory} MB'",
            )
        if isinstance(provider, BatchProvider) and self._settings.poll_interval < 30:
            self._warn(
                ("poll_interval",), "most sites want status commands no more often than each 30 s"
            )

    def _workers(self, engine: Engine) -> None:
        most, accelerators = engine.max_workers_per_node, engine.available_accelerators
        path: KeyPath = ("engine", "max_workers_per_node")
        if engine.accelerators == "on_request":
            if not accelerators:
                self._warn(
                    ("engine", "accelerators"),
                    "tasks get accelerators on request, and a node has none "
                    "(available_accelerators)",
                )
            accelerators = []  # it has nothing to do with the number of workers
        if accelerators and most is not None and most > len(accelerators):
            self._warn(
                path,
                f"{most} workers, but {len(accelerators)} accelerators: each worker gets one of "
                f"its own, so there will be {len(accelerators)}",
            )
        if accelerators and most is not None and most < len(accelerators):
            self._warn(
                ("engine", "available_accelerators"),
                f"{len(accelerators)} accelerators, but {most} workers, who use one each",
            )
        if engine.cpu_affinity.startswith("list:"):
            lists = engine.cpu_affinity.count(":")
            if most is not None and most > lists:
                self._wrong(
                    ("engine", "cpu_affinity"),
                    f"lists cores for {lists} workers, and max_workers_per_node is {most}",
                )
        if engine.type in MPI_ENGINES:
            self._warn(
                ("engine", "type"),
                f"{engine.type}: functions run as with any engine; ranks and nodes are given to "
                f"those whose resource_specification asks for them",
            )

    def _links(self, engine: Engine) -> None:
        if engine.silence_s <= engine.heartbeat_period:
            self._wrong(
                ("engine", "heartbeat_threshold"),
                f"must be longer than heartbeat_period ({format_duration(engine.heartbeat_period)}"
                f"), better three times as long",
            )
        if engine.worker_port is not None and engine.worker_port_range is not None:
            ports = engine.worker_port_range
            if not ports[0] <= engine.worker_port <= ports[1]:
                self._wrong(
                    ("engine", "worker_port"),
                    f"{engine.worker_port} is outside worker_port_range {list(ports)}: keep one",
                )
        if not engine.encrypted:
            self._warn(("engine", "encrypted"), "links are encrypted all the same")
        if isinstance(engine.address, Address) and engine.address.type == "address_by_query":
            self._warn(
                ("engine", "address"),
                "address_by_query would ask somebody outside; all addresses of this host are "
                "offered instead, and the first that answers is taken",
            )

    def _launcher(self, provider: Provider) -> None:
        launcher = provider.launcher
        if launcher is None:
            return
        path: KeyPath = (*_PROVIDER, "launcher")
        known = ("debug", *launcher.keys())
        for key in Launcher.model_fields:
            if key != "type" and key not in known and getattr(launcher, key) is not None:
                self._wrong(
                    (*path, key),
                    f"{launcher.type} has no key {key!r}{did_you_mean(key, list(known))}",
                )
        if launcher.type == "WrappedLauncher" and not launcher.prepend:
            self._wrong((*path, "prepend"), "is missing: what stands before the command")
        if launcher.type in ONE_NODE_LAUNCHERS and provider.nodes_per_block > 1:
            better = "MpiExecLauncher" if "PBS" in provider_type(provider) else "SrunLauncher"
            self._warn(
                path,
                f"{launcher.type} uses the first of {provider.nodes_per_block} nodes alone; "
                f"{better} uses all of them",
            )

    def _provider(self, provider: Provider) -> None:
        name = provider_type(provider)
        path: KeyPath = (*_PROVIDER, "type")
        if name not in TESTED_PROVIDERS:
            self._warn(path, f"{name} is passed through to Parsl, and has not been tested here")
        if name == "LocalProvider" and provider.nodes_per_block > 1 and not provider.launcher:
            self._wrong(
                (*_PROVIDER, "nodes_per_block"),
                "LocalProvider has one node, this host, unless a launcher such as SrunLauncher "
                "reaches others",
            )
        directive = _DIRECTIVES.get(name)
        if directive and isinstance(provider, BatchProvider):
            for line in provider.scheduler_options.splitlines():
                if line.strip() and not line.strip().startswith(directive):
                    self._warn(
                        (*_PROVIDER, "scheduler_options"),
                        f"{line.strip()[:60]!r} does not begin with {directive!r}: the batch "
                        f"system will not see it",
                    )
        pattern = getattr(provider, "regex_job_id", None)
        if pattern is not None:
            self._pattern((*_PROVIDER, "regex_job_id"), pattern)

    def _pattern(self, path: KeyPath, pattern: str) -> None:
        try:
            named = "id" in re.compile(pattern).groupindex
        except re.error as error:
            self._wrong(path, f"is no regular expression: {error}")
            return
        if not named:
            self._wrong(path, "must hold the group (?P<id>...), which is the job's number")

    def _containers(self, engine: Engine) -> None:
        path: KeyPath = ("engine", "container_type")
        if engine.container_type is None:
            if engine.container_uri or engine.container_cmd_options:
                self._wrong(path, "is missing: apptainer, singularity, docker, podman, ...")
            return
        options_path: KeyPath = ("engine", "container_cmd_options")
        image_path: KeyPath = ("engine", "container_uri")
        kind, image = engine.container_type, engine.container_uri
        options = engine.container_cmd_options or ""
        try:
            shlex.split(options)
        except ValueError as error:
            self._wrong(options_path, f"is no piece of a shell command: {error}")
        if kind == "custom":
            if "{EXECUTOR_LAUNCH_CMD}" not in options:
                self._wrong(
                    options_path,
                    "of a custom container must hold {EXECUTOR_LAUNCH_CMD}, the manager's command",
                )
        elif not image:
            self._wrong(image_path, "is missing: the container's image")
        elif "\0" in image or "\n" in image or image.startswith("-"):
            self._wrong(image_path, f"{image!r} is no image's name")
        elif kind in ("apptainer", "singularity") and "://" not in image:
            if unknown := _UNKNOWN.search(os.path.expandvars(image)):
                self._wrong(image_path, f"this host's environment has no variable {unknown[0]}")
            elif not os.path.isabs(expand(image)):
                self._warn(
                    image_path,
                    f"{image!r} is looked for where a job's scripts are; name it from the root "
                    f"on, or with ~, or where it is fetched from, such as docker://",
                )
        if kind != "podman":
            self._warn(
                path,
                f"of {kind} containers the command line alone has been tested; the image needs "
                f"Python with fxhpc",
            )

    def _containers_of_functions(self, settings: Settings) -> None:
        for kind, options in settings.containers.options.items():
            try:
                shlex.split(options)
            except ValueError as error:
                path: KeyPath = ("containers", "options", kind)
                self._wrong(path, f"is no piece of a shell command: {error}")

    def _paths(self, settings: Settings) -> None:
        places: tuple[tuple[KeyPath, str | None], ...] = (
            (("state_dir",), settings.state_dir),
            (("engine", "working_dir"), settings.engine.working_dir),
            (("engine", "worker_logdir_root"), settings.engine.worker_logdir_root),
            (("python",), settings.python),
        )
        for path, written in places:
            if written is None:
                continue
            unknown = _UNKNOWN.search(os.path.expandvars(written))
            if unknown:
                self._wrong(path, f"this host's environment has no variable {unknown[0]}")
            elif "\0" in written:
                self._wrong(path, "holds a null character")
        state = settings.state_dir
        if state is not None and (trouble := unfit_path(settings.engine.provider, expand(state))):
            self._wrong(("state_dir",), trouble)
        if state is not None and "$" not in expand(state) and not os.path.isabs(expand(state)):
            self._wrong(("state_dir",), f"{settings.state_dir!r} must be absolute, or begin with ~")


def unfit_path(provider: Provider, path: str) -> str:
    """Why a batch system could not write what jobs print into a directory; empty if it can."""
    if not isinstance(provider, BatchProvider):
        return ""
    for letter, trouble in _UNFIT.items():
        if letter in path:
            return (
                f"{path!r} has {trouble}, and {provider_type(provider)}'s jobs could not write "
                f"there; name a `state_dir` without it"
            )
    return ""


def provider_type(provider: Provider) -> str:
    """Parsl's name of a provider."""
    return str(getattr(provider, "type", LocalProvider.__name__))


def expand(path: str) -> str:
    """A path with `~` and variables of the environment replaced."""
    return os.path.expanduser(os.path.expandvars(path))

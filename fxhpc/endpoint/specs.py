"""What an endpoint's configuration makes of its processes: interchange, provisioner, managers."""

from __future__ import annotations

import math
import os
import random
import socket
from pathlib import Path
from typing import Any

import psutil

from fxhpc.cores import PROMISED, usable_cores, usable_memory
from fxhpc.endpoint import launch
from fxhpc.endpoint.configuration.checks import expand, unfit_path
from fxhpc.endpoint.configuration.config import EndpointConfig
from fxhpc.endpoint.configuration.engine import Address
from fxhpc.endpoint.configuration.provider import (
    ONE_NODE_LAUNCHERS,
    BatchProvider,
    Launcher,
    LocalProvider,
    Provider,
)
from fxhpc.endpoint.configuration.quantities import clock
from fxhpc.endpoint.containers import container_of, images_of, patterns_of
from fxhpc.errors import ConfigError
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.outcome import DEFAULT_RETRIES
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import InterchangeSpec, ProvisionerSpec, ScalingPolicy
from fxhpc.protocol.sizes import SizeLimits

#: What fxhpc says elsewhere, or does itself: not for Parsl's providers.
_OURS = frozenset(
    {
        "cmd_timeout",
        "init_blocks",
        "launcher",
        "max_blocks",
        "min_blocks",
        "parallelism",
        "walltime",
        "worker_init",
    }
)
#: Parsl's providers that know no option of this name.
_WITHOUT_TIMEOUT = frozenset(
    {"KubernetesProvider", "AWSProvider", "AzureProvider", "GoogleCloudProvider"}
)


def interchange_spec(
    config: EndpointConfig,
    name: str,
    directory: EndpointDirectory,
    *,
    cwd: str = "",
    umask: int | None = None,
) -> InterchangeSpec:
    """All that an endpoint's interchange is told.

    Args:
        config: as `load_config` returns it.
        name: the endpoint's.
        directory: its files; `state` in it must be what `config.state_dir` says, if it says so.
        cwd: where tasks run if the configuration does not say so; empty: the home directory.
        umask: of the jobs, and so of what tasks write; None: that of this process.

    Raises:
        ConfigError: this host lacks what the configuration names: an interface, a free port, a
            place for its state, what runs its containers.
    """
    _check_state_directory(config, directory)
    engine, provider, settings = config.engine, config.provider, config.settings
    walltime = _whole_minutes(config)
    manager = _manager(config, directory, walltime, cwd or str(Path.home()))
    missed = max(1, round(engine.silence_s / engine.heartbeat_period))
    return InterchangeSpec(
        bind=_bind(config),
        addresses=_addresses(config),
        state_dir=str(directory.state) if directory.state != directory.path else "",
        heartbeat_s=engine.heartbeat_period,
        missed_heartbeats=missed,
        retries=engine.max_retries_on_system_failure,
        scaling=_scaling(config, walltime),
        provisioner=ProvisionerSpec(
            endpoint=name,
            provider=provider_values(config),
            directory=str(directory.blocks),
            command=launch.command(directory),
            worker_init=provider.worker_init,
            walltime_s=walltime,
            command_s=provider.cmd_timeout,
            log_file=str(directory.logs / "provisioner.log"),
            log_bytes=settings.logs.max_bytes,
            python=expand(settings.python or ""),
            umask=_own_umask() if umask is None else umask,
            container=container_of(config, directory, manager),
        ),
        manager=manager,
        drain_s=settings.stop_timeout,
        log_file=str(directory.log),
        log_bytes=settings.logs.max_bytes,
        log_files=settings.logs.files,
        details=details(config),
        limits=_limits(config),
    )


def _limits(config: EndpointConfig) -> SizeLimits:
    limits = config.settings.limits
    return SizeLimits(limits.argument or 0, limits.result or 0, limits.on_exceed == "spill")


def _own_umask() -> int:
    """This process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _check_state_directory(config: EndpointConfig, directory: EndpointDirectory) -> None:
    """Say now what would fail in the background: the directory that nodes see cannot be made, or
    cannot be named to the batch system.
    """
    if trouble := unfit_path(config.provider, str(directory.state)):
        raise ConfigError([f"{config.source}: {trouble}"])
    if not config.state_dir:
        return
    place = Path(config.state_dir)
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        trouble = f"{place} is no directory"
    elif not os.access(place, os.W_OK | os.X_OK):
        trouble = f"{place} is not yours to write to"
    else:
        return
    raise ConfigError([config.problem(("state_dir",), f"{trouble}; name another place")])


def provider_values(config: EndpointConfig) -> dict[str, Any]:
    """What Parsl's provider is made with: its class as `type`, its arguments, its launcher."""
    provider, name = config.provider, config.provider_type
    values: dict[str, Any] = provider.model_dump(exclude=set(_OURS), exclude_none=True)
    if name not in _WITHOUT_TIMEOUT:
        values["cmd_timeout"] = max(1, math.ceil(provider.cmd_timeout))
    if isinstance(provider, BatchProvider):
        values["walltime"] = clock(_whole_minutes(config))
    if name != "KubernetesProvider":  # it has none: a pod is one container
        values["launcher"] = _launcher(provider, name).model_dump(exclude_none=True)
    return values


def _launcher(provider: Provider, name: str) -> Launcher:
    """The launcher that was chosen, or the one that reaches all nodes of a block."""
    launcher = provider.launcher
    if launcher is None:
        if provider.nodes_per_block == 1:
            # Parsl's default for Torque is aprun, which only Crays had.
            return Launcher(type="SingleNodeLauncher")
        kind = "SrunLauncher" if name == "SlurmProvider" else "MpiExecLauncher"
        launcher = Launcher.model_validate({"type": kind})
    if launcher.type not in ("SrunLauncher", "SrunMPILauncher"):
        return launcher
    overrides = launcher.overrides or ""
    if "--overlap" in overrides.split() or ";" in overrides:
        return launcher
    # Without it the step of the manager keeps its CPUs to itself, and an srun in a task waits
    # for them until the end of the job.
    return launcher.model_copy(update={"overrides": f"--overlap {overrides}".strip()})


def details(config: EndpointConfig) -> dict[str, Any]:
    """What `get_endpoint_status` tells of the configuration: plain values."""
    engine, provider = config.engine, config.provider
    return {
        "display_name": config.display_name,
        "engine_type": engine.type,
        "provider_type": config.provider_type,
        "launcher_type": _launcher(provider, config.provider_type).type,
        "max_blocks": provider.max_blocks,
        "min_blocks": provider.min_blocks,
        "init_blocks": provider.init_blocks,
        "nodes_per_block": provider.nodes_per_block,
        "parallelism": provider.parallelism,
        "max_workers_per_node": engine.max_workers_per_node,
        "cores_per_worker": engine.cores_per_worker,
        "mem_per_worker": engine.mem_per_worker and round(engine.mem_per_worker / 2**30, 3),  # GB
        "accelerators_per_node": len(engine.available_accelerators),
        # A worker may have several.
        "accelerators_in_all": sum(len(text.split(",")) for text in engine.available_accelerators),
        "cores_per_node": _given_cores(provider),  # None: all that a node has, or nobody knows
        # What tasks of a node of a block can have together at most; None: nobody knows.
        "cores_for_tasks": _cores_for_tasks(config),
        "memory_for_tasks": _memory_for_tasks(config),  # bytes
        "labels": list(engine.labels),
        "containers": patterns_of(config),  # that functions may choose
        "scaling_enabled": engine.strategy != "none",
        "scheduler_mode": "hard",
        "worker_mode": "container" if engine.container_type else "no_container",
        "prefetch_capacity": 0,
        "queue": getattr(provider, "partition", None) or getattr(provider, "queue", None),
        "account": getattr(provider, "account", None),
        "walltime_s": _whole_minutes(config),
        "heartbeat_period": engine.heartbeat_period,
        "heartbeat_threshold": engine.silence_s,
        "max_retries_on_system_failure": (
            DEFAULT_RETRIES
            if engine.max_retries_on_system_failure is None
            else engine.max_retries_on_system_failure
        ),
        "limits": config.settings.limits.model_dump(),
    }


def _whole_minutes(config: EndpointConfig) -> float:
    """The walltime in seconds: batch systems count minutes, and Parsl cuts what is left over."""
    if isinstance(config.provider, BatchProvider):
        return math.ceil(config.walltime_s / 60) * 60.0
    return config.walltime_s


def _scaling(config: EndpointConfig, walltime: float) -> ScalingPolicy:
    engine, provider = config.engine, config.provider
    drain = engine.drain_period
    return ScalingPolicy(
        nodes_per_block=provider.nodes_per_block,
        init_blocks=max(provider.init_blocks, provider.min_blocks),
        min_blocks=provider.min_blocks,
        max_blocks=provider.max_blocks,
        parallelism=provider.parallelism,
        scale=engine.strategy != "none",
        max_idle_s=engine.max_idletime,
        walltime_s=walltime,
        # Parsl counts from the start of a block, the policy from its end.
        drain_s=walltime - drain if drain is not None and walltime else 0.0,
        poll_s=config.settings.poll_interval,
        slots_per_node=_slots(config),
        register_s=config.settings.register_timeout,
    )


def _given_cores(provider: Any) -> int | None:
    """How many cores of a node a job is given; None: that is not said."""
    if getattr(provider, "exclusive", False):
        return None
    cores: int | None = getattr(provider, "cores_per_node", None)
    return cores


def _cores_for_tasks(config: EndpointConfig) -> float | None:
    engine, provider = config.engine, config.provider
    cores = float(usable_cores(os.environ)) if _is_this_host(config) else _given_cores(provider)
    if engine.cpu_affinity in ("auto", "none") and (workers := _slots(config)):
        # Tasks have what workers would have; where these are bound, that is all cores.
        own = workers * engine.cores_per_worker
        cores = own if cores is None else min(cores, own)
    return cores


def _memory_for_tasks(config: EndpointConfig) -> int | None:
    given: int | None = getattr(config.provider, "mem_per_node", None)
    memory = 0 if given is None else given * 2**30
    if _is_this_host(config):
        memory = usable_memory(os.environ, usable_cores(os.environ))
    return int(PROMISED * memory) if memory else None


def _is_this_host(config: EndpointConfig) -> bool:
    """Whether its nodes are the host of the endpoint."""
    provider = config.provider
    launcher = _launcher(provider, config.provider_type).type
    return isinstance(provider, LocalProvider) and launcher in ONE_NODE_LAUNCHERS


def _slots(config: EndpointConfig) -> int:
    """Workers that a node will have, as far as the configuration tells; 0: it does not."""
    engine, provider = config.engine, config.provider
    limits: list[float] = []
    if engine.max_workers_per_node is not None:
        limits.append(engine.max_workers_per_node)
    if engine.available_accelerators and engine.accelerators == "each_worker":
        limits.append(len(engine.available_accelerators))
    cores = _given_cores(provider)
    if cores is not None:
        limits.append(cores / engine.cores_per_worker)
    return max(1, math.floor(min(limits))) if limits else 0


def _manager(
    config: EndpointConfig, directory: EndpointDirectory, walltime: float, cwd: str
) -> ManagerSpec:
    engine, settings = config.engine, config.settings
    state = directory.state
    work = os.path.join(state, expand(engine.working_dir)) if engine.working_dir else ""
    sandbox = (work or str(state / "tasks_working_dir")) if engine.run_in_sandbox else ""
    logs = expand(engine.worker_logdir_root) if engine.worker_logdir_root else ""
    return ManagerSpec(
        endpoint=b"",
        workers=0,
        address_file=str(directory.managers_address),
        key_file=str(directory.manager_key),
        cwd=work or cwd,
        max_workers=engine.max_workers_per_node or 0,
        cores_per_worker=engine.cores_per_worker,
        memory_per_worker=engine.mem_per_worker or 0,
        affinity="" if engine.cpu_affinity == "auto" else engine.cpu_affinity,
        own_cores=isinstance(config.provider, BatchProvider),
        accelerators=list(engine.available_accelerators),
        labels=list(engine.labels),
        accelerators_on_request=engine.accelerators == "on_request",
        mpi_launcher=engine.mpi_launcher,
        mpi_type=engine.mpi_type,
        walltime_s=walltime,
        log_dir=os.path.join(state, logs) if logs else str(directory.manager_logs),
        log_bytes=settings.logs.max_bytes,
        worker_logs=settings.logs.workers,
        sandbox=sandbox,
        address_probe_s=engine.address_probe_timeout,
        preload=list(settings.preload),
        spill=str(directory.spill),
        container_images=tuple(images_of(config)),
        container_options={str(kind): words for kind, words in settings.containers.options.items()},
    )


# --- where managers connect to ------------------------------------------------------------------


def _bind(config: EndpointConfig) -> str:
    engine = config.engine
    # Managers that are processes of this host need no port that others can reach.
    host = "127.0.0.1" if _is_this_host(config) and not engine.address else "0.0.0.0"
    if engine.worker_port is not None:
        return f"tcp://{host}:{engine.worker_port}"
    if engine.worker_port_range is not None:
        return f"tcp://{host}:{_free_port(config, engine.worker_port_range)}"
    return f"tcp://{host}:*"


def _free_port(config: EndpointConfig, ports: tuple[int, int]) -> int:
    """A port of a range that nobody uses; a random one, so that endpoints do not race for it."""
    candidates = list(range(ports[0], ports[1] + 1))
    random.shuffle(candidates)
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise ConfigError(
        [
            config.problem(
                ("engine", "worker_port_range"),
                f"no port from {ports[0]} to {ports[1]} is free on {socket.gethostname()}; give "
                f"another range, or none: then the system chooses",
            )
        ]
    )


def _addresses(config: EndpointConfig) -> list[str]:
    """How nodes may reach this host: host names or numbers; empty: by all it has."""
    address = config.engine.address
    if not isinstance(address, Address):
        return list(address)
    if address.type == "address_by_interface":
        return [_address_of_interface(config, str(address.ifname))]
    if address.type == "address_by_hostname":
        return [_address_of_hostname(config)]
    if address.type == "address_by_route":
        found = _address_by_route()
        return [found] if found else []
    return []


def _address_of_interface(config: EndpointConfig, name: str) -> str:
    interfaces = psutil.net_if_addrs()
    for family in (socket.AF_INET, socket.AF_INET6):
        for entry in interfaces.get(name, []):
            if entry.family == family:
                return str(entry.address).partition("%")[0]
    known = ", ".join(sorted(interfaces)) or "none"
    trouble = "has no address" if name in interfaces else "is not there"
    raise ConfigError(
        [
            config.problem(
                ("engine", "address"),
                f"the network interface {name!r} {trouble} on {socket.gethostname()} (there are: "
                f"{known}); leave `address` out to offer all addresses",
            )
        ]
    )


def _address_of_hostname(config: EndpointConfig) -> str:
    name = socket.gethostname()
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        raise ConfigError(
            [
                config.problem(
                    ("engine", "address"),
                    f"this host's name, {name}, has no address ({error.strerror or error}); leave "
                    f"`address` out to offer all addresses",
                )
            ]
        ) from None


def _address_by_route() -> str:
    """The address that packets to the outside would have; none is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation: nobody has it
            return str(probe.getsockname()[0])
        except OSError:
            return ""

"""What an endpoint's YAML may say about a provider and its launcher: who gives nodes, and how."""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fxhpc.endpoint.configuration.quantities import Duration, Gigabytes


def _name(value: Any) -> Any:
    """A name as it was written, where YAML took it for a number: account: 2024, qos: 1.10."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return getattr(value, "text", str(value))
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and any(ord(letter) < 32 for letter in value.strip()):
        raise ValueError("must be one line")
    return value.strip() if isinstance(value, str) else value


def _number(value: Any) -> Any:
    """`max_blocks: true` is a mistake, which pydantic would take for 1."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


def _script(value: Any) -> Any:
    """`worker_init: true` is a command, which YAML takes for something else."""
    if isinstance(value, (bool, int, float)):
        return _name(value)
    return "" if value is None else value


#: A word or a line for the batch system.
Name = Annotated[str, BeforeValidator(_name)]
Count = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
#: Lines of a script.
Script = Annotated[str, BeforeValidator(_script)]


class Model(BaseModel):
    """What all parts of the configuration have in common: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- launchers ----------------------------------------------------------------------------------


class Launcher(Model):
    """How the manager is started on each node of a block."""

    type: Literal[
        "SimpleLauncher",
        "SingleNodeLauncher",
        "WrappedLauncher",
        "SrunLauncher",
        "SrunMPILauncher",
        "MpiExecLauncher",
        "MpiRunLauncher",
        "AprunLauncher",
        "JsrunLauncher",
        "GnuParallelLauncher",
    ]
    """One of Parsl's launchers, by its name."""

    debug: bool | None = None
    """Whether the job's script tells what it does, in the job's output."""

    overrides: Name | None = None
    """More options for srun, mpiexec, mpirun, aprun or jsrun. For srun --overlap is added."""

    bind_cmd: Name | None = None
    """MpiExecLauncher: the name of its option that binds to cores (--bind-to; --cpu-bind)."""

    bash_location: Name | None = None
    """MpiRunLauncher: where bash is."""

    fail_on_any: bool | None = None
    """SingleNodeLauncher: the job fails if one manager does, not only if all do."""

    prepend: Name | None = None
    """WrappedLauncher: what stands before the command, such as `time`."""

    #: Which keys a launcher takes beside `type` and `debug`, as Parsl has them.
    KEYS: ClassVar[dict[str, tuple[str, ...]]] = {
        "SingleNodeLauncher": ("fail_on_any",),
        "WrappedLauncher": ("prepend",),
        "SrunLauncher": ("overrides",),
        "SrunMPILauncher": ("overrides",),
        "MpiExecLauncher": ("bind_cmd", "overrides"),
        "MpiRunLauncher": ("bash_location", "overrides"),
        "AprunLauncher": ("overrides",),
        "JsrunLauncher": ("overrides",),
    }

    def keys(self) -> tuple[str, ...]:
        """What this type takes beside `type` and `debug`."""
        return self.KEYS.get(self.type, ())


#: Launchers that start the manager on the first node of a block alone.
ONE_NODE_LAUNCHERS = frozenset({"SimpleLauncher", "SingleNodeLauncher", "WrappedLauncher"})

# --- providers ----------------------------------------------------------------------------------


class Provider(Model):
    """What all providers have in common: blocks, how many and how large."""

    launcher: Launcher | None = None
    """How the manager is started on the nodes of a block: a mapping with `type`, or its name."""

    nodes_per_block: Count = Field(default=1, ge=1, le=100_000)
    """Nodes of one block, which is one batch job."""

    init_blocks: Count = Field(default=0, ge=0)
    """Blocks to ask for at the start, before there is work. (Parsl's providers say 1.)"""

    min_blocks: Count = Field(default=0, ge=0)
    """Blocks that are kept when there is no work, also beyond the end of a walltime."""

    max_blocks: Count = Field(default=1, ge=1, le=10_000)
    """Blocks that exist at most, pending ones and those of unknown state included."""

    parallelism: Number = Field(default=1.0, ge=0, le=1)
    """Worker slots wanted for each outstanding task: 1 all that can work at once, 0 min_blocks."""

    worker_init: Script = ""
    """Shell lines that run in the job before the manager: module load, conda activate, exports."""

    cmd_timeout: Duration = Field(default=30.0, gt=0)
    """A command of the batch system that takes longer is given up, and tried again later."""


#: Seconds of ten years: whoever writes more has mistaken the unit.
_LONGEST_S = 10 * 366 * 86400


class BatchProvider(Provider):
    """What batch systems have in common."""

    walltime: Duration = Field(default=600.0, ge=60, le=_LONGEST_S)
    """How long a block may last; rounded up to a minute. The default is Parsl's."""

    scheduler_options: Script = ""
    """Lines for the head of the job's script, as they are: `#SBATCH ...`, `#PBS ...`."""


class SlurmProvider(BatchProvider):
    """Blocks by sbatch."""

    type: Literal["SlurmProvider"] = "SlurmProvider"
    """Also written `slurm`."""

    partition: Name | None = None
    """The partition; the cluster's default if there is none."""

    account: Name | None = None
    """What is charged."""

    qos: Name | None = None
    """The quality of service."""

    constraint: Name | None = None
    """Features of nodes, such as `gpu`."""

    clusters: Name | None = None
    """Clusters of a federation, by commas."""

    cores_per_node: Count | None = Field(default=None, ge=1)
    """Cores to ask for on each node; `exclusive` gives all of them anyway."""

    mem_per_node: Gigabytes | None = None
    """Memory to ask for on each node, GB."""

    gpus_per_node: Count | None = Field(default=None, ge=1)
    """GPUs to ask for on each node."""

    gres: Name | None = None
    """Other resources to ask for, such as `gpu:a100:4`."""

    exclusive: bool = True
    """Whole nodes, shared with nobody. Say `false` for a part of a node."""

    regex_job_id: str | None = None
    """How a job's number is found in what sbatch prints, if your site's sbatch prints more."""

    status_batch_size: Count | None = Field(default=None, ge=1)
    """Jobs in one status command, of Parsl's; here one command asks for all."""


class PBSProProvider(BatchProvider):
    """Blocks by qsub of PBS Pro or OpenPBS."""

    type: Literal["PBSProProvider"] = "PBSProProvider"
    """Also written `pbs` or `pbspro`."""

    walltime: Duration = Field(default=1200.0, ge=60, le=_LONGEST_S)
    """How long a block may last; rounded up to a minute. The default is Parsl's."""

    queue: Name | None = None
    """The queue; the default one if there is none."""

    account: Name | None = None
    """What is charged."""

    select_options: Name | None = None
    """More for `-l select=...`, such as `ngpus=4`."""

    cpus_per_node: Count = Field(default=1, ge=1)
    """Cores to ask for on each node (ncpus)."""


class TorqueProvider(BatchProvider):
    """Blocks by qsub of Torque."""

    type: Literal["TorqueProvider"] = "TorqueProvider"
    """Also written `torque`."""

    walltime: Duration = Field(default=1200.0, ge=60, le=_LONGEST_S)
    """How long a block may last; rounded up to a minute. The default is Parsl's."""

    queue: Name | None = None
    """The queue; the default one if there is none."""

    account: Name | None = None
    """What is charged."""


class LocalProvider(Provider):
    """Blocks are processes of this host."""

    type: Literal["LocalProvider"] = "LocalProvider"
    """Also written `local`."""

    walltime: Duration = Field(default=0.0, ge=0)
    """After this time a block takes no more work and ends; 0: never."""


class LSFProvider(BatchProvider):
    """Blocks by bsub. Passed through to Parsl, not tested here."""

    type: Literal["LSFProvider"] = "LSFProvider"
    queue: Name | None = None
    project: Name | None = None
    cores_per_block: Count | None = Field(default=None, ge=1)
    cores_per_node: Count | None = Field(default=None, ge=1)
    bsub_redirection: bool | None = None
    request_by_nodes: bool | None = None


class GridEngineProvider(BatchProvider):
    """Blocks by qsub of Grid Engine. Passed through to Parsl, not tested here."""

    type: Literal["GridEngineProvider"] = "GridEngineProvider"
    queue: Name | None = None


class CondorProvider(BatchProvider):
    """Blocks by condor_submit. Passed through to Parsl, not tested here."""

    type: Literal["CondorProvider"] = "CondorProvider"
    cores_per_slot: Count | None = Field(default=None, ge=1)
    mem_per_slot: Number | None = Field(default=None, gt=0)
    environment: dict[str, str] | None = None
    project: Name | None = None
    transfer_input_files: list[str] | None = None
    requirements: Name | None = None
    cmd_chunk_size: Count | None = Field(default=None, ge=1)


class KubernetesProvider(Provider):
    """Blocks are pods. Passed through to Parsl, not tested here."""

    type: Literal["KubernetesProvider"] = "KubernetesProvider"
    walltime: Duration = Field(default=0.0, ge=0)
    image: Name
    namespace: Name | None = None
    max_cpu: Number | None = Field(default=None, gt=0)
    max_mem: Name | None = None
    init_cpu: Number | None = Field(default=None, gt=0)
    init_mem: Name | None = None
    extra_requests: dict[str, str] | None = None
    extra_limits: dict[str, str] | None = None
    pod_name: Name | None = None
    user_id: Name | None = None
    group_id: Name | None = None
    run_as_non_root: bool | None = None
    secret: Name | None = None
    persistent_volumes: list[tuple[str, str]] | None = None
    service_account_name: Name | None = None
    annotations: dict[str, str] | None = None


class CloudProvider(Provider):
    """Virtual machines of a cloud. All further keys go to Parsl as they are; not tested here."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal["AWSProvider", "AzureProvider", "GoogleCloudProvider"]
    walltime: Duration = Field(default=0.0, ge=0)


AnyProvider = Annotated[
    SlurmProvider
    | PBSProProvider
    | TorqueProvider
    | LocalProvider
    | LSFProvider
    | GridEngineProvider
    | CondorProvider
    | KubernetesProvider
    | CloudProvider,
    Field(discriminator="type"),
]
PROVIDERS: tuple[type[Provider], ...] = (
    SlurmProvider,
    PBSProProvider,
    TorqueProvider,
    LocalProvider,
    LSFProvider,
    GridEngineProvider,
    CondorProvider,
    KubernetesProvider,
    CloudProvider,
)
#: What this project's tests run on.
TESTED_PROVIDERS = frozenset({"SlurmProvider", "PBSProProvider", "TorqueProvider", "LocalProvider"})

"""What an endpoint's YAML may say about its engine: workers, links, limits, and when to scale."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from fxhpc.endpoint.configuration.provider import (
    AnyProvider,
    Count,
    LocalProvider,
    Model,
    Name,
    Number,
    Script,
)
from fxhpc.endpoint.configuration.quantities import Duration, Memory, Size
from fxhpc.protocol.payload import MOST_LABEL, MOST_LABELS
from fxhpc.protocol.sizes import LEAST_LIMIT

Port = Annotated[int, Field(ge=1, le=65535)]
PortRange = Annotated[tuple[Port, Port], Field(description="two ports: the first and the last")]

POOL_ENGINES = frozenset({"ThreadPoolEngine", "ProcessPoolEngine"})
MPI_ENGINES = frozenset({"GlobusMPIEngine", "MPIExecutor"})

_CORE_LIST = re.compile(r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*(?::\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)*")


class Address(Model):
    """How the address is found at which nodes reach the host of the endpoint."""

    type: Literal[
        "address_by_interface", "address_by_hostname", "address_by_route", "address_by_query"
    ]
    """By a network interface, by the host's name, by the default route."""

    ifname: Name | None = None
    """address_by_interface: its name, such as `hsn0` or `ib0`."""

    @model_validator(mode="after")
    def _interface_is_named(self) -> Address:
        if self.type == "address_by_interface" and not self.ifname:
            raise ValueError("address_by_interface needs `ifname`, such as `ifname: ib0`")
        return self


def _form_of_address(value: Any) -> str:
    return "mapping" if isinstance(value, (dict, Address)) else "list"


#: The tags keep pydantic from telling what is wrong with the form that was not chosen.
AddressOrHosts = Annotated[
    Annotated[Address, Tag("mapping")] | Annotated[list[Name], Tag("list")],
    Discriminator(_form_of_address),
]


class Limits(Model):
    """How large what is sent may be, whatever its submitter says; the smaller of both counts."""

    argument: Size | None = Field(default=None, ge=LEAST_LIMIT)
    """Bytes of a task's arguments; as its submitter says if not given."""

    result: Size | None = Field(default=None, ge=LEAST_LIMIT)
    """Bytes of a task's result; as its submitter says if not given."""

    on_exceed: Literal["error", "spill"] = "error"
    """What is larger: `spill` has arguments stored apart from their task, and results written to
    files that their clients read."""


ContainerKind = Literal["apptainer", "docker", "podman", "podman-hpc", "singularity"]


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Containers(Model):
    """The containers that functions may choose (`container_uuid`)."""

    allowed: Annotated[list[Name], BeforeValidator(_one_or_several)] = ["*"]
    """Images, as shells match names (`registry.example.org/*`); none: `[]`."""

    options: dict[ContainerKind, Name] = {}
    """More options for the command of each kind: `{podman: -v /scratch:/scratch}`."""


class Logs(Model):
    """How much is logged."""

    max_bytes: Size = 10 * 2**20
    """Size at which a log file is set aside."""

    files: Count = Field(default=2, ge=1, le=100)
    """Files set aside that are kept, for each log."""

    workers: bool = False
    """Whether what each worker prints goes to a file of its own."""

    @field_validator("max_bytes")
    @classmethod
    def _large_enough(cls, size: int) -> int:
        if size < 10_000:
            raise ValueError("must be 10 KB at least")
        return size


def _accelerators(value: Any) -> Any:
    """One name for each accelerator; a number counts them from 0."""
    if value is None:
        return []
    if isinstance(value, bool):
        raise ValueError("is a number of accelerators, or a list of their names")
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, int):
        if not 0 <= value <= 1024:
            raise ValueError("must be between 0 and 1024")
        return [str(number) for number in range(value)]
    if isinstance(value, str):
        raise ValueError(f"is a number of accelerators, or a list of their names: [{value!r}]")
    return value


Accelerators = Annotated[
    list[Name],
    BeforeValidator(_accelerators),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 1024},
                {"type": "array", "items": {"type": ["string", "integer"]}},
            ]
        }
    ),
]


class Engine(Model):
    """How an endpoint runs tasks."""

    type: Literal[
        "FxhpcEngine",
        "GlobusComputeEngine",
        "HighThroughputExecutor",
        "HighThroughputEngine",
        "GlobusMPIEngine",
        "MPIExecutor",
        "ThreadPoolEngine",
        "ProcessPoolEngine",
    ] = "FxhpcEngine"
    """May be left out. All of them are run by fxhpc's own engine; pools get a LocalProvider."""

    provider: AnyProvider = LocalProvider()
    """Who gives nodes: a mapping with `type`, or its name."""

    label: Name | None = None
    """A name; shown if there is no display_name."""

    # --- workers

    max_workers_per_node: Count | None = Field(default=None, ge=1, le=4096)
    """Workers on a node at most; as many as cores, memory and accelerators allow if not given."""

    cores_per_worker: Number = Field(default=1.0, gt=0)
    """Cores of each worker; may be a part of one."""

    mem_per_worker: Memory | None = None
    """Memory of each worker, GB or with a unit: decides how many fit on a node."""

    available_accelerators: Accelerators = []
    """Accelerators of a node: how many, or their names. Each worker gets one."""

    accelerators: Literal["each_worker", "on_request"] = "each_worker"
    """Who gets these: each worker one; or tasks that ask for some (resource_specification)."""

    labels: list[Name] = []
    """Of all nodes: tasks may ask for some (resource_specification)."""

    mpi_launcher: Literal["", "srun", "mpiexec", "aprun"] = ""
    """What PARSL_MPI_PREFIX starts the ranks of tasks with. Empty: mpiexec, or srun if there is
    none."""

    mpi_type: Name = ""
    """For srun's --mpi, for example pmi2. Empty: Slurm's own choice."""

    cpu_affinity: Name = "auto"
    """Cores for each worker alone: block, block-reverse, alternating, list:0-3:4-7; for none: none;
    in batch jobs that have their cores alone for tasks that ask for some: auto."""

    working_dir: Name | None = None
    """Where tasks run, on the nodes; the home directory if not given."""

    run_in_sandbox: bool = False
    """Each task runs in a directory of its own, in `working_dir`."""

    worker_logdir_root: Name | None = None
    """Where managers write their logs, on the nodes; beside the endpoint's state if not given."""

    container_type: (
        Literal["apptainer", "singularity", "docker", "podman", "podman-hpc", "custom"] | None
    ) = None
    """The manager and its workers run in a container of this kind."""

    container_uri: Name | None = None
    """The container's image."""

    container_cmd_options: Name | None = None
    """More options for the container's command."""

    # --- scaling

    strategy: Literal["none", "simple", "htex_auto_scale"] = "simple"
    """`none` keeps init_blocks and min_blocks alone; the other two are the same here."""

    max_idletime: Duration = 120.0
    """A block that has had nothing to do for so long is given back."""

    drain_period: Duration | None = None
    """So long after its start a block takes no new work; it then ends when its tasks have."""

    # --- links

    address: AddressOrHosts = []
    """How nodes reach this host: a name, a number, several, or how to find it; all by default."""

    worker_port: Port | None = None
    """The port that managers connect to; a free one if not given."""

    worker_port_range: PortRange | None = None
    """Ports of which a free one is taken."""

    address_probe_timeout: Duration = Field(default=3.0, gt=0)
    """How long one address of several may take to answer."""

    heartbeat_period: Duration = Field(default=5.0, gt=0)
    """Between two signs of life of a manager."""

    heartbeat_threshold: Duration | None = None
    """A manager that is silent for so long is lost; three heartbeats if not given."""

    encrypted: bool = True
    """All links are encrypted by CURVE, also if this says false."""

    # --- tasks

    max_retries_on_system_failure: Count | None = Field(default=None, ge=0, le=1000)
    """How often a task whose worker died is tried again; 2 if neither this nor the task says."""

    @property
    def silence_s(self) -> float:
        """For how long a manager may be silent before it is lost, in seconds."""
        if self.heartbeat_threshold is None:
            return 3 * self.heartbeat_period
        return self.heartbeat_threshold

    @field_validator("cpu_affinity")
    @classmethod
    def _known_affinity(cls, value: str) -> str:
        if value in ("auto", "none", "block", "block-reverse", "alternating"):
            return value
        if value.startswith("list:"):
            if not _CORE_LIST.fullmatch(value.removeprefix("list:")):
                raise ValueError(
                    "cores by number for each worker, a colon between workers: list:0-3:4-7"
                )
            return value
        raise ValueError(
            f"{value!r} is none of: auto, none, block, block-reverse, alternating, list:0-3:4-7"
        )

    @field_validator("available_accelerators")
    @classmethod
    def _names_of_accelerators(cls, names: list[str]) -> list[str]:
        for name in names:
            if not name or re.search(r"[\s;'\"]", name):
                raise ValueError(f"{name!r} is no accelerator's name")
        if len(set(names)) != len(names):
            raise ValueError("names one accelerator twice")
        return names

    @field_validator("labels")
    @classmethod
    def _few_labels(cls, labels: list[str]) -> list[str]:
        if len(labels) > MOST_LABELS or any(len(label) > MOST_LABEL for label in labels):
            raise ValueError(f"up to {MOST_LABELS} labels of up to {MOST_LABEL} characters")
        for label in labels:
            if not label or label.startswith(("host:", "block:")):
                raise ValueError(f"{label!r} is no label: nodes have host: and block: anyway")
        return labels

    @field_validator("worker_port_range")
    @classmethod
    def _rising(cls, ports: tuple[int, int] | None) -> tuple[int, int] | None:
        if ports is not None and ports[0] > ports[1]:
            raise ValueError(f"the first port, {ports[0]}, is above the last, {ports[1]}")
        return ports


class Settings(Model):
    """What an endpoint's YAML may say on its top level, beside the engine's keys."""

    display_name: Name | None = None
    """A name for people."""

    engine: Engine = Engine()
    """How tasks are run. Its keys, and the provider's, may also stand on the top level."""

    python: Name | None = None
    """The Python on the nodes; if not given, that of worker_init, or the endpoint's own."""

    preload: Annotated[list[Name], BeforeValidator(_one_or_several)] = []
    """Modules that are imported once on each node, before workers are forked from it."""

    state_dir: Name | None = None
    """A directory that nodes see, if they do not see the endpoint's own."""

    endpoint_setup: Script = ""
    """Shell lines that run on this host before the endpoint starts."""

    endpoint_teardown: Script = ""
    """Shell lines that run on this host after it has stopped."""

    limits: Limits = Limits()
    """How large what is sent may be; what is not said here, each submitter says."""

    containers: Containers = Containers()
    """The containers that functions may choose."""

    logs: Logs = Logs()
    """How much is logged."""

    poll_interval: Duration = Field(default=30.0, ge=1)
    """Between two status commands, at least."""

    register_timeout: Duration = Field(default=300.0, ge=1)
    """A running block whose manager is silent for so long has failed."""

    stop_timeout: Duration = Field(default=30.0, ge=0)
    """How long a stop waits for running tasks."""

"""What an endpoint's processes are told, and what interchange and provisioner say to each other.

A supervisor gives its interchange an `InterchangeSpec`; the interchange gives its provisioner the
`ProvisionerSpec` in it, and asks it to submit, look after and cancel *blocks*: batch jobs, each
with a manager on each of its nodes. The provisioner may be killed at any moment, when a command of
the batch system hangs; whatever it was asked may then have happened or not.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.sizes import SizeLimits

# --- what the processes are told ----------------------------------------------------------------


class ScalingPolicy(msgspec.Struct, kw_only=True, frozen=True):
    """When an endpoint asks for blocks, and when it gives them back."""

    nodes_per_block: int = 1
    init_blocks: int = 0
    min_blocks: int = 0
    max_blocks: int = 1
    parallelism: float = 1.0  # worker slots that are wanted for each outstanding task
    scale: bool = True  # False: `strategy: none`, init_blocks and min_blocks alone
    max_idle_s: float = 120.0  # a block that has had nothing to do for so long is given back
    walltime_s: float = 0.0  # of a block; 0: it has none
    drain_s: float = 0.0  # before the end of its walltime a block gets no new work for so long
    poll_s: float = 30.0  # between two status commands, at least
    slots_per_node: int = 0  # workers that a node will have; 0: known when the first has registered
    register_s: float = 300.0  # a running block whose manager is silent for so long has failed


class ContainerSpec(msgspec.Struct, kw_only=True, frozen=True):
    """The container that managers and workers run in, on each node."""

    kind: str  # the runtime's command: podman, docker, apptainer, ...; or "custom"
    image: str = ""
    options: str = ""  # shell words for the runtime's command; of a custom one all of the command
    made: list[str] = []  # directories of the node that are seen in it; made if they are not there
    seen: list[str] = []  # likewise, if they are there
    home: str = ""  # the home directory, if it is seen where nothing else brings it


class ProvisionerSpec(msgspec.Struct, kw_only=True):
    """How blocks are made: Parsl's provider and launcher, by the names and keys of the YAML."""

    endpoint: str  # its name
    provider: dict[str, Any]  # {"type": "SlurmProvider", ..., "launcher": {"type": ...}}
    directory: str  # scripts and their output, visible on the nodes: see `EndpointDirectory.blocks`
    command: str  # what a block runs on each node, a shell command
    worker_init: str = ""  # run before the command
    walltime_s: float = 0.0
    command_s: float = 30.0  # a command of the batch system that takes longer is given up
    log_file: str = ""
    log_bytes: int = 10 * 2**20
    python: str = ""  # the interpreter that the YAML names for nodes; empty: see `launch.sh`
    umask: int = 0o022  # of the jobs, and so of what tasks write
    container: ContainerSpec | None = None  # None: managers run on the node itself


class InterchangeSpec(msgspec.Struct, kw_only=True):
    """All that a named endpoint's interchange is told. It comes as msgpack on its standard input.

    The defaults are an endpoint that asks nobody for nodes: managers come by themselves.
    """

    bind: str = "tcp://127.0.0.1:*"  # where managers register
    addresses: list[str] = []  # how nodes may reach this host; empty: all addresses it is bound to
    state_dir: str = ""  # what nodes must see: address, managers' key, blocks. Empty: the directory
    heartbeat_s: float = 5.0
    missed_heartbeats: int = 3
    retries: int | None = None  # of tasks that are lost; None: as each task's submitter says
    scaling: ScalingPolicy | None = None
    provisioner: ProvisionerSpec | None = None
    manager: ManagerSpec | None = None  # what is written into the directory for managers on nodes
    drain_s: float = 30.0  # how long a stop waits for running tasks, unless it says otherwise
    log_file: str = ""  # empty: standard error
    log_bytes: int = 10 * 2**20
    log_files: int = 2
    watch_pid: int = 0  # it ends, and cancels its blocks, when this process does
    watch_started: float = 0.0  # its start as `hosts.start_time` has it
    forwarder_key: str = ""  # the home's, if its forwarder may be on another host
    remove: bool = False  # leave nothing of the directory behind
    details: dict[str, Any] = {}  # of the configuration, for `get_endpoint_status`
    limits: SizeLimits = SizeLimits()  # of what tasks bring along, and of what comes back
    supervised: bool = False  # who stops it writes `stop.json`: SIGTERM alone is a logout's


class StopRequest(msgspec.Struct, kw_only=True):
    """How an interchange is to end: `stop.json` in its directory, read at SIGTERM."""

    keep_blocks: bool = False  # for a restart: the next interchange adopts them
    drain_s: float | None = None  # how long to wait for running tasks; None: as the spec says


# --- blocks ---------------------------------------------------------------------------------------


class BlockRef(msgspec.Struct, array_like=True, frozen=True):
    """A block, as both sides know it."""

    number: int
    name: str  # what the batch system's job is named by, or at least begins with
    job: str = ""  # the batch system's id, if it is known
    made_from: str = ""  # see `blocks_digest`; empty: not known


#: What a provider is told too and says nothing about what a block is.
_OF_SCALING = {"init_blocks", "min_blocks", "max_blocks", "parallelism", "cmd_timeout"}


def blocks_digest(spec: InterchangeSpec) -> str:
    """What blocks are made from, in 16 hexadecimal digits: they differ if another start of the
    endpoint would make other blocks. Empty: it makes none.
    """
    if spec.provisioner is None:
        return ""
    provider = {
        key: value for key, value in spec.provisioner.provider.items() if key not in _OF_SCALING
    }
    parts = [
        msgspec.structs.replace(
            spec.provisioner, provider=provider, command_s=0.0, log_file="", log_bytes=0
        ),
        spec.manager,
    ]
    data = msgspec.msgpack.encode(msgspec.to_builtins(parts, order="sorted"), order="sorted")
    return hashlib.sha256(data).hexdigest()[:16]


class JobPhase:
    """Where a job is. Plain strings, as they are seen in reports."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    #: The batch system has answered, and knows no such job: never submitted, or long forgotten.
    MISSING = "missing"


class JobReport(msgspec.Struct, array_like=True):
    """What the batch system says of a block."""

    block: int
    phase: str  # of JobPhase
    job: str = ""
    words: str = ""  # its own: "PENDING (Priority)", "TIMEOUT", "FAILED, exit code 1"
    nodes: str = ""
    stderr: str = ""  # of an ended one: the last lines that its script wrote
    fatal: str = ""  # of an ended one: why another would end the same way, if the script says so
    #: Its script was ended by SIGTERM. Why, and whether the job is over, the batch system knows.
    killed: bool = False


# --- interchange to provisioner -------------------------------------------------------------------


class SubmitBlock(msgspec.Struct, array_like=True, tag="submit"):
    """Submit a job; answered by Submitted or NotSubmitted."""

    block: BlockRef


class AskJobs(msgspec.Struct, array_like=True, tag="ask"):
    """How are these? One command for all; answered by Jobs."""

    blocks: list[BlockRef]


class CancelBlocks(msgspec.Struct, array_like=True, tag="cancel"):
    """Cancel these, also such as are known by name alone; answered by CancelDone."""

    blocks: list[BlockRef]


class WatchBlocks(msgspec.Struct, array_like=True, tag="watch"):
    """Tell, unasked, when the scripts of these end: that costs no command. It has no answer."""

    blocks: list[BlockRef]


# --- provisioner to interchange -------------------------------------------------------------------


class ProvisionerReady(msgspec.Struct, array_like=True, tag="ready"):
    """The provider could be made; `scheduler` is what people call it: "Slurm", "PBS"."""

    scheduler: str


class ProvisionerFailed(msgspec.Struct, array_like=True, tag="failed"):
    """The provider cannot be made: no block will ever come until somebody acts."""

    reason: str


class Submitted(msgspec.Struct, array_like=True, tag="submitted"):
    """The batch system has taken the job."""

    block: int
    job: str


class NotSubmitted(msgspec.Struct, array_like=True, tag="notsubmitted"):
    """The batch system has refused the job."""

    block: int
    reason: str  # in the batch system's words: "sbatch: error: invalid account"
    away: bool = False  # it could not be reached; which says nothing about the job
    unclear: bool = False  # it answered, but without a job's id; `away` is true as well


class Jobs(msgspec.Struct, array_like=True, tag="jobs"):
    """What is known of the blocks asked for. After a failed command nothing is: believe managers.

    It comes unasked too, of a block whose script has just ended.
    """

    reports: list[JobReport]
    failed: str = ""  # why the command failed
    unasked: bool = False


class CancelDone(msgspec.Struct, array_like=True, tag="cancelled"):
    """These are cancelled; the others of the request may still be there."""

    blocks: list[int]
    failed: str = ""


ToProvisioner = SubmitBlock | AskJobs | CancelBlocks | WatchBlocks
FromProvisioner = (
    ProvisionerReady | ProvisionerFailed | Submitted | NotSubmitted | Jobs | CancelDone
)

"""What a configuration makes of the endpoint's processes."""

from __future__ import annotations

import inspect
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import parsl.launchers
import parsl.providers
import pytest

from fxhpc.endpoint import specs
from fxhpc.endpoint.configuration.config import load_config_dict
from fxhpc.endpoint.specs import interchange_spec, provider_values
from fxhpc.errors import ConfigError
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.pool import ManagerSpec
from fxhpc.protocol.provision import InterchangeSpec, ProvisionerSpec, ScalingPolicy
from fxhpc.protocol.sizes import SizeLimits


def spec_of(values: dict[str, Any], path: str = "/home/me/ep", **options: Any) -> InterchangeSpec:
    config = load_config_dict(values)
    return interchange_spec(config, "ep", EndpointDirectory(path, config.state_dir), **options)


def scaling(values: dict[str, Any]) -> ScalingPolicy:
    policy = spec_of(values).scaling
    assert policy is not None
    return policy


def provisioner(values: dict[str, Any], path: str = "/home/me/ep") -> ProvisionerSpec:
    spec = spec_of(values, path).provisioner
    assert spec is not None
    return spec


def manager(values: dict[str, Any], **options: Any) -> ManagerSpec:
    spec = spec_of(values, **options).manager
    assert spec is not None
    return spec


def test_a_spec_travels() -> None:
    spec = spec_of({"provider": "slurm", "available_accelerators": 2, "launcher": "srun"})
    data = msgspec.msgpack.encode(spec)
    assert msgspec.msgpack.decode(data, type=InterchangeSpec) == spec
    msgspec.json.encode(spec)


def test_sizes_that_the_endpoint_limits() -> None:
    assert spec_of({}).limits == SizeLimits()
    values = {"limits": {"argument": "1MB", "result": 5000, "on_exceed": "spill"}}
    assert spec_of(values).limits == SizeLimits(2**20, 5000, True)
    assert spec_of(values).details["limits"] == {
        "argument": 2**20,
        "result": 5000,
        "on_exceed": "spill",
    }
    with pytest.raises(ConfigError, match=r"limits.argument: must be 4,096 or more, not 100"):
        spec_of({"limits": {"argument": 100}})


def test_scaling() -> None:
    policy = scaling(
        {
            "provider": "slurm",
            "nodes_per_block": 2,
            "min_blocks": 1,
            "max_blocks": 5,
            "parallelism": 0.5,
            "walltime": "90 s",
            "drain_period": 80,
            "max_idletime": "5 min",
            "max_workers_per_node": 8,
            "poll_interval": "1 min",
            "register_timeout": 60,
        }
    )
    assert policy == ScalingPolicy(
        nodes_per_block=2,
        init_blocks=1,  # min_blocks are wanted from the start
        min_blocks=1,
        max_blocks=5,
        parallelism=0.5,
        scale=True,
        max_idle_s=300,
        walltime_s=120,  # batch systems count minutes
        drain_s=40,  # counted from the end
        poll_s=60,
        slots_per_node=8,
        register_s=60,
    )
    assert scaling({"strategy": "none"}).scale is False


@pytest.mark.parametrize(
    ("values", "slots"),
    [
        ({}, 0),  # only a node knows
        ({"max_workers_per_node": 4}, 4),
        ({"max_workers_per_node": 4, "available_accelerators": 2}, 2),
        ({"provider": "slurm", "cores_per_node": 8, "cores_per_worker": 3, "exclusive": False}, 2),
        ({"provider": "slurm", "cores_per_node": 8}, 0),  # exclusive: there may be more
        ({"available_accelerators": 3}, 3),
        ({"available_accelerators": 3, "accelerators": "on_request"}, 0),
    ],
)
def test_slots_of_a_node_as_far_as_they_are_known(values: dict[str, Any], slots: int) -> None:
    assert scaling(values).slots_per_node == slots


GIB = 2**30


@pytest.mark.parametrize(
    ("values", "cores", "memory"),
    [
        ({"provider": "slurm"}, None, None),  # only a node knows
        ({"provider": "slurm", "max_workers_per_node": 4, "cores_per_worker": 2}, 8, None),
        ({"provider": "slurm", "max_workers_per_node": 4, "cpu_affinity": "block"}, None, None),
        ({"provider": "slurm", "cores_per_node": 8, "exclusive": False}, 8, None),
        ({"provider": "slurm", "mem_per_node": 100}, None, 95 * GIB),
        ({}, 6, 19 * GIB),  # this host
        ({"max_workers_per_node": 2}, 2, 19 * GIB),
    ],
)
def test_what_tasks_of_a_node_can_have_as_far_as_it_is_known(
    values: dict[str, Any], cores: float | None, memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(specs, "usable_cores", lambda environ: 6)
    monkeypatch.setattr(specs, "usable_memory", lambda environ, cores: 20 * GIB)
    details = spec_of(values).details
    assert (details["cores_for_tasks"], details["memory_for_tasks"]) == (cores, memory)


@pytest.mark.parametrize(
    ("values", "launcher"),
    [
        ({}, {"type": "SingleNodeLauncher"}),
        ({"provider": "slurm"}, {"type": "SingleNodeLauncher"}),
        ({"provider": "torque"}, {"type": "SingleNodeLauncher"}),
        (
            {"provider": "slurm", "nodes_per_block": 2},
            {"type": "SrunLauncher", "overrides": "--overlap"},
        ),
        ({"provider": "pbs", "nodes_per_block": 2}, {"type": "MpiExecLauncher"}),
        (
            {"provider": "slurm", "launcher": {"type": "srun", "overrides": "-c 4"}},
            {"type": "SrunLauncher", "overrides": "--overlap -c 4"},
        ),
        (
            {"provider": "slurm", "launcher": {"type": "srun", "overrides": "-c 4 --overlap"}},
            {"type": "SrunLauncher", "overrides": "-c 4 --overlap"},
        ),
        (
            {"provider": "slurm", "launcher": {"type": "srun", "overrides": "true; srun -n 1"}},
            {"type": "SrunLauncher", "overrides": "true; srun -n 1"},
        ),
        (
            {"launcher": {"type": "simple", "debug": False}},
            {"type": "SimpleLauncher", "debug": False},
        ),
    ],
)
def test_launchers(values: dict[str, Any], launcher: dict[str, Any]) -> None:
    assert provider_values(load_config_dict(values))["launcher"] == launcher


@pytest.mark.parametrize(
    "values",
    [
        {"provider": "local", "cmd_timeout": 5},
        {"provider": "slurm", "partition": "a", "account": "b", "qos": "c", "constraint": "d",
         "clusters": "e", "gres": "gpu:1", "gpus_per_node": 1, "cores_per_node": 2,
         "mem_per_node": "3GB", "exclusive": False, "regex_job_id": "(?P<id>x)",
         "status_batch_size": 3, "scheduler_options": "#SBATCH -x", "cmd_timeout": 2.5,
         "launcher": {"type": "srun", "overrides": "x", "debug": True}},
        {"provider": "pbs", "queue": "a", "account": "b", "select_options": "c=1",
         "cpus_per_node": 3, "launcher": {"type": "mpiexec", "bind_cmd": "b"}},
        {"provider": "torque", "queue": "a", "account": "b", "launcher": "mpirun"},
        {"provider": "lsf", "queue": "a", "project": "b", "cores_per_block": 1},
        {"provider": "gridengine", "queue": "a", "launcher": "gnu_parallel"},
        {"provider": "condor", "requirements": "x", "environment": {"A": "1"}},
        {"provider": "kubernetes", "image": "x", "namespace": "y"},
        {"provider": {"type": "AWSProvider", "image_id": "x", "key_name": "y"}},
    ],
    ids=lambda values: str(values["provider"]),
)  # fmt: skip
def test_parsl_knows_all_that_it_is_told(values: dict[str, Any]) -> None:
    told = provider_values(load_config_dict(values))
    provider = getattr(parsl.providers, told.pop("type"))
    launcher = told.get("launcher")
    if launcher is not None:
        launcher = dict(launcher)
        kind = getattr(parsl.launchers, launcher.pop("type"))
        inspect.signature(kind).bind(**launcher)
    inspect.signature(provider).bind(**told)


def test_what_the_provisioner_is_told() -> None:
    spec = provisioner(
        {
            "provider": "slurm",
            "walltime": "1h",
            "worker_init": "module load x",
            "cmd_timeout": "1 min",
            "python": "~/bin/python",
            "logs": {"max_bytes": "1MB"},
        },
        "/a b/it's",
    )
    assert spec.provider["walltime"] == "01:00:00"
    assert (spec.walltime_s, spec.command_s) == (3600, 60)
    assert spec.worker_init == "module load x"
    assert spec.directory == "/a b/it's/blocks"
    assert spec.python == os.path.expanduser("~/bin/python")
    assert spec.log_file == "/a b/it's/logs/provisioner.log"
    assert spec.log_bytes == 2**20


def test_jobs_get_the_umask_of_who_starts_the_endpoint() -> None:
    before = os.umask(0o027)
    try:
        made = spec_of({}).provisioner
        assert made is not None
        assert made.umask == 0o027
        assert os.umask(0o027) == 0o027  # it is as it was
    finally:
        os.umask(before)
    given = spec_of({}, umask=0o002).provisioner
    assert given is not None
    assert given.umask == 0o002


def test_what_managers_are_told() -> None:
    spec = manager(
        {
            "provider": "slurm",
            "state_dir": "/shared/ep",
            "max_workers_per_node": 4,
            "cores_per_worker": 0.5,
            "mem_per_worker": "2GB",
            "cpu_affinity": "block",
            "available_accelerators": 2,
            "walltime": "1h",
            "logs": {"workers": True, "max_bytes": "1MB"},
            "address_probe_timeout": 7,
        }
    )
    assert spec.endpoint == b""
    assert (spec.workers, spec.max_workers) == (0, 4)
    assert spec.address_file == "/shared/ep/managers.address"
    assert spec.key_file == "/shared/ep/manager.key"
    assert (spec.cores_per_worker, spec.memory_per_worker) == (0.5, 2**31)
    assert (spec.affinity, spec.accelerators) == ("block", ["0", "1"])
    assert spec.walltime_s == 3600
    assert spec.log_dir == "/shared/ep/manager-logs"
    assert (spec.worker_logs, spec.log_bytes) == (True, 2**20)
    assert spec.address_probe_s == 7
    assert (spec.cwd, spec.sandbox) == (str(Path.home()), "")


@pytest.mark.parametrize(
    ("values", "cwd", "sandbox"),
    [
        ({}, "/from/where", ""),
        ({"working_dir": "work"}, "/home/me/ep/work", ""),
        ({"working_dir": "/scratch"}, "/scratch", ""),
        ({"run_in_sandbox": True}, "/from/where", "/home/me/ep/tasks_working_dir"),
        ({"run_in_sandbox": True, "working_dir": "/scratch"}, "/scratch", "/scratch"),
    ],
)
def test_where_tasks_run(values: dict[str, Any], cwd: str, sandbox: str) -> None:
    spec = manager(values, cwd="/from/where")
    assert (spec.cwd, spec.sandbox) == (cwd, sandbox)


def test_retries_are_the_submitters_unless_the_endpoint_says() -> None:
    assert spec_of({}).retries is None
    assert spec_of({"max_retries_on_system_failure": 0}).retries == 0
    assert spec_of({}).details["max_retries_on_system_failure"] == 2


def test_heartbeats() -> None:
    spec = spec_of({"heartbeat_period": 30, "heartbeat_threshold": 120})
    assert (spec.heartbeat_s, spec.missed_heartbeats) == (30, 4)


@pytest.mark.parametrize(
    ("values", "bind"),
    [
        ({}, "tcp://127.0.0.1:*"),
        ({"worker_port": 54321}, "tcp://127.0.0.1:54321"),
        ({"address": "login1"}, "tcp://0.0.0.0:*"),
        ({"provider": "slurm"}, "tcp://0.0.0.0:*"),
        ({"nodes_per_block": 2, "launcher": "srun"}, "tcp://0.0.0.0:*"),  # inside an allocation
    ],
)
def test_only_managers_of_other_hosts_need_a_port_that_they_reach(
    values: dict[str, Any], bind: str
) -> None:
    assert spec_of(values).bind == bind


def test_a_free_port_of_a_range() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"no port from {port} to {port} is free"):
            spec_of({"worker_port_range": [port, port]})
    assert spec_of({"worker_port_range": [port, port]}).bind == f"tcp://127.0.0.1:{port}"


def test_addresses() -> None:
    def addresses(value: Any) -> list[str]:
        return spec_of({"provider": "slurm", "address": value}).addresses

    assert spec_of({"provider": "slurm"}).addresses == []
    assert addresses("login1.cluster") == ["login1.cluster"]
    assert addresses(["10.0.0.1", "10.1.0.1"]) == ["10.0.0.1", "10.1.0.1"]
    assert addresses({"type": "address_by_interface", "ifname": "lo"}) == ["127.0.0.1"]
    assert len(addresses({"type": "address_by_route"})) <= 1
    assert addresses({"type": "address_by_query"}) == []
    with pytest.raises(ConfigError, match=r"'ib99' is not there on .*there are: .*lo"):
        addresses({"type": "address_by_interface", "ifname": "ib99"})


def test_a_state_directory_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"state_dir: .*file is no directory"):
        spec_of({"state_dir": str(tmp_path / "file" / "x")})
    assert spec_of({"state_dir": str(tmp_path / "new" / "x")}).state_dir.endswith("new/x")


def test_what_a_block_runs() -> None:
    assert provisioner({}).command == "/bin/sh /home/me/ep/blocks/launch.sh"
    assert provisioner({}).container is None


def test_details_are_plain() -> None:
    details = spec_of(
        {"provider": "slurm", "partition": "debug", "account": "abc", "label": "mine"}
    ).details
    assert details["queue"] == "debug"
    assert details["account"] == "abc"
    assert details["provider_type"] == "SlurmProvider"
    assert details["display_name"] == "mine"
    assert details["scaling_enabled"] is True
    assert spec_of({"mem_per_worker": "512MB"}).details["mem_per_worker"] == 0.5  # GB
    assert msgspec.json.decode(msgspec.json.encode(details)) == details


@pytest.mark.parametrize("path", ["/home/a%j/ep", "/home/a\\b/ep", "/home/a\nb/ep"])
def test_a_directory_that_the_batch_system_would_misread(path: str) -> None:
    with pytest.raises(ConfigError, match="name a `state_dir` without it"):
        spec_of({"provider": "slurm"}, path)
    spec_of({"provider": "slurm", "state_dir": "/home/plain"}, path)
    spec_of({}, path)

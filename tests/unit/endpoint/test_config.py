"""Configurations: the words that users know, on the levels where they write them, and what is said
of what is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fxhpc.endpoint.configuration.config import (
    EndpointConfig,
    load_config,
    load_config_dict,
    template,
)
from fxhpc.endpoint.configuration.provider import PBSProProvider, SlurmProvider
from fxhpc.errors import ConfigError


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads a text as a file `f.yaml` of the working directory."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str) -> EndpointConfig:
        Path("f.yaml").write_text(text)
        return load_config("f.yaml")

    return load_text


@pytest.fixture
def problems(load: Any) -> Any:
    """What is wrong with a text."""

    def of(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert str(caught.value) == "\n".join(caught.value.problems)
        return caught.value.problems

    return of


# --- what is understood -------------------------------------------------------------------------


def test_all_defaults() -> None:
    config = load_config_dict({})
    assert config.provider_type == "LocalProvider"
    assert config.warnings == []
    assert (config.provider.init_blocks, config.provider.min_blocks) == (0, 0)
    assert (config.provider.max_blocks, config.provider.nodes_per_block) == (1, 1)
    assert config.engine.max_workers_per_node is None
    assert config.engine.max_idletime == 120
    assert config.engine.heartbeat_period == 5
    assert config.engine.silence_s == 15
    assert (config.walltime_s, config.state_dir, config.display_name) == (0, "", "")


def test_engine_provider_and_launcher_by_type(load: Any) -> None:
    config = load(
        """
display_name: Midway
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 4
  mem_per_worker: 1.5
  available_accelerators: [gpu0, 7]
  provider:
    type: SlurmProvider
    partition: 2024
    account: 1.10
    exclusive: no
    mem_per_node: 96 GB
    walltime: 1h30m
    worker_init: |
      module load python
    launcher:
      type: SrunLauncher
      overrides: -c 4
"""
    )
    assert config.display_name == "Midway"
    assert config.engine.mem_per_worker == 1.5 * 2**30
    assert config.engine.available_accelerators == ["gpu0", "7"]
    provider = config.provider
    assert isinstance(provider, SlurmProvider)
    assert (provider.partition, provider.account) == ("2024", "1.10")  # as they are written
    assert (provider.exclusive, provider.mem_per_node) == (False, 96)
    assert config.walltime_s == 5400
    assert provider.worker_init == "module load python\n"
    assert provider.launcher is not None
    assert provider.launcher.overrides == "-c 4"


def test_short_names() -> None:
    config = load_config_dict(
        {"engine": {"type": "htex", "provider": {"type": "pbs", "launcher": "mpiexec"}}}
    )
    assert config.engine.type == "HighThroughputExecutor"
    assert isinstance(config.provider, PBSProProvider)
    assert config.provider.launcher is not None
    assert config.provider.launcher.type == "MpiExecLauncher"


@pytest.mark.parametrize(
    "written", ["slurm", "Slurm", "SlurmProvider", "parsl.providers.SlurmProvider"]
)
def test_a_provider_may_be_named_in_a_word(written: str) -> None:
    assert load_config_dict({"provider": written}).provider_type == "SlurmProvider"
    assert load_config_dict({"engine": {"provider": written}}).provider_type == "SlurmProvider"


@pytest.mark.parametrize("level", ["top", "engine", "provider"])
def test_a_key_may_stand_on_any_level(level: str) -> None:
    keys = {
        "max_workers_per_node": 3,
        "walltime": "20 min",
        "nodes_per_block": 2,
        "state_dir": "/shared",
        "partition": "debug",
        "heartbeat_period": 7,
    }
    values: dict[str, Any] = {"engine": {"provider": {"type": "slurm"}}}
    target = {
        "top": values,
        "engine": values["engine"],
        "provider": values["engine"]["provider"],
    }[level]
    target.update(keys)
    config = load_config_dict(values)
    assert config.engine.max_workers_per_node == 3
    assert config.provider.nodes_per_block == 2
    assert config.walltime_s == 1200
    assert config.state_dir == "/shared"
    assert config.engine.heartbeat_period == 7


def test_the_engines_heartbeat_goes_before_that_of_globus_cloud() -> None:
    config = load_config_dict({"heartbeat_period": 30, "engine": {"heartbeat_period": 10}})
    assert (config.engine.heartbeat_period, config.engine.silence_s) == (10, 30)


@pytest.mark.parametrize(
    ("values", "scales", "idle"),
    [
        ({}, True, 120),
        ({"strategy": "none"}, False, 120),
        ({"strategy": "None"}, False, 120),
        ({"strategy": None}, True, 120),
        ({"strategy": "htex_auto_scale", "max_idletime": "5 min"}, True, 300),
        ({"strategy": {"type": "SimpleStrategy", "max_idletime": 90}}, True, 90),
        ({"job_status_kwargs": {"max_idletime": 60.0, "strategy": "none"}}, False, 60),
    ],
)
def test_strategies_in_all_their_forms(values: dict[str, Any], scales: bool, idle: float) -> None:
    engine = load_config_dict({"engine": values}).engine
    assert (engine.strategy != "none", engine.max_idletime) == (scales, idle)


@pytest.mark.parametrize(
    ("written", "names"),
    [(0, []), (2, ["0", "1"]), ("2", ["0", "1"]), (["a", 1], ["a", "1"]), (None, [])],
)
def test_accelerators_by_number_or_name(written: Any, names: list[str]) -> None:
    config = load_config_dict({"available_accelerators": written})
    assert config.engine.available_accelerators == names


@pytest.mark.parametrize(
    "affinity",
    ["auto", "none", "block", "block-reverse", "alternating", "list:0-3:4-7", "list:0,2:1,3"],
)
def test_affinities(affinity: str) -> None:
    assert load_config_dict({"cpu_affinity": affinity}).engine.cpu_affinity == affinity


def test_old_names_of_max_workers_per_node() -> None:
    assert load_config_dict({"max_workers": 3}).engine.max_workers_per_node == 3
    assert load_config_dict({"max_workers": float("inf")}).engine.max_workers_per_node is None


@pytest.mark.parametrize("kind", ["ThreadPoolEngine", "ProcessPoolEngine"])
def test_pools_are_there_from_the_start_on_this_host(kind: str) -> None:
    config = load_config_dict({"engine": {"type": kind, "max_workers": 3}})
    assert config.provider_type == "LocalProvider"
    assert (config.provider.init_blocks, config.provider.min_blocks) == (1, 1)
    assert config.engine.max_workers_per_node == 3


def test_paths_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("HOME", "/home/me")
    assert load_config_dict({"state_dir": "$SCRATCH/x"}).state_dir == "/scratch/me/x"
    assert load_config_dict({"state_dir": "~/x y'z"}).state_dir == "/home/me/x y'z"
    assert load_config_dict({"state_dir": Path("/a")}).state_dir == "/a"


# --- warnings -----------------------------------------------------------------------------------


def test_keys_of_the_cloud_are_named_in_one_warning(load: Any) -> None:
    config = load(
        "amqp_port: 443\nhigh_assurance: false\nadmins: [a]\nidle_heartbeats_soft: 0\n"
        "subscription_id:\nallowed_functions: [x]\n"
    )
    assert config.warnings == [
        "f.yaml: keys for Globus' cloud, which fxhpc does not use, are ignored: admins, "
        "allowed_functions, amqp_port, high_assurance"
    ]


def test_keys_without_a_meaning_are_named_in_one_warning(load: Any) -> None:
    config = load(
        "engine:\n  worker_debug: true\n  poll_period: 10\n  storage_access: []\n"
        "  strategy: {type: SimpleStrategy, interval: 1}\n"
        "  provider: {type: local, channel: {type: LocalChannel}}\n"
    )
    assert config.warnings == [
        "f.yaml: keys without a meaning for fxhpc are ignored: engine.poll_period, "
        "engine.provider.channel, engine.storage_access, engine.strategy.interval, "
        "engine.worker_debug"
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"encrypted": False}, "encrypted all the same"),
        ({"address": {"type": "address_by_query"}}, "would ask somebody outside"),
        ({"provider": "lsf"}, "LSFProvider is passed through to Parsl"),
        ({"engine": {"type": "GlobusMPIEngine"}}, "ranks and nodes are given to"),
        ({"max_workers_per_node": 4, "available_accelerators": 2}, "there will be 2"),
        ({"max_workers_per_node": 2, "available_accelerators": 4}, "who use one each"),
        ({"accelerators": "on_request"}, "and a node has none"),
        ({"provider": "slurm", "nodes_per_block": 2, "launcher": "single_node"}, "first of 2"),
        ({"provider": "slurm", "scheduler_options": "-p x"}, "does not begin with '#SBATCH'"),
        ({"provider": "slurm", "poll_interval": 5}, "each 30 s"),
        ({"drain_period": 60}, "is ignored: blocks have no walltime"),
        ({"provider": "slurm", "walltime": 100}, "1 min 40 s is rounded up to 2 min 0 s"),
        ({"provider": "slurm", "mem_per_node": 64000}, "64,000 GB on each node; for MB write"),
        ({"init_blocks": 0, "min_blocks": 1}, "asked for at the start too"),
        (
            {"container_type": "docker", "container_uri": "x"},
            "of docker containers the command line alone",
        ),
    ],
)
def test_what_an_author_should_know(values: dict[str, Any], words: str) -> None:
    warnings = load_config_dict(values).warnings
    assert len(warnings) == 1
    assert words in warnings[0]
    assert warnings[0].startswith("config: ")


# --- problems -----------------------------------------------------------------------------------


def test_all_problems_at_once_with_their_lines(problems: Any) -> None:
    found = problems(
        """\
engine:
  max_worker_per_node: 4
  cpu_affinity: blok
  provider:
    type: SlurmProvider
    queue: debug
    walltime: 1 houuur
    max_blocks: two
    launcher: {type: srunn}
limits: {argumnt: 1}
"""
    )
    assert found == [
        "f.yaml:2: engine.max_worker_per_node: there is no such key "
        "(did you mean 'max_workers_per_node'?)",
        "f.yaml:3: engine.cpu_affinity: 'blok' is none of: auto, none, block, block-reverse, "
        "alternating, list:0-3:4-7",
        "f.yaml:6: engine.provider.queue: SlurmProvider has no key 'queue' "
        "(did you mean 'partition'?)",
        "f.yaml:7: engine.provider.walltime: '1 houuur': 'houuur' is no unit of time (s, min, h, "
        "d); write for example 90, '30 min', '1h30m' or '01:30:00'",
        "f.yaml:8: engine.provider.max_blocks: must be a whole number, not 'two'",
        "f.yaml:9: engine.provider.launcher.type: 'srunn' is none of: SimpleLauncher, "
        "SingleNodeLauncher, WrappedLauncher, SrunLauncher, SrunMPILauncher, MpiExecLauncher, "
        "MpiRunLauncher, AprunLauncher, JsrunLauncher, GnuParallelLauncher "
        "(did you mean 'SrunLauncher'?)",
        "f.yaml:10: limits.argumnt: there is no such key (did you mean 'argument'?)",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("max_blocks: true", "f.yaml:1: max_blocks: must be a number, not true"),
        ("max_blocks: 0", "f.yaml:1: max_blocks: must be 1 or more, not 0"),
        ("parallelism: 2", "f.yaml:1: parallelism: must be 1 or less, not 2"),
        ("cores_per_worker: 0", "f.yaml:1: cores_per_worker: must be more than 0, not 0"),
        ("run_in_sandbox: perhaps", "must be true or false, not 'perhaps'"),
        ("nodes-per-block: 2", "(did you mean 'nodes_per_block'?)"),
        ("worker_port: 99999", "must be 65,535 or less"),
        ("worker_port_range: [1]", "must be two numbers"),
        ("worker_port_range: 7", "must be a list"),
        ("worker_port_range: [9, 8]", "the first port, 9, is above the last, 8"),
        ("worker_port: 5\nworker_port_range: [8, 9]", "5 is outside worker_port_range"),
        ("logs: 3", "logs: must be keys with values"),
        ("logs: {max_bytes: 5}", "must be 10 KB at least"),
        ("engine: 3", "engine: must be keys with values, at least `type: GlobusComputeEngine`"),
        ("engine: FooEngine", "'FooEngine' is no engine; there are: FxhpcEngine"),
        ("provider: [slurm]", "provider: must be keys with values"),
        ("provider: slrum", "'slrum' is no provider"),
        ("provider: SlurmProvder", "(did you mean 'SlurmProvider'?)"),
        ("provider: CobaltProvider", "Parsl has no CobaltProvider any more"),
        ("provider: {partition: x}", "provider: `type` is missing"),
        ("partition: x", "belongs to a batch system, and none is named"),
        ("provider: slurm\nprovider_type: x", "there is no such key"),
        ("provider: slurm\nwalltime: 30", "must be 1 min 0 s or more, not 30.0 s (a plain"),
        ("provider: slurm\nwalltime: 1e12", "must be 87840 h 0 min or less"),
        ("walltime: .inf", "must be a finite number"),
        ("parallelism: .nan", "must be 1 or less, not '.nan'"),
        ("cores_per_worker: inf", "must be a finite number"),
        ("max_blocks: .inf", "must be a finite number"),
        ("max_blocks: 1000000000", "must be 10,000 or less, not 1000000000"),
        ("max_workers_per_node: 4097", "must be 4,096 or less, not 4097"),
        ("provider: slurm\nnodes_per_block: 1000001", "must be 100,000 or less"),
        ("provider: slurm\nregex_job_id: '('", "is no regular expression"),
        ("provider: slurm\nregex_job_id: 'x'", "must hold the group"),
        ("provider: slurm\naccount: \"a\\nb\"", "must be one line"),
        ("provider: slurm\nmax_blocks: 1\ninit_blocks: 2", "2 is above max_blocks (1)"),
        ("min_blocks: 2", "2 is above max_blocks (1, its default)"),
        ("provider: slurm\ndrain_period: 1h", "must be shorter than its walltime (10 min 0 s)"),
        ("heartbeat_period: 9\nheartbeat_threshold: 9", "must be longer than heartbeat_period"),
        ("cpu_affinity: 'list:a-b'", "cores by number for each worker"),
        ("cpu_affinity: 'list:0:1'\nmax_workers: 3", "lists cores for 2 workers"),
        ("available_accelerators: gpu", "list of their names: ['gpu']"),
        ("available_accelerators: [a, a]", "names one accelerator twice"),
        ("available_accelerators: ['a b']", "is no accelerator's name"),
        ("available_accelerators: -1", "must be between 0 and 1024"),
        ("available_accelerators: true", "is a number of accelerators"),
        ("address: {type: address_by_interface}", "needs `ifname`"),
        ("address: {type: address_by_magic}", "'address_by_magic' is none of"),
        ("nodes_per_block: 2", "LocalProvider has one node"),
        ("launcher: {type: wrapped}", "launcher.prepend: is missing"),
        ("launcher: {type: srun, bind_cmd: x}", "SrunLauncher has no key 'bind_cmd'"),
        ("launcher: 3", "launcher: must be keys with values"),
        ("container_uri: x", "container_type: is missing"),
        ("container_type: apptainer", "container_uri: is missing"),
        ("container_type: apptainer\ncontainer_uri: $NONE/x", "has no variable $NONE"),
        ("container_type: podman\ncontainer_uri: -x", "'-x' is no image's name"),
        (
            "container_type: podman\ncontainer_uri: x\ncontainer_cmd_options: -e 'a",
            "container_cmd_options: is no piece of a shell command: No closing quotation",
        ),
        ("container_type: custom", "must hold {EXECUTOR_LAUNCH_CMD}"),
        ("state_dir: relative/path", "must be absolute"),
        ("state_dir: $NO_SUCH_VARIABLE/x", "has no variable $NO_SUCH_VARIABLE"),
        ("state_dir: 3", "'3' must be absolute"),
        ("provider: slurm\nstate_dir: /x/a%j", "'/x/a%j' has a '%', which stands for a pattern"),
        ("provider: torque\nstate_dir: '/x/a\\b'", "has a backslash"),
        ("strategy: 5", "strategy: must be keys with values"),
        ("strategy: fast", "'fast' is none of: none, simple, htex_auto_scale"),
        ("strategy: {type: Other}", "'Other' is no strategy"),
        ("strategy: {type: SimpleStrategy, max_idle: 3}", "(did you mean 'max_idletime'?)"),
        ("job_status_kwargs: simple", "must be keys with values"),
        ("mem_per_worker: 4 parsecs", "is not a size; write for example 4GB"),
        ("max_retries_on_system_failure: -1", "must be 0 or more"),
        ("walltime: 5\nengine: {provider: {type: local, walltime: 6}}", "on line 2 too, with"),
        ("provider: kubernetes", "image: is missing"),
        ("provider: aws\nimage_id: [", "is not YAML"),
    ],
)  # fmt: skip
def test_problems_in_words(problems: Any, text: str, line: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert line in found[0]
    assert found[0].startswith("f.yaml:")


def test_a_mistake_hides_no_other(problems: Any) -> None:
    """One in the provider's type, in a key's kind, in YAML itself."""
    assert problems(
        """\
provider:
  type: SlurmProvder
  walltime: soon
max_blocks: two
? [a, b]
: c
max_blocks: 2
nodes_per_block: 0
"""
    ) == [
        "f.yaml:2: provider.type: 'SlurmProvder' is no provider (did you mean 'SlurmProvider'?); "
        "there are: AWSProvider, AzureProvider, CondorProvider, GoogleCloudProvider, "
        "GridEngineProvider, KubernetesProvider, LSFProvider, LocalProvider, PBSProProvider, "
        "SlurmProvider, TorqueProvider",
        "f.yaml:3: provider.walltime: 'soon' is not a duration; write for example 90, '30 min', "
        "'1h30m' or '01:30:00'",
        "f.yaml:4: max_blocks: must be a whole number, not 'two'",
        "f.yaml:5: a key must be a plain word",
        "f.yaml:7: max_blocks: is there twice, on line 4 too",
        "f.yaml:8: nodes_per_block: must be 1 or more, not 0",
    ]
    assert len(problems("provider: {type: vax, walltime: soon, partition: x, max_blocks: 0}")) == 3
    assert len(problems("provider: {walltime: soon, partition: x, max_blocks: 0}")) == 3


def test_a_command_may_look_like_a_truth(load: Any) -> None:
    assert load("worker_init: true\n").provider.worker_init == "true"


def test_as_many_workers_as_fit(load: Any) -> None:
    assert load("max_workers_per_node: .inf\n").engine.max_workers_per_node is None


def test_a_key_that_is_told_twice_alike_is_no_problem() -> None:
    values = {"walltime": "5 min", "engine": {"provider": {"type": "slurm", "walltime": "5 min"}}}
    assert load_config_dict(values).walltime_s == 300


def test_a_cloud_provider_takes_what_parsl_takes() -> None:
    values = {"provider": {"type": "AWSProvider", "image_id": "ami", "key_name": "k"}}
    assert load_config_dict(values).provider.model_extra == {"image_id": "ami", "key_name": "k"}


def test_a_dictionary_is_left_as_it_is() -> None:
    values = {"engine": {"provider": {"type": "slurm"}, "max_workers": 3}}
    load_config_dict(values)
    assert values == {"engine": {"provider": {"type": "slurm"}, "max_workers": 3}}


def test_funcx_configuration_in_python_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("config = Config(executors=[HighThroughputExecutor()])")
    for given in (path, tmp_path):
        with pytest.raises(ConfigError, match="write the same in YAML"):
            load_config(given)


def test_templates_to_begin_with() -> None:
    assert "SlurmProvider" in template("slurm")
    with pytest.raises(ConfigError, match="there are: local, slurm, pbs, anvil"):
        template("vax")

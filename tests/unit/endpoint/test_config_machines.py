"""Configurations of real machines: ours in configs/, and files in the shape of Globus Compute's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fxhpc.endpoint import specs
from fxhpc.endpoint.configuration.config import load_config, template
from fxhpc.endpoint.configuration.engine import Engine, Settings
from fxhpc.endpoint.configuration.provider import PROVIDERS, Launcher
from fxhpc.endpoint.configuration.schema import json_schema
from fxhpc.endpoint.configuration.yaml_file import parse, parse_file
from fxhpc.endpoint.provisioner.providers import render
from fxhpc.endpoint.specs import provider_values
from fxhpc.errors import ConfigError
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.provision import BlockRef

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
GLOBUS = sorted((Path(__file__).parent / "globus").glob("*.yaml"))
_PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z_]+) *\}\}")
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def variables(path: Path) -> dict[str, Any]:
    """A value for every placeholder of a file."""
    names = _PLACEHOLDER.findall(path.read_text())
    special = {"OPTIONS": "#SBATCH --qos=a\n#SBATCH --mem=0", "WORKERS": 2, "WORKERS_PER_NODE": 2}
    return {name: special.get(name, "value") for name in names}


def filled_in(path: Path, folder: Path) -> Path:
    """A copy in which people have replaced the placeholders."""
    text = path.read_text().replace("{{ OPTIONS }}", '"#SBATCH --qos=a"')
    copy = folder / path.name
    copy.write_text(re.sub(r"\{\{[^}]*\}\}", "value", text))
    return copy


def test_there_are_the_machines_that_we_promise() -> None:
    assert {path.stem for path in CONFIGS} >= {"local", "slurm", "pbs", "perlmutter", "polaris"}
    assert len(GLOBUS) >= 13


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.stem))
def test_ready_configurations_are_in_order(path: Path) -> None:
    config = load_config(path)
    assert config.warnings == []
    assert template(path.stem) == path.read_text()
    VALIDATOR.validate(parse_file(path).data)


@pytest.mark.parametrize("kind", ["local", "slurm", "pbs"])
def test_ready_configurations_are_in_order_with_all_that_is_commented_out(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "me")
    head, mark, text = template(kind).partition("display_name:")
    text = re.sub(r"^( *)# (?=[a-z_]+:(?: |$))", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"^( *)# (?=  )", r"\1", text, flags=re.MULTILINE)
    path = tmp_path / "f.yaml"
    path.write_text(head + mark + text)
    config = load_config(path)
    assert config.settings.engine.model_fields_set > {"provider", "max_workers_per_node"}


@pytest.mark.parametrize("path", GLOBUS, ids=lambda path: str(path.stem))
def test_globus_files_load_when_placeholders_are_replaced(path: Path, tmp_path: Path) -> None:
    copy = filled_in(path, tmp_path)
    config = load_config(copy)
    assert provider_values(config)["type"] == config.provider_type
    ignored = [warning for warning in config.warnings if "are ignored" in warning]
    assert len(ignored) <= 2  # one for the cloud, one for what has no meaning here
    VALIDATOR.validate(parse(copy.read_text(), path.name).data)


@pytest.mark.parametrize(
    "path", [path for path in GLOBUS if path.stem != "delta"], ids=lambda path: str(path.stem)
)
def test_globus_files_load_when_variables_are_given(path: Path) -> None:
    assert load_config(path, variables(path)).engine.type.endswith("Engine")


@pytest.mark.parametrize(
    "path", [path for path in GLOBUS if "{{" in path.read_text()], ids=lambda path: str(path.stem)
)
def test_placeholders_that_were_left_are_named_with_their_lines(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    lines = path.read_text().splitlines()
    for problem in caught.value.problems:
        line, name = re.match(
            r".*?:(\d+): \S+: '\{\{ (.*?) \}\}' is to be replaced", problem
        ).groups()  # type: ignore[union-attr]
        block = "\n".join(lines[int(line) - 1 :])
        assert name in block


def test_what_polaris_says_reaches_parsl() -> None:
    path = next(path for path in GLOBUS if path.stem == "polaris")
    assert provider_values(load_config(path, variables(path))) == {
        "type": "PBSProProvider",
        "nodes_per_block": 1,
        "account": "value",
        "queue": "debug-scaling",
        "cpus_per_node": 32,
        "select_options": "ngpus=4",
        "scheduler_options": "#PBS -l filesystems=home:grand:eagle",
        "walltime": "01:00:00",
        "cmd_timeout": 30,
        "launcher": {
            "type": "MpiExecLauncher",
            "bind_cmd": "--cpu-bind",
            "overrides": "--depth=64 --ppn 1",
        },
    }


def test_the_schema_is_one_and_describes_every_key() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    described = schema["properties"]
    for key in ("max_workers_per_node", "walltime", "provider", "engine", "heartbeat_period"):
        assert described[key]["description"], key


@pytest.mark.parametrize(
    "values",
    [{"max_worker": 3}, {"provider": "vax"}, {"provider": {"type": "slurm", "queue": "x"}}],
)
def test_the_schema_refuses_what_the_loader_refuses(values: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(values)


def test_the_guide_names_every_key_and_its_examples_load(tmp_path: Path) -> None:
    guide = (CONFIGS[0].parents[1] / "docs" / "configuration.md").read_text()
    keys = {*Settings.model_fields, *Engine.model_fields}
    keys.update(key for kind in (*PROVIDERS, Launcher) for key in kind.model_fields)
    missing = [key for key in sorted(keys) if not re.search(rf"\b{key}\b", guide)]
    assert missing == []
    for number, example in enumerate(re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(example)
        assert load_config(path).warnings == []


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("slurm", ["#SBATCH --nodes=1", "#SBATCH --time=30", "#SBATCH --exclusive"]),
        ("perlmutter", ["#SBATCH --qos=debug", "#SBATCH --constraint=gpu", "--overlap -c 128"]),
        ("anvil", ["#SBATCH --nodes=2", "#SBATCH --partition=wholenode", "srun --ntasks 2"]),
        ("pbs", ["#PBS -l walltime=00:30:00", "#PBS -l select=1:ncpus=1"]),
        ("polaris", ["ncpus=64:ngpus=4", "#PBS -l filesystems=home:eagle", "--depth=64 --ppn 1"]),
    ],
)
def test_the_jobs_that_parsl_makes_of_ready_configurations(
    name: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(specs, "_address_of_interface", lambda config, interface: "10.0.0.1")
    config = load_config(next(path for path in CONFIGS if path.stem == name))
    spec = specs.interchange_spec(config, "mine", EndpointDirectory(tmp_path)).provisioner
    assert spec is not None
    script = render(spec, BlockRef(7, "fxhpc-mine-7"))
    for line in lines:
        assert line in script

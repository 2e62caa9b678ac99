"""Globus Compute's layouts: a template with variables, two files, a schema of the variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fxhpc.endpoint.configuration.config import config_text, load_config
from fxhpc.endpoint.configuration.provider import SlurmProvider
from fxhpc.errors import ConfigError

MANAGER = """\
display_name: Our cluster
amqp_port: 443
high_assurance: false
identity_mapping_config_path: /etc/mapping.json
heartbeat_period: 30
"""

TEMPLATE = """\
{# what a site offers to its users #}
{%- set cores = 4 %}
heartbeat_threshold: 120
idle_heartbeats_soft: 10
endpoint_setup: {{ endpoint_setup|default() }}
engine:
  type: GlobusComputeEngine
  cores_per_worker: {{ cores }}
  provider:
    type: SlurmProvider
    account: {{ account }}
    partition: {{ partition | default("debug") }}
    nodes_per_block: {{ nodes | default(1) }}
    {%- if long %}
    walltime: 10:00:00
    {%- endif %}
    worker_init: {{ worker_init | default("") }}
"""

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "account": {"type": "string", "pattern": "^[a-z]+[0-9]*$"},
        "nodes": {"type": "integer", "minimum": 1, "maximum": 4},
        "partition": {"type": "string", "enum": ["debug", "normal"]},
        "long": {"type": "boolean", "default": False},
        "worker_init": {"type": "string", "maxLength": 100},
    },
    "required": ["account"],
    "additionalProperties": False,
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory as Globus Compute keeps it."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(MANAGER)
    Path("user_config_template.yaml.j2").write_text(TEMPLATE)
    return tmp_path


def problems(path: str, variables: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, variables)
    return caught.value.problems


def test_two_files_make_one_configuration(site: Path) -> None:
    config = load_config(
        site,
        {"account": "abc", "nodes": 3, "long": True, "worker_init": "module load a\nexport B=1"},
    )
    assert config.display_name == "Our cluster"
    provider = config.provider
    assert isinstance(provider, SlurmProvider)
    assert (provider.account, provider.partition) == ("abc", "debug")
    assert (provider.nodes_per_block, provider.walltime) == (3, 36000)
    assert provider.worker_init == "module load a\nexport B=1"
    assert config.engine.cores_per_worker == 4
    assert (config.engine.heartbeat_period, config.engine.silence_s) == (30, 120)
    assert config.warnings == [
        f"{site / 'user_config_template.yaml.j2'} (filled in), {site / 'config.yaml'}: keys for "
        f"Globus' cloud, which fxhpc does not use, are ignored: amqp_port, high_assurance, "
        f"identity_mapping_config_path, idle_heartbeats_soft"
    ]


def test_variables_without_a_value_are_all_told(site: Path) -> None:
    assert problems("config.yaml") == [
        "user_config_template.yaml.j2:11: the variable 'account' has no value: write one in its "
        "place, or give it by `--set account=VALUE`",
        "user_config_template.yaml.j2:14: the variable 'long' has no value: write one in its "
        "place, or give it by `--set long=VALUE`",
    ]


def test_a_value_cannot_add_keys(site: Path) -> None:
    text = 'x"\n    qos: "mine'
    config = load_config("config.yaml", {"account": "a", "long": False, "worker_init": text})
    assert isinstance(config.provider, SlurmProvider)
    assert (config.provider.worker_init, config.provider.qos) == (text, None)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "the variable 'account' is required: give it by `--set account=VALUE`"),
        ({"account": "abc", "nodes": 9}, "the variable 'nodes' must be 4 or less"),
        ({"account": "abc", "nodes": 0}, "the variable 'nodes' must be 1 or more"),
        ({"account": "abc", "nodes": "2"}, "must be of type integer, not '2'"),
        ({"account": "abc", "nodes": True}, "must be of type integer, not True"),
        ({"account": "ABC"}, "must match"),
        ({"account": "abc", "partition": "gpu"}, "must be one of ['debug', 'normal']"),
        ({"account": "abc", "worker_init": "x" * 101}, "100 characters at most"),
        ({"account": "abc", "walltime": 3}, "there is no variable 'walltime'; there are: account"),
        ({"account": "abc", "_GC": {}}, "the variable '_GC' is reserved"),
    ],
)
def test_variables_are_checked_against_the_schema(
    site: Path, variables: dict[str, Any], words: str
) -> None:
    Path("user_config_schema.json").write_text(json.dumps(SCHEMA))
    assert any(words in line for line in problems("config.yaml", variables))


def test_the_schemas_defaults_hold(site: Path) -> None:
    Path("user_config_schema.json").write_text(json.dumps(SCHEMA))
    assert load_config("config.yaml", {"account": "abc"}).walltime_s == 600


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_schema_that_is_none(site: Path, text: str) -> None:
    Path("user_config_schema.json").write_text(text)
    assert "is no JSON schema" in problems("config.yaml", {"account": "abc"})[0]


def test_one_file_is_made_of_two(site: Path) -> None:
    text = config_text("config.yaml", {"account": "abc", "long": True})
    Path("flat.yaml").write_text(text)
    config = load_config("flat.yaml")
    assert config.display_name == "Our cluster"
    assert config.walltime_s == 36000
    assert "amqp_port" not in text


def test_a_plain_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("# mine\nprovider: slurm  # and a comment\n")
    assert config_text(path) == path.read_text()


def test_what_globus_compute_fills_in_is_undefined(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml.j2"
    path.write_text(
        "{% set _rt = _GC.user_runtime %}\n"
        "{% set version = _rt.python.version if _rt.python is defined else none %}\n"
        "{% if version %}python: {{ version }}{% endif %}\n"
        "display_name: {{ user_runtime.name | default('nobody') }}\n"
    )
    config = load_config(path)
    assert (config.display_name, config.settings.python) == ("nobody", None)


def test_a_template_is_named_by_the_manager_configuration(tmp_path: Path) -> None:
    (tmp_path / "manager.yaml").write_text("user_config_template_path: workers.j2\n")
    (tmp_path / "workers.j2").write_text("engine: {max_workers_per_node: {{ n }} }\n")
    config = load_config(tmp_path / "manager.yaml", {"n": 3})
    assert config.engine.max_workers_per_node == 3


def test_an_error_in_a_template_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml.j2"
    path.write_text("engine:\n  max_wrkers_per_node: {{ n }}\n")
    assert problems(str(path), {"n": 3}) == [
        f"{path}:2: engine.max_wrkers_per_node: there is no such key "
        f"(did you mean 'max_workers_per_node'?)"
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {{ b", "t.yaml.j2:1: is not a template"),
        ("a: 1\n{% for %}\n", "t.yaml.j2:2: is not a template"),
        ("a: {{ 1 / 0 }}", "the template fails: division by zero"),
        ("a: {{ ''.__class__.__mro__[1].__subclasses__() }}", "the template fails"),
        ("{% include 'x' %}", "the template fails"),
        ("a: {{ range(10**9) | list }}", "the template fails"),
        ("a: {{ 'x' * 2000000 }}", "makes more than 1 MB of text"),
        ("a: {{ ('x' * 10**10) | length }}", "takes more than 1 GB of memory"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "5 s of",
        ),
        ("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", "1 MB"),
    ],
)
def test_templates_that_fail(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "t.yaml.j2"
    path.write_text(text)
    assert words in problems(str(path))[0]


def test_what_is_given_and_changes_nothing_is_told(site: Path) -> None:
    given = {"account": "abc", "long": True, "acount": "x"}
    (warning,) = [text for text in load_config(site, given).warnings if "acount" in text]
    assert "has no variable 'acount', for which a value was given; it has: account," in warning
    Path("f.yaml").write_text("max_blocks: 2\n")
    assert load_config("f.yaml", {"n": 3}).warnings == [
        "f.yaml: has no variable 'n', for which a value was given; it has: none"
    ]
    Path("config.yaml").write_text("engine: {max_workers_per_node: 2}\n")
    assert load_config("config.yaml").warnings == [
        "user_config_template.yaml.j2: is not used, since config.yaml has the engine's keys itself"
    ]


def test_the_filter_for_shells(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml.j2"
    path.write_text("endpoint_setup: {{ text | shell_escape }}\n")
    assert load_config(path, {"text": "a'b"}).settings.endpoint_setup == "'a'\"'\"'b'"

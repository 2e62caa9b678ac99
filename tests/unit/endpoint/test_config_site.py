"""Configurations within a site's limits: what is chosen beyond is refused, defaults are lowered."""

from __future__ import annotations

from typing import Any

import pytest

from fxhpc.endpoint.configuration import config as configurations
from fxhpc.endpoint.configuration.config import load_config_dict
from fxhpc.errors import ConfigError
from fxhpc.site.reading import parse

_SITE = """\
endpoints:
  max_workers_per_node: 8
  max_nodes_per_block: 4
  max_blocks: 4
  max_nodes: 8
  poll_interval: 60
login_nodes:
  hosts: [login*]
  max_workers: MOST
"""


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(host: str, most: int = 0) -> None:
        site = parse(_SITE.replace("MOST", str(most)), "/etc/fxhpc/site.yaml")
        monkeypatch.setattr(configurations, "current", lambda path: site)
        monkeypatch.setattr(configurations, "host_names", lambda: [host])

    return make


def _slurm(**provider: Any) -> dict[str, Any]:
    return {"engine": {"provider": {"type": "SlurmProvider", **provider}}}


def test_defaults_are_lowered_to_what_the_site_allows(on: Any) -> None:
    on("node1")

    found = load_config_dict(_slurm())

    assert found.engine.max_workers_per_node == 8
    assert found.settings.poll_interval == 60.0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (_slurm(max_blocks=5), "max_blocks: 5 is above 4, the most here"),
        (_slurm(nodes_per_block=5), "nodes_per_block: 5 is above 4"),
        (_slurm(nodes_per_block=3, max_blocks=3), "3 blocks of 3 nodes are 9 nodes, above 8"),
        ({**_slurm(), "max_workers_per_node": 9}, "max_workers_per_node: 9 is above 8"),
        ({**_slurm(), "poll_interval": 30}, "poll_interval: 30.0 s is shorter than 1 min"),
    ],
)
def test_what_is_chosen_beyond_is_refused(on: Any, config: dict[str, Any], words: str) -> None:
    on("node1")

    with pytest.raises(ConfigError) as caught:
        load_config_dict(config)

    assert words in str(caught.value)
    assert "/etc/fxhpc/site.yaml:" in str(caught.value)


def test_on_a_login_node_blocks_are_not_its_own_processes(on: Any) -> None:
    on("login1")
    local = {"engine": {"provider": {"type": "LocalProvider", "max_blocks": 1}}}

    with pytest.raises(ConfigError, match="No tasks run on this login node"):
        load_config_dict(local)
    assert load_config_dict(_slurm()).provider_type == "SlurmProvider"
    on("login1", most=2)
    assert load_config_dict(local).engine.max_workers_per_node == 2
    with pytest.raises(ConfigError, match=r"max_workers_per_node: 3 is above 2.*site.yaml:9"):
        load_config_dict({**local, "max_workers_per_node": 3})

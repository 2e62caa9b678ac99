"""Which containers functions may choose at an endpoint, by its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fxhpc.endpoint.configuration.config import load_config_dict
from fxhpc.endpoint.specs import interchange_spec
from fxhpc.errors import ConfigError
from fxhpc.interchange.directory import EndpointDirectory
from fxhpc.protocol.provision import InterchangeSpec


def spec_of(**values: Any) -> InterchangeSpec:
    config = load_config_dict({"provider": "slurm", **values})
    return interchange_spec(config, "ep", EndpointDirectory("/home/me/ep", config.state_dir))


def test_all_may_be_chosen_where_nothing_is_said() -> None:
    spec = spec_of()
    assert spec.manager.container_images == ("*",)
    assert spec.manager.container_options == {}
    kinds = ("apptainer", "docker", "podman", "podman-hpc", "singularity")
    assert spec.details["containers"] == [f"{kind} *" for kind in kinds]


def test_images_and_options() -> None:
    options = {"podman": "--device 'a b'", "apptainer": "--nv"}
    spec = spec_of(containers={"allowed": "mine/*", "options": options})
    assert spec.manager.container_images == ("mine/*",)
    assert spec.manager.container_options == options
    assert "docker mine/*" in spec.details["containers"]
    spec = spec_of(containers={"allowed": []})
    assert (spec.manager.container_images, spec.details["containers"]) == ((), [])


def test_none_within_another_container() -> None:
    spec = spec_of(container_type="podman", container_uri="img")
    assert (spec.manager.container_images, spec.details["containers"]) == ((), [])


def test_blocks_of_this_host_have_what_is_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert spec_of(provider="local").details["containers"] == ["docker *"]
    spec = spec_of(provider="local", worker_init="module load podman")
    assert len(spec.details["containers"]) == 5


@pytest.mark.parametrize(
    ("containers", "said"),
    [
        ({"options": {"podman": "-v 'a"}}, "containers.options.podman.*no piece of a shell"),
        ({"options": {"shifter": "-v a"}}, "containers.options.*shifter"),
        ({"allow": ["*"]}, "containers.*allow"),
        ({"allowed": {"a": "b"}}, "containers.allowed"),
    ],
)
def test_what_cannot_be_meant(containers: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config_dict({"provider": "slurm", "containers": containers})

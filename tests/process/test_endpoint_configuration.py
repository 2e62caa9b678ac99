"""Configurations by commands: from templates, for machines, with scripts of this host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from homes import TestHome

from tests.waiting import LIMIT


class Cluster:
    """`fxhpc endpoint` in a home, for one endpoint."""

    def __init__(self, home: TestHome) -> None:
        self.home = home
        self.path = home.path / "endpoints" / "midway"
        home.scripts.mkdir(parents=True, exist_ok=True)

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fxhpc.cli.main", *words],
            env=self.home.environment,
            cwd=self.home.scripts,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stderr if code else done.stdout

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.home.scripts / name.replace("__", ".")).write_text(text)


@pytest.fixture
def cluster(home: TestHome) -> Cluster:
    return Cluster(home)


def resolved(cluster: Cluster) -> Any:
    return json.loads(cluster.run("config", "show", str(cluster.path / "config.yaml"), "--json"))


def test_globus_two_files_become_one(cluster: Cluster) -> None:
    cluster.write(
        config__yaml="display_name: Ours\namqp_port: 443\n",
        user_config_template__yaml__j2=(
            "engine:\n  provider:\n    type: SlurmProvider\n    account: {{ account }}\n"
        ),
    )
    refused = cluster.run("endpoint", "configure", "midway", "--from", "config.yaml", code=6)
    assert "give it by `--set account=VALUE`" in refused
    assert not cluster.path.exists()
    cluster.run("endpoint", "configure", "midway", "--from", "config.yaml", "--set", "account=0123")
    shown = resolved(cluster)
    assert shown["display_name"] == "Ours"
    assert shown["engine"]["provider"]["account"] == "0123"
    assert sorted(path.name for path in cluster.path.glob("*config*")) == ["config.yaml"]


def test_a_machine_by_its_name(cluster: Cluster) -> None:
    cluster.run("endpoint", "configure", "midway", "--from", "polaris")
    assert resolved(cluster)["engine"]["provider"]["type"] == "PBSProProvider"
    refused = cluster.run("endpoint", "configure", "other", "--from", "vax", code=6)
    assert "there are: local, slurm, pbs, anvil" in refused


def test_scripts_run_before_the_start_and_after_the_stop(cluster: Cluster, tmp_path: Path) -> None:
    told = tmp_path / "told"
    cluster.write(
        f__yaml=f"endpoint_setup: echo up >> {told}\nendpoint_teardown: echo down >> {told}\n"
    )
    cluster.run("endpoint", "configure", "midway", "--from", "f.yaml")
    cluster.run("endpoint", "start", "midway")
    assert told.read_text() == "up\n"
    cluster.run("endpoint", "stop", "midway")
    assert told.read_text() == "up\ndown\n"


def test_a_setup_that_fails_keeps_the_endpoint_from_starting(cluster: Cluster) -> None:
    cluster.write(f__yaml="endpoint_setup: |\n  echo no license\n  exit 3\n")
    cluster.run("endpoint", "configure", "midway", "--from", "f.yaml")
    refused = cluster.run("endpoint", "start", "midway", code=1)
    assert "endpoint_setup failed with exit code 3: no license" in refused
    assert "not running" in cluster.run("endpoint", "stop", "midway", code=4)


def test_an_endpoint_stops_whatever_its_file_says_by_now(cluster: Cluster) -> None:
    cluster.run("endpoint", "configure", "midway", "--from", "local")
    cluster.run("endpoint", "start", "midway")
    (cluster.path / "config.yaml").write_text("max_blocks: x\n")
    assert "must be a whole number" in cluster.run("endpoint", "restart", "midway", code=6)
    assert "running" in cluster.run("endpoint", "status", "midway")
    assert "is stopped" in cluster.run("endpoint", "stop", "midway")

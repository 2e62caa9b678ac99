"""Workers of `local` where the administrators of a host limit them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.client.started.local import LocalEndpoint
from fxhpc.client.started.workers import local_share, refusal
from fxhpc.errors import ConfigError, FxhpcError, UsageError
from fxhpc.site import reading
from fxhpc.site.rules import Site

_want = LocalEndpoint.want  # as it was before the fixture for all tests of this directory


@pytest.fixture
def site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is taken for root's."""
    path = tmp_path / "site.yaml"

    def current(name: str) -> Site | None:
        return reading.parse(Path(name).read_text(), name)

    monkeypatch.setattr(reading, "current", current)
    return path


def _limit(path: Path, workers: int, hosts: str = "*") -> str:
    path.write_text(f"login_nodes: {{hosts: ['{hosts}'], max_workers: {workers}}}\n")
    return str(path)


def test_no_variable_brings_more_workers_than_the_site_allows(site_file: Path) -> None:
    path = _limit(site_file, 2)

    share = local_share({"FXHPC_WORKERS": "16", "SLURM_JOB_ID": "7"}, site_file=path)

    assert (share.workers, refusal(path)) == (2, "")
    assert f"{path}:1" in share.note
    with pytest.raises(UsageError, match="3 workers are more than 2"):
        local_share({}, 3, path)


def test_other_hosts_are_not_limited(site_file: Path) -> None:
    path = _limit(site_file, 2, "no-such-host")

    assert local_share({}, 16, path).workers == 16


def test_where_nothing_may_run_no_manager_is_started(
    site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _limit(site_file, 0)
    monkeypatch.setattr(LocalEndpoint, "want", _want)
    monkeypatch.setattr("fxhpc.client.started.local.refusal", lambda: refusal(path))
    told: list[FxhpcError] = []
    local = LocalEndpoint(b"e", "ipc:///nowhere", on_failure=told.append, command=["false"])

    local.want()
    local.stop()

    assert local.given_up is told[0]
    assert "No tasks run on this login node" in str(told[0])
    assert "is kept by its home" in str(told[0])
    assert "interpreter" not in str(told[0])


def test_a_site_file_that_says_nothing_clear_allows_nothing(site_file: Path) -> None:
    site_file.write_text("login_nodes: [\n")

    assert "is no YAML" in refusal(str(site_file))
    with pytest.raises(ConfigError):
        local_share({}, None, str(site_file))

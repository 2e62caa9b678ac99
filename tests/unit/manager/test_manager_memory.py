"""Whether memory ran out: by the kernel's counters, in both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.manager.resources.memory import LOOK_S, OomKills

OWN = {"v1": "memory.oom_control", "v2": "memory.events"}
LIMIT = {"v1": "memory.limit_in_bytes", "v2": "memory.max"}
PEAK = {"v1": "memory.max_usage_in_bytes", "v2": "memory.peak"}


class Host:
    """A cgroup, the one above it, and the machine's counter, as files."""

    def __init__(self, path: Path, version: str) -> None:
        self.version = version
        self.above, self.own, self.machine = path, path / "job", path / "vmstat"
        self.own.mkdir()
        self.kill(0)
        self.kill_elsewhere(0)

    def kill(self, count: int) -> None:
        text = f"low 3\noom 7\noom_kill {count}\noom_group_kill 0\n"
        (self.own / OWN[self.version]).write_text(text)

    def kill_elsewhere(self, count: int) -> None:
        self.machine.write_text(f"nr_free_pages 5\noom_kill {count}\n")

    def limit(self, folder: Path, size: int, peak: int) -> None:
        (folder / LIMIT[self.version]).write_text(f"{size}\n")
        (folder / PEAK[self.version]).write_text(f"{peak}\n")

    def kills(self) -> OomKills:
        return OomKills([self.own, self.above], self.machine)


@pytest.fixture(params=["v1", "v2"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(tmp_path, request.param)


def test_a_kill_in_the_own_cgroup_explains_one_death(host: Host) -> None:
    host.limit(host.own, 2**63 - 4096, 12)
    host.limit(host.above, 400 * 2**20, 399 * 2**20)
    kills = host.kills()
    assert kills.evidence() == ""
    host.kill(1)
    host.kill_elsewhere(1)
    evidence = kills.evidence()
    assert str(host.own) in evidence
    assert "limit 400.0 MB, most used 399.0 MB" in evidence
    assert kills.evidence() == ""


def test_two_kills_explain_two_deaths(host: Host) -> None:
    kills = host.kills()
    host.kill(2)
    assert all("cgroup" in kills.evidence() for _ in range(2))
    assert kills.evidence() == ""


def test_a_kill_elsewhere_on_the_host_is_told_as_such(host: Host) -> None:
    kills = host.kills()
    host.kill_elsewhere(1)
    assert "of that host" in kills.evidence()
    assert kills.evidence() == ""


def test_a_kill_of_long_ago_explains_nothing(host: Host) -> None:
    kills = host.kills()
    kills.look(100.0)
    host.kill(1)
    kills.look(100.0 + LOOK_S)
    assert "cgroup" in kills.evidence()
    host.kill(2)
    for count in (2, 3):
        kills.look(100.0 + count * LOOK_S)
    assert kills.evidence() == ""


def test_nothing_to_read(tmp_path: Path) -> None:
    kills = OomKills([], tmp_path / "none")
    kills.look(1.0)
    assert kills.evidence() == ""
    kills = OomKills([tmp_path], tmp_path / "none")
    assert kills.evidence() == ""

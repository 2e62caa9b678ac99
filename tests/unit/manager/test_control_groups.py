"""Control groups of limited workers, where version 2 of them is: as files, without a kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fxhpc.manager.resources.groups import Groups

ME = os.getpid()


class Kernel:
    """A group of version 2, as files. What the kernel would do to them, a test does."""

    def __init__(self, own: Path, pids: list[int], enabled: str = "") -> None:
        self.own = own
        (own / "cgroup.controllers").write_text("cpu memory pids\n")
        (own / "cgroup.subtree_control").write_text(enabled)
        (own / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories that are made get the files that the kernel puts there; which, in order."""
    found: list[Path] = []
    plain = Path.mkdir

    def mkdir(self: Path) -> None:
        plain(self)
        found.append(self)
        (self / "cgroup.procs").write_text("")
        if not self.name.endswith("rest"):
            for name in ("memory.max", "memory.swap.max", "memory.oom.group", "memory.peak"):
                (self / name).write_text("0")
            (self / "memory.events").write_text("low 0\noom 0\noom_kill 0\n")

    def rmdir(self: Path) -> None:
        for file in self.iterdir():
            file.unlink()
        os.rmdir(self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    return found


def test_a_worker_has_a_group_and_the_manager_one_too(tmp_path: Path, made: list[Path]) -> None:
    own = Kernel(tmp_path, [ME]).own
    groups = Groups(own)
    group = groups.make(7, 4711, 2**30)
    assert group is not None
    rest, worker = made
    assert (rest / "cgroup.procs").read_text() == str(ME)
    assert (own / "cgroup.subtree_control").read_text() == "+memory"
    values = ("memory.max", "memory.swap.max", "memory.oom.group", "cgroup.procs")
    assert [(worker / name).read_text() for name in values] == [str(2**30), "0", "1", "4711"]

    assert not group.has_killed()
    (worker / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    (worker / "memory.peak").write_text("1073000000\n")
    assert group.has_killed()
    assert group.used() == 1073000000

    groups.remove(group)
    assert not worker.exists()
    groups.close()
    assert not rest.exists()
    assert (own / "cgroup.subtree_control").read_text() == "-memory"
    assert (own / "cgroup.procs").read_text() == str(ME)


def test_where_memory_is_limited_already_nobody_is_moved(tmp_path: Path, made: list[Path]) -> None:
    groups = Groups(Kernel(tmp_path, [ME], "cpu memory").own)
    group = groups.make(7, 4711, 2**30)
    assert group is not None
    assert len(made) == 1
    groups.remove(group)
    groups.close()


def test_nobody_elses_process_is_moved(tmp_path: Path, made: list[Path]) -> None:
    own = Kernel(tmp_path, [ME, 1]).own
    assert Groups(own).make(7, 4711, 2**30) is None
    assert made == []
    assert (own / "cgroup.subtree_control").read_text() == ""


def test_a_batch_jobs_groups_are_left_alone(tmp_path: Path, made: list[Path]) -> None:
    assert Groups(Kernel(tmp_path, [ME]).own, in_job=True).make(7, 4711, 2**30) is None
    assert made == []


def test_a_kernel_that_counts_no_kills_is_of_no_use(tmp_path: Path, made: list[Path]) -> None:
    own = Kernel(tmp_path, [ME], "memory").own
    plain = Path.mkdir

    def without_counter(self: Path) -> None:
        plain(self)
        (self / "memory.events").write_text("low 0\n")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", without_counter)
        assert Groups(own).make(7, 4711, 2**30) is None
    assert [folder.exists() for folder in made] == [False]


def test_groups_of_managers_that_were_killed_are_removed(tmp_path: Path, made: list[Path]) -> None:
    own = Kernel(tmp_path, [ME], "memory").own
    gone, alive = own / f"fxhpc-{2**22 + 1}-3", own / "fxhpc-1-3"
    gone.mkdir()
    alive.mkdir()
    Groups(own)
    assert (gone.exists(), alive.exists()) == (False, True)


def test_without_groups_there_are_none(tmp_path: Path) -> None:
    assert Groups(tmp_path).make(7, 4711, 2**30) is None
    Groups(tmp_path).close()


def test_a_group_that_somebody_is_in_still_is_removed_later(
    tmp_path: Path, made: list[Path]
) -> None:
    groups = Groups(Kernel(tmp_path, [ME], "memory").own)
    first, second = groups.make(7, 4711, 2**30), groups.make(8, 4712, 2**30)
    assert first is not None
    assert second is not None
    plain = Path.rmdir

    def busy(self: Path) -> None:
        if self == made[0]:
            raise OSError("busy")
        plain(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rmdir", busy)
        groups.remove(first)
    assert made[0].exists()
    groups.remove(second)
    assert not any(folder.exists() for folder in made)

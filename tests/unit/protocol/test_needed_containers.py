"""Containers among what tasks need: which nodes can have which."""

from __future__ import annotations

import msgspec
import pytest

from fxhpc.protocol.containers import Container, can_have, patterns, told
from fxhpc.protocol.needs import UNIT, Cell, Needs, Room, Size, could_ever, is_ordinary, pack
from fxhpc.protocol.needs_words import has, wanted

IMAGE = Container("podman", "registry.example.org/me/simulation:3")
CELLS = (Cell(UNIT), Cell(UNIT))


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (["podman *"], True),
        (["docker *", "podman registry.example.org/*"], True),
        (["podman registry.example.org/me/simulation:3"], True),
        (["docker *"], False),
        (["podman registry.example.org/you/*"], False),
        (["podman REGISTRY.example.org/*"], False),
        (["*"], True),
        ([], False),
    ],
)
def test_who_can_have_a_container(allowed: list[str], expected: bool) -> None:
    assert can_have(allowed, IMAGE) is expected


def test_patterns_in_words() -> None:
    assert told(()) == "no containers for functions"
    assert told(patterns(["podman", "apptainer", "docker"], ["*"])) == (
        "containers of apptainer, docker and podman"
    )
    allowed = patterns(["podman"], ["mine/*", "/images/*.sif"])
    assert allowed == ("podman mine/*", "podman /images/*.sif")
    assert told(allowed) == "containers of podman with the images mine/*, /images/*.sif alone"


def test_a_container_takes_a_worker_of_its_own_on_a_node_that_can_start_it() -> None:
    needs = Needs(container=IMAGE)
    assert not is_ordinary(needs, CELLS[0])
    assert not could_ever(Size(CELLS), needs)
    size = Size(CELLS, containers=("podman *",))
    room = Room(size)
    lease = room.take(needs)
    assert lease is not None
    assert lease.cores == ((0, UNIT),)
    assert room.fits(needs)
    assert room.take(needs) is not None
    assert not room.fits(needs)
    assert not could_ever(size, Needs(cores=3 * UNIT, container=IMAGE))


def test_what_a_manager_of_before_says_can_have_none() -> None:
    before = msgspec.msgpack.encode(msgspec.structs.astuple(Size(CELLS))[:3])
    size = msgspec.msgpack.decode(before, type=Size)
    assert size.containers == ()
    assert not could_ever(size, Needs(container=IMAGE))


def test_other_images_are_other_classes() -> None:
    other = Needs(container=Container("podman", "img"))
    assert pack(other) != pack(Needs(container=IMAGE)) != b""


def test_it_is_told_of() -> None:
    needs = Needs(cores=2 * UNIT, container=IMAGE)
    assert wanted(needs) == f"2 cores and the podman container of {IMAGE.image}"
    size = Size(CELLS, containers=("docker *",))
    assert has(size, needs) == "2 cores, 0 accelerators and containers of docker"
    assert "container" not in has(size, Needs(cores=UNIT))

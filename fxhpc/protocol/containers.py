"""Containers that functions run in: which kinds there are, and who can have which.

What a node can start, or an endpoint allows, is a list of patterns: a kind, a blank, and an image
as shells match names (`podman registry.example.org/*`).
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec

#: The kinds, which are the commands that start them.
KINDS = ("apptainer", "docker", "podman", "podman-hpc", "singularity")

#: Those whose images may be files.
OF_FILES = ("apptainer", "singularity")

#: All images.
ANY = "*"

#: Characters of an image's name, at most.
MOST_IMAGE = 1000


class Container(msgspec.Struct, array_like=True, frozen=True):
    """What the process of a task runs in."""

    kind: Annotated[str, msgspec.Meta(max_length=20)]  # one of KINDS
    image: Annotated[str, msgspec.Meta(max_length=MOST_IMAGE)]  # as its command takes it

    def __str__(self) -> str:
        return f"the {self.kind} container of {self.image}"


def patterns(kinds: Iterable[str], images: Iterable[str]) -> tuple[str, ...]:
    """The patterns of these kinds, with any of these images each."""
    images = list(images)
    return tuple(f"{kind} {image}" for kind in kinds for image in images)


def can_have(allowed: Iterable[str], container: Container) -> bool:
    """Whether a container is one of those that these patterns stand for."""
    name = f"{container.kind} {container.image}"
    return any(fnmatchcase(name, pattern) for pattern in allowed)


def told(allowed: Iterable[str]) -> str:
    """ "containers of podman and apptainer": what these patterns stand for, in words."""
    kinds: dict[str, list[str]] = {}
    for pattern in allowed:
        kind, _, image = pattern.partition(" ")
        kinds.setdefault(kind, []).append(image)
    if not kinds:
        return "no containers for functions"
    images = next(iter(kinds.values()))
    names = sorted(kinds)
    text = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    if ANY in images:
        return f"containers of {text}"
    return f"containers of {text} with the images {', '.join(images)} alone"

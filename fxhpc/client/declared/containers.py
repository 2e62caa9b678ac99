"""Registering containers with a home, and finding them: what functions may run in."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fxhpc import errors, ids
from fxhpc.client.connection.connection import author
from fxhpc.client.connection.session import Session
from fxhpc.client.declared import arguments
from fxhpc.client.declared.contained import found
from fxhpc.protocol import service
from fxhpc.protocol.containers import KINDS, MOST_IMAGE, OF_FILES, Container
from fxhpc.protocol.service import ContainerRecord

_Id = str | uuid.UUID


class Containers(Session):
    """The part of `FuncXClient` that is about containers."""

    def register_container(
        self, location: str, container_type: str, name: str = "", description: str = ""
    ) -> str:
        """Store which image functions may run in, and return its id.

        Args:
            location: the image, as the command takes it; of apptainer a path that nodes see, or
                where it is fetched from (`docker://...`).
            container_type: the command that runs it: apptainer, docker, podman, podman-hpc,
                singularity.

        Raises:
            UsageError: one of these cannot be meant so.
        """
        container = Container(_kind(container_type), _image(location))
        is_path = container.kind in OF_FILES and "://" not in container.image
        if is_path and not container.image.startswith("/"):
            raise errors.UsageError(
                f"location is {location!r}: give the whole path of the image, as nodes see it, or "
                f"where it is fetched from, such as docker://python:3.12."
            )
        record = ContainerRecord(
            container_id=ids.new_id(),
            container=container,
            name=arguments.text("name", name, "what people call the container"),
            description=arguments.text("description", description, "what is in the container"),
            author=author(),
            created=time.time(),
        )
        self._ask(service.RegisterContainer(0, record))
        return record.container_id

    def get_container(self, container_uuid: _Id, container_type: str) -> dict[str, Any]:
        """What was registered: its id, name, type, location, description, author and when.

        Raises:
            ContainerNotFound: nobody knows it, or it is of another type.
        """
        record = self._container(container_uuid)
        if record.container.kind != _kind(container_type):
            raise errors.ContainerNotFound(
                str(container_uuid),
                f"It is of {record.container.kind}, not of {container_type}.",
            )
        return _told(record)

    def get_containers(self, name: str = "", description: str | None = None) -> list[Any]:
        """All that are registered, the oldest first; of this name alone, if one is given."""
        answer: service.Containers = self._ask(service.GetContainers(0))
        return [_told(record) for record in answer.records if name in ("", record.name)]

    def _container(self, container_uuid: _Id) -> ContainerRecord:
        """A registered container.

        Raises:
            ContainerNotFound: nobody knows it.
        """
        return found(container_uuid, self._ask)


def _kind(container_type: str) -> str:
    kind = arguments.text("container_type", container_type, "such as podman").lower()
    if kind not in KINDS:
        raise errors.UsageError(
            f"container_type is {container_type!r}; it is the command that runs the container: "
            f"{', '.join(KINDS)}."
        )
    return kind


def _image(location: str) -> str:
    image = arguments.text("location", location, "the container's image").strip()
    if not image or not image.isprintable() or image.startswith("-") or len(image) > MOST_IMAGE:
        raise errors.UsageError(
            f"location is {location!r}, which is no image: such as registry.example.org/me/sim:3, "
            f"/images/sim.sif or docker://python:3.12."
        )
    return image


def _told(record: ContainerRecord) -> dict[str, Any]:
    return {
        "container_uuid": record.container_id,
        "name": record.name,
        "type": record.container.kind,
        "location": record.container.image,
        "description": record.description,
        "author": record.author,
        "created": record.created,
    }

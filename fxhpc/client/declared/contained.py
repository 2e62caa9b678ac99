"""Which container the next tasks of an Executor run in."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from fxhpc import errors
from fxhpc.client.declared.resources import Declaring, needed
from fxhpc.protocol import service
from fxhpc.protocol.service import ContainerRecord

_Id = str | uuid.UUID


class Contained(Declaring):
    """Declares tasks that run in a container, as Globus Compute's Executor does."""

    _container_id: str | None = None

    def _ask_home(self, message: Any) -> Any:
        """Make a call of the forwarder."""
        raise NotImplementedError

    @property
    def container_id(self) -> str | None:
        """What the next tasks run in, as `FuncXClient.register_container` of the same home returned
        it; None: in none. A registered function that has a container runs in its own.

        Raises:
            ContainerNotFound: nobody knows it; what was set before holds.
            InvalidResourceSpecification: the next tasks have several nodes.
        """
        return self._container_id

    @container_id.setter
    def container_id(self, container: _Id | None) -> None:
        if container is None and self._container_id is None:
            return
        record = None if container is None else found(container, self._ask_home, _ADVICE)
        chosen = None if record is None else record.container
        walltime_s, needs = needed(self.resource_specification, chosen)
        self._runs_in = chosen
        self._container_id = None if record is None else record.container_id
        self.declared = self.declared._replace(walltime_s=walltime_s, needs=needs)


_ADVICE = (
    "container_id is what register_container of a client returned that has the same home: "
    "Executor(client=fxc, endpoint_id=...) shares its client's. Nothing was changed: do not submit "
    "what is not to run without it."
)


def found(container: _Id, ask: Callable[[Any], Any], *advice: str) -> ContainerRecord:
    """A registered container.

    Args:
        ask: makes a call of the forwarder.
        advice: what to do if nobody knows it, if that is not the usual.

    Raises:
        ContainerNotFound: nobody knows it.
    """
    wanted = str(container).strip()
    try:
        wanted = str(uuid.UUID(wanted))  # as it is registered, whatever its capitals
    except ValueError:
        pass  # nobody knows such a one
    answer: service.Containers = ask(service.GetContainers(0, [wanted]))
    if not answer.records:
        raise errors.ContainerNotFound(wanted, *advice)
    return answer.records[0]

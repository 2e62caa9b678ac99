"""Registering functions with a home, and finding those that are there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from fxhpc import ids
from fxhpc.client.connection.connection import author
from fxhpc.client.declared import arguments
from fxhpc.client.declared.containers import Containers
from fxhpc.client.declared.resources import needed
from fxhpc.client.shown.search import FunctionSearchResults
from fxhpc.client.submissions import Submissions
from fxhpc.protocol import service
from fxhpc.protocol.service import FunctionRecord

_Id = str | uuid.UUID


class Registering(Containers):
    """The part of `FuncXClient` that is about functions."""

    _submissions: Submissions

    def register_function(
        self,
        function: Callable[..., Any],
        function_name: str | None = None,
        container_uuid: _Id | None = None,
        description: str | None = None,
        public: bool = False,
        group: str | None = None,
        searchable: bool = True,
        resource_specification: Mapping[str, Any] | None = None,
    ) -> str:
        """Store a function, and return its id.

        Args:
            container_uuid: what its tasks run in, as `register_container` returned it; they never
                run outside.
            resource_specification: what its tasks need, key by key, where their submission says
                nothing else.

        Raises:
            SerializationError: the function cannot be packed.
            UsageError: its name, description or group is no text, or the specification
                cannot be meant so.
            ContainerNotFound: nobody knows this container.
        """
        from fxhpc.serialize import pack_function
        from fxhpc.serialize.content import content_of

        name = arguments.text("function_name", function_name, "what the function is found by")
        description = arguments.text("description", description, "what the function does")
        group = arguments.text("group", group, "who else may use the function")
        container = None if container_uuid is None else self._container(container_uuid)
        chosen = container.container if container is not None else None
        walltime_s, needs = needed(resource_specification, chosen)
        packed = pack_function(function)
        record = FunctionRecord(
            function_id=ids.new_id(),
            digest=packed.digest,
            name=name or packed.name,
            source=packed.source,
            description=description,
            author=author(),
            public=bool(public),
            searchable=bool(searchable),
            group=group,
            container=container.container_id if container is not None else "",
            created=time.time(),
            needs=needs,
            walltime_s=walltime_s or packed.walltime_s,
            content=content_of(function),
            wants_ranks=packed.wants_ranks,
        )
        self._ask(service.RegisterFunction(0, record, packed.body))
        self._submissions.remember(record)
        return record.function_id

    def search_function(
        self, q: str, offset: int = 0, limit: int = 10, advanced: bool = False
    ) -> FunctionSearchResults:
        """Functions whose author, description, name or source match, best first.

        Raises:
            UsageError: q is no text; offset or limit is no number of functions.
        """
        q = arguments.text("q", q, "words to look for")
        offset = arguments.whole("offset", offset, 0, "functions that are passed over")
        limit = arguments.whole("limit", limit, 0, "functions at most")
        answer: service.Functions = self._ask(service.Search(0, q, offset, limit))
        return FunctionSearchResults(answer.records, answer.total, offset)

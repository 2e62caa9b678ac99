"""Batch: many tasks that are submitted together, in the three forms that funcX has had."""

from __future__ import annotations

import uuid
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fxhpc import errors, ids
from fxhpc.client.declared import arguments, foreign
from fxhpc.client.declared.keys import Under, key_of, new_contents
from fxhpc.client.declared.labels import labels_of, metadata_of
from fxhpc.client.declared.resources import Declared, capture_bytes, needed
from fxhpc.client.names import endpoint_given, function_name, group_id
from fxhpc.units import DEFAULT_PAYLOAD_LIMIT

if TYPE_CHECKING:
    from fxhpc.serialize.content import Contents

_Id = str | uuid.UUID


class Batch:
    """Tasks to be submitted by `batch_run`; their arguments are packed when they are added.

    Args:
        task_group_id: the group of its tasks, a UUID; a random one if there is none.
        max_payload: bytes that the arguments of one task may take, packed.
        on_exceed: "error", or "spill": larger ones are stored apart from their task.
        resource_specification: `{"walltime": ...}`: how long each of its tasks takes at most.
        capture_output: how much of what each task prints is kept: see Executor.
        labels, metadata: of its tasks: see Executor.
        idempotency_key: a text. The same batch under the same key, in whatever process, is
            submitted once, and has the same ids.
        resolve: makes a UUID of an endpoint's name; without it that is left to batch_run.

    Raises:
        UsageError: the specification, capture_output, max_payload, on_exceed, labels, metadata or
            the key cannot be meant so.
        InvalidUUID: task_group_id is no UUID.
    """

    def __init__(
        self,
        task_group_id: str | uuid.UUID | None = None,
        *,
        max_payload: int = DEFAULT_PAYLOAD_LIMIT,
        on_exceed: str = "error",
        resource_specification: Mapping[str, Any] | None = None,
        capture_output: bool | int = False,
        labels: Iterable[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: _Id | None = None,
        resolve: Callable[[Any], str] = endpoint_given,
        **ignored: Any,
    ) -> None:
        from fxhpc.serialize import ArgumentPacker

        foreign.check(Batch.__init__, "Batch", ignored, foreign.OF_BATCHES)
        self.task_group_id = group_id(task_group_id) or ids.new_id()
        walltime_s, needs = needed(resource_specification)
        self.declared = Declared(
            walltime_s,
            capture_bytes(capture_output),
            needs,
            labels=labels_of(labels),
            metadata=metadata_of(metadata),
        )
        self.idempotency_key = key_of(idempotency_key)
        self._max_payload = arguments.payload_limit(max_payload)
        self._spills = arguments.spills(on_exceed)
        self._resolve = resolve
        self._pack = ArgumentPacker().pack
        self._keys: dict[tuple[Any, Any], int] = {}  # as they were given, to a part's number
        self._numbers: dict[tuple[str, str], int] = {}  # as they are sent, to a part's number
        self._parts: list[tuple[str, str, list[bytes]]] = []
        self._contents: list[Contents] = []  # of each part, if there is a key
        self._order = array("I")  # the part of each task

    def add(
        self,
        /,
        *args: Any,
        endpoint_id: _Id | None = None,
        function_id: _Id | None = None,
        **kwargs: Any,
    ) -> None:
        """Add one task.

        Three forms are understood, and keywords decide before positions do:

        * `add(1, 2, endpoint_id=..., function_id=..., c=3)`: the function's own arguments;
        * `add(function_id, endpoint_id, args=(1, 2), kwargs={"c": 3})`;
        * `add(function_id, args=(1, 2), kwargs={"c": 3})`, for `batch_run(endpoint_id, batch)`.

        Raises:
            MissingArgument: no function, or no endpoint, is named.
            EndpointNotFound: the home has no endpoint of this name.
            SerializationError: an argument cannot be packed.
            PayloadTooLarge: the packed arguments are larger than `max_payload`.
        """
        if endpoint_id is None or function_id is None or "args" in kwargs or "kwargs" in kwargs:
            endpoint_id, function_id, args, kwargs = _newer_form(
                args, endpoint_id, function_id, kwargs
            )
        payload = self._pack(args, kwargs, self._max_payload, self._spills)
        number = self._keys.get((endpoint_id, function_id))
        if number is None:
            number = self._part(endpoint_id, function_id)
        if self.idempotency_key:
            self._contents[number].add(args, kwargs, payload)
        self._parts[number][2].append(payload)
        self._order.append(number)

    def _part(self, endpoint_id: _Id | None, function_id: _Id | None) -> int:
        endpoint = self._resolve(endpoint_id) if endpoint_id else ""
        sent_as = endpoint, function_name(function_id)
        number = self._numbers.setdefault(sent_as, len(self._parts))
        if number == len(self._parts):
            self._parts.append((*sent_as, []))
            if self.idempotency_key:
                self._contents.append(new_contents())
        self._keys[endpoint_id, function_id] = number
        return number

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks in the order in which they were added: endpoint, function, packed payload."""
        places = [0] * len(self._parts)
        tasks = []
        for number in self._order:
            endpoint, function, payloads = self._parts[number]
            payload = payloads[places[number]]
            tasks.append({"endpoint": endpoint, "function": function, "payload": payload})
            places[number] += 1
        return tasks

    def prepare(self) -> dict[str, Any]:
        """The batch as one dictionary of plain values."""
        return {
            "task_group_id": self.task_group_id,
            "tasks": [(task["function"], task["endpoint"], task["payload"]) for task in self.tasks],
        }

    def parts(self) -> list[tuple[str, str, list[bytes]]]:
        """Endpoint, function and payloads of each stream that is to be made of this batch."""
        return [
            (endpoint, function, list(payloads)) for endpoint, function, payloads in self._parts
        ]

    def under(self) -> Under | None:
        """The key that it is submitted under, if it has one."""
        if not self.idempotency_key:
            return None
        return Under(self.idempotency_key, [contents.digest() for contents in self._contents])

    def in_order(self, task_ids: Sequence[Sequence[str]]) -> list[str]:
        """Ids, given for each part, in the order in which the tasks were added."""
        if len(task_ids) == 1:
            return list(task_ids[0])
        rest = [iter(part) for part in task_ids]
        return [next(rest[number]) for number in self._order]

    def __len__(self) -> int:
        return len(self._order)

    def __bool__(self) -> bool:
        return bool(self._order)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} tasks>"

    def _repr_html_(self) -> str:
        from fxhpc.client.shown import notebooks

        parts = [(endpoint, function, len(packed)) for endpoint, function, packed in self._parts]
        return notebooks.of_batch(self.task_group_id, parts, len(self))


def batch_arguments(
    *args: Any, endpoint_id: _Id | None = None, batch: Any = None
) -> tuple[_Id | None, Any]:
    """Endpoint and batch of either form of batch_run.

    Raises:
        TypeError: it is neither.
    """
    given = list(args)
    if len(given) == 2:
        endpoint_id = given.pop(0)
    if len(given) == 1 and batch is None:
        batch = given.pop()
    if given:
        raise TypeError("batch_run() takes a batch, or an endpoint and a batch")
    return endpoint_id, batch


def _newer_form(
    args: tuple[Any, ...], endpoint: _Id | None, function: _Id | None, kwargs: dict[str, Any]
) -> tuple[_Id | None, _Id, tuple[Any, ...], dict[str, Any]]:
    """Endpoint, function and arguments of a call in one of the two newer forms."""
    rest = list(args)
    if function is None and rest and _is_id(rest[0]):
        function = rest.pop(0)
    elif rest and function is not None and endpoint is None:
        # The first form without its endpoint.
        raise errors.MissingArgument("endpoint_id")
    if function is None:
        raise errors.MissingArgument("function_id")
    if endpoint is None and rest and isinstance(rest[0], str | uuid.UUID):
        endpoint = rest.pop(0)
    own = dict(kwargs)
    given = [own.pop(name, None) for name in ("args", "kwargs")]
    for place, value in enumerate(rest[:2]):
        if given[place] is not None:
            raise TypeError(f"{('args', 'kwargs')[place]} is given twice")
        given[place] = value
    if own or len(rest) > 2:
        raise TypeError(
            "add() understands add(*args, endpoint_id=, function_id=, **kwargs), "
            "add(function_id, endpoint_id, args=, kwargs=) and add(function_id, args=, kwargs=)"
        )
    return endpoint, function, *_checked(given[0], given[1])


def _checked(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not isinstance(args, tuple | list | None):
        raise TypeError(f"args must be a tuple or a list, not {type(args).__name__}")
    if not isinstance(kwargs, dict | None):
        raise TypeError(f"kwargs must be a dictionary, not {type(kwargs).__name__}")
    return tuple(args or ()), dict(kwargs or {})


def _is_id(value: Any) -> bool:
    if isinstance(value, uuid.UUID):
        return True
    if not isinstance(value, str):
        return False
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True

"""How users name things: ids as strings or UUIDs, endpoints also by a name."""

from __future__ import annotations

import functools
import uuid
from typing import Any

from fxhpc import errors, ids
from fxhpc.client.attachments import LOCAL_ENDPOINT


def endpoint_name(endpoint: str | uuid.UUID | None) -> str:
    """An endpoint as messages name it: its UUID, or the name that its home knows.

    Raises:
        MissingArgument: there is none.
    """
    if not endpoint:
        raise errors.MissingArgument("endpoint_id")
    if endpoint == "local":
        return LOCAL_ENDPOINT
    if isinstance(endpoint, uuid.UUID):
        return str(endpoint)
    if not isinstance(endpoint, str):
        raise errors.InvalidUUID(repr(endpoint))
    return endpoint.lower() if _is_uuid(endpoint) else endpoint


def function_name(function: str | uuid.UUID | None) -> str:
    """A function's id as messages have it.

    Raises:
        MissingArgument: there is none.
        InvalidUUID: it is not a UUID.
    """
    if not function:
        raise errors.MissingArgument("function_id")
    if isinstance(function, str) and len(function) == 36 and _is_uuid(function):
        return function.lower()
    try:
        return str(ids.parse_uuid(function))
    except ValueError:
        raise errors.InvalidUUID(repr(function)) from None


def group_id(group: str | uuid.UUID | None) -> str:
    """A task group's id as messages have it; empty if there is none.

    Raises:
        InvalidUUID: it is not a UUID.
    """
    if group is None:
        return ""
    try:
        return str(ids.parse_uuid(group))
    except ValueError:
        raise errors.InvalidUUID(repr(group)) from None


def task_name(task: Any) -> tuple[bytes, int]:
    """The stream and the index of a task.

    Raises:
        InvalidUUID: it is not a UUID.
        TaskNotFound: it is one that no client made.
    """
    try:
        return ids.parse_task_id(task)
    except ValueError:
        pass
    try:
        raise errors.TaskNotFound(str(ids.parse_uuid(task)))
    except ValueError:
        raise errors.InvalidUUID(repr(task)) from None


@functools.lru_cache(maxsize=4096)  # calls in a loop name the same few again and again
def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

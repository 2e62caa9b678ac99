"""How users name things: ids as strings or UUIDs, endpoints also by a name."""

from __future__ import annotations

import difflib
import functools
import json
import os
import uuid
from pathlib import Path

from fxhpc import errors, ids
from fxhpc.ids import LOCAL_ENDPOINT


def endpoint_name(endpoint: str | uuid.UUID | None, home: Path | None) -> str:
    """An endpoint as messages name it: its UUID.

    Args:
        endpoint: "local", a UUID, or the name of an endpoint of this home.
        home: its directory; None is an embedded forwarder's, which has no endpoint but `local`.

    Raises:
        MissingArgument: there is none.
        EndpointNotFound: there is none of that name.
    """
    given = endpoint_given(endpoint)
    found = _uuid_text(given)
    if not found and home is not None:
        found = _endpoint_in(home, given)
    if not found or (home is None and found != LOCAL_ENDPOINT):
        raise errors.EndpointNotFound(given, _what_to_do(given, home))
    return found


def _what_to_do(given: str, home: Path | None) -> str:
    """What somebody may have meant who named an endpoint that is not there."""
    if home is None:
        return (
            "Without a home there is no endpoint but `local`: use FuncXClient() or "
            "Executor(endpoint_id=...), which use one."
        )
    try:
        known = sorted(path.parent.name for path in home.glob("endpoints/*/endpoint.json"))
    except OSError:
        known = []
    close = difflib.get_close_matches(given, [*known, "local"], n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    shown = ", ".join([*known[:20], "..."] if len(known) > 20 else known)
    has = f"has {shown}" if known else "has none"
    return f"{meant}The home {home} {has} (FXHPC_HOME). Make one: fxhpc endpoint configure NAME."


def endpoint_given(endpoint: str | uuid.UUID | None) -> str:
    """An endpoint as it was given, where its home is not known yet.

    Raises:
        MissingArgument: there is none.
        InvalidUUID: it is neither a text nor a UUID.
    """
    if not endpoint:
        raise errors.MissingArgument("endpoint_id")
    if endpoint == "local":
        return LOCAL_ENDPOINT
    if isinstance(endpoint, uuid.UUID):
        return str(endpoint)
    if not isinstance(endpoint, str):
        raise errors.InvalidUUID(repr(endpoint))
    return endpoint


def _endpoint_in(home: Path, name: str) -> str:
    """The UUID of the endpoint that a home has under this name; empty if there is none."""
    if name != os.path.basename(name) or name.startswith("."):
        return ""
    try:
        record = json.loads((home / "endpoints" / name / "endpoint.json").read_bytes())
        return _uuid_text(record["endpoint"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def function_name(function: str | uuid.UUID | None) -> str:
    """A function's id as messages have it.

    Raises:
        MissingArgument: there is none.
        InvalidUUID: it is not a UUID.
    """
    if not function:
        raise errors.MissingArgument("function_id")
    if isinstance(function, str) and len(function) == 36 and (text := _uuid_text(function)):
        return text
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
        told = f"{group!r} (task_group_id: uuid.uuid4() makes one)"
        raise errors.InvalidUUID(told) from None


def group_name(group: str | uuid.UUID) -> str:
    """A group that is looked for, as messages have it: also one that is no UUID, and not found."""
    return _uuid_text(str(group)) or str(group)


def task_name(task: str | uuid.UUID) -> tuple[bytes, int]:
    """The stream and the index of a task; of a UUID that no client made, those of no task.

    Raises:
        InvalidUUID: it is not a UUID.
    """
    try:
        raw = ids.parse_uuid(task).bytes
    except ValueError:
        raise errors.InvalidUUID(repr(task)) from None
    return raw[: ids.STREAM_BYTES], int.from_bytes(raw[ids.STREAM_BYTES :], "big")


@functools.lru_cache(maxsize=4096)  # calls in a loop name the same few again and again
def _uuid_text(text: str) -> str:
    """The UUID as all write it; empty if it is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""

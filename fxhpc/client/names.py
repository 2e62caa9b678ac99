"""How users name things: ids as strings or UUIDs, endpoints also by a name."""

from __future__ import annotations

import difflib
import functools
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxhpc import errors, ids
from fxhpc.client.connection.address import Afar
from fxhpc.ids import LOCAL_ENDPOINT
from fxhpc.protocol import service

#: UUIDs by home and name, and when they were asked for: who adds tasks to a batch names the same
#: endpoint each time.
_known_afar: dict[tuple[Afar, str], tuple[str, float]] = {}
_KNOWN_S = 10.0
_MOST_KNOWN = 1_000

if TYPE_CHECKING:
    from fxhpc.client.task_group import TaskGroup


def endpoint_name(
    endpoint: str | uuid.UUID | None,
    home: Path | Afar | None,
    ask: Callable[[service.GetStatus], service.EndpointStatus] | None = None,
) -> str:
    """An endpoint as messages name it: its UUID.

    Args:
        endpoint: "local", a UUID, or the name of an endpoint of this home.
        home: its directory; None is an embedded forwarder's, which has no endpoint but `local`.
        ask: makes a call of its forwarder, where the directory cannot be read here.

    Raises:
        MissingArgument: there is none.
        EndpointNotFound: there is none of that name, or none of this process's.
    """
    given = endpoint_given(endpoint)
    found = _uuid_text(given)
    if isinstance(home, Afar):
        if found == LOCAL_ENDPOINT:
            raise errors.EndpointNotFound("local", _no_local(home))
        return found or _asked(given, home, ask)
    if not found and home is not None:
        found = _endpoint_in(home, given)
    if not found or (home is None and found != LOCAL_ENDPOINT):
        raise errors.EndpointNotFound(given, _what_to_do(given, home))
    return found


def _no_local(home: Afar) -> str:
    return (
        f"`local` is the process that uses it, and its tasks are kept on its own host: {home} is "
        f"another. Name an endpoint there (endpoint_id=NAME; `fxhpc endpoint configure NAME` and "
        f"`fxhpc endpoint start NAME` make one), or run tasks here, by FuncXClient(embedded=True) "
        f"or Executor()."
    )


def _asked(
    name: str, home: Afar, ask: Callable[[service.GetStatus], service.EndpointStatus] | None
) -> str:
    """The UUID of the endpoint that a home on another host has under this name."""
    assert ask is not None, "who has such a home has a connection to it"
    found, asked_at = _known_afar.get((home, name), ("", 0.0))
    if not found or time.monotonic() - asked_at > _KNOWN_S:
        found = ask(service.GetStatus(0, name)).endpoint
        if len(_known_afar) >= _MOST_KNOWN:
            _known_afar.clear()
        _known_afar[home, name] = found, time.monotonic()
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


def group_id(group: str | uuid.UUID | TaskGroup | None) -> str:
    """A task group's id as messages have it; empty if there is none. A TaskGroup has its own.

    Raises:
        InvalidUUID: it is not a UUID.
    """
    if group is None:
        return ""
    given: Any = group
    try:
        return str(ids.parse_uuid(getattr(given, "task_group_id", given)))
    except ValueError:
        told = f"{group!r} (task_group_id: uuid.uuid4() makes one)"
        raise errors.InvalidUUID(told) from None


def group_name(group: str | uuid.UUID) -> str:
    """A group that is looked for, as messages have it: also one that is no UUID, and not found."""
    return _uuid_text(str(group)) or str(group)


def task_name(task: str | uuid.UUID) -> tuple[bytes, int]:
    """The stream of a task, and its number there, see `ids.locate`; of a UUID that no client made,
    those of no task.

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

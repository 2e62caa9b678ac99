"""A sample of each message that may be said on a link, made of its type: each field has a value of
its own, so that two that have changed places are told apart.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from fxhpc.endpoint import identity
from fxhpc.forwarder import home
from fxhpc.interchange import directory, events, journal
from fxhpc.protocol import messages, needs, outcome, pool, provision, service
from fxhpc.protocol.codec import (
    FROM_CLIENT,
    FROM_INTERCHANGE,
    FROM_MANAGER,
    TO_CLIENT,
    TO_INTERCHANGE,
    TO_MANAGER,
    Codec,
)

#: What may be said on each link, by the name of the codec that reads it.
LINKS: dict[str, tuple[Codec[Any], Any]] = {
    "FROM_CLIENT": (FROM_CLIENT, service.FromClient),
    "TO_CLIENT": (TO_CLIENT, service.ToClient),
    "FROM_INTERCHANGE": (FROM_INTERCHANGE, messages.FromInterchange),
    "TO_INTERCHANGE": (TO_INTERCHANGE, messages.ToInterchange),
    "FROM_MANAGER": (FROM_MANAGER, messages.FromManager),
    "TO_MANAGER": (TO_MANAGER, messages.ToManager),
}

#: What an endpoint's files hold, and a home's that tell who is there: a version that is installed
#: meanwhile reads them, or one of before does that still runs.
_IN_FILES: tuple[type[msgspec.Struct], ...] = (
    directory.EndpointRecord,
    directory.InterchangeAddress,
    events.BlockKnown,
    events.ManagerKnown,
    events.Sent,
    home.ForwarderAddress,
    identity.SupervisorRecord,
    journal.Away,
    journal.Boot,
    journal.Owner,
    messages.Results,
    pool.ManagerSpec,
    provision.StopRequest,
)

#: What an endpoint's processes are told by those that have started them: one that was killed is
#: started again as the version that is installed by then.
_WITHIN_A_HOST: tuple[type[msgspec.Struct], ...] = (
    provision.InterchangeSpec,
    *typing.get_args(provision.ToProvisioner),
    *typing.get_args(provision.FromProvisioner),
)

#: What is read without a link's codec: it travels packed, as bytes within a message, or is stored.
PACKED: tuple[type[msgspec.Struct], ...] = (
    outcome.Output,
    outcome.Loss,
    needs.Needs,
    messages.StreamInfo,
    service.FunctionRecord,
    *_IN_FILES,
    *_WITHIN_A_HOST,
)


def messages_of(union: Any) -> tuple[type[msgspec.Struct], ...]:
    """The types of one link's messages."""
    return typing.get_args(union)


def sample(kind: type[msgspec.Struct]) -> Any:
    """One of this type, with a value in every field. The same each time."""
    return _struct(kind, itertools.count(1))


def structs_within(kinds: Iterator[type[msgspec.Struct]]) -> dict[str, type[msgspec.Struct]]:
    """These types and all that their fields are made of, by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    for kind in kinds:
        _collect(inspect.type_info(kind), found)
    return found


def _collect(info: Any, found: dict[str, type[msgspec.Struct]]) -> None:
    if isinstance(info, inspect.StructType):
        name = f"{info.cls.__module__.rpartition('.')[2]}.{info.cls.__name__}"
        if name in found:
            return
        found[name] = info.cls
        for field in info.fields:
            _collect(field.type, found)
    for part in _parts(info):
        _collect(part, found)


def _parts(info: Any) -> Iterator[Any]:
    for attribute in ("types", "item_types"):
        yield from getattr(info, attribute, ())
    for attribute in ("item_type", "key_type", "value_type", "type"):
        part = getattr(info, attribute, None)
        if isinstance(part, inspect.Type):
            yield part


def _struct(kind: type[msgspec.Struct], numbers: Iterator[int]) -> Any:
    values = {}
    for field in msgspec.structs.fields(kind):
        if field.name == "needs":
            # It is looked into where it is decoded.
            values[field.name] = needs.pack(needs.Needs(cores=1000 * next(numbers)))
        else:
            values[field.name] = _value(inspect.type_info(field.type), numbers)
    return kind(**values)


def _value(info: Any, numbers: Iterator[int]) -> Any:
    if isinstance(info, inspect.Metadata):
        return _value(info.type, numbers)
    if isinstance(info, inspect.StructType):
        return _struct(info.cls, numbers)
    if isinstance(info, inspect.UnionType):
        # Of a value or none, the value; of a payload or a frame's number, the payload.
        preferred = [
            part
            for part in info.types
            if not isinstance(part, inspect.NoneType | inspect.IntType) or len(info.types) == 1
        ]
        return _value((preferred or info.types)[0], numbers)
    if isinstance(info, inspect.TupleType):
        return tuple(_value(part, numbers) for part in info.item_types)
    if isinstance(info, inspect.VarTupleType):
        return tuple(_value(info.item_type, numbers) for _ in range(2))
    if isinstance(info, inspect.ListType):
        return [_value(info.item_type, numbers) for _ in range(2)]
    if isinstance(info, inspect.DictType):
        return {_value(info.key_type, numbers): _value(info.value_type, numbers)}
    number = next(numbers)
    if isinstance(info, inspect.BoolType):
        return True
    if isinstance(info, inspect.IntType):
        return number
    if isinstance(info, inspect.FloatType):
        return number + 0.5
    if isinstance(info, inspect.BytesType):
        return b"bytes %d" % number
    if isinstance(info, inspect.StrType | inspect.AnyType):
        return f"text {number}"
    raise TypeError(f"no sample of {info}: add one here")

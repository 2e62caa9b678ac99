"""What a peer of another version says is understood, and it understands what we say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fxhpc.protocol.messages import OLDEST_PROTOCOL, PROTOCOL
from tests.compatibility.frames import Recorded, load, named, read, today, told

PROTOCOLS = range(OLDEST_PROTOCOL, PROTOCOL + 1)
HOW = "tests/compatibility/README.md says what may change, and how it is recorded"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_recorded_message_is_still_read_as_it_was(protocol: int) -> None:
    for recorded in load(protocol).messages:
        try:
            says = told(read(recorded))
        except Exception as error:
            raise AssertionError(
                f"{recorded.message} of {recorded.link}, protocol {protocol}, is not understood "
                f"any more ({error}); {HOW}"
            ) from error
        assert _begins_with(says, recorded.says), f"{recorded.message}: {says}; {HOW}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_peer_of_such_a_protocol_reads_what_is_said_today(protocol: int) -> None:
    # Structs are arrays on the wire: who knows fewer fields reads those, as they were.
    now, without_order = today().shapes, named()
    for name, fields in load(protocol).shapes.items():
        assert name in now, f"{name} is gone, which protocol {protocol} may say; {HOW}"
        first = now[name][: len(fields)]
        if name in without_order:
            first = [field for field in now[name] if field in fields]
        assert sorted(first) == sorted(fields), f"{name}: {now[name]}; {HOW}"
        assert name in without_order or first == fields, f"{name}: {now[name]}; {HOW}"


def test_a_peer_that_knows_fewer_fields_reads_those_that_it_knows() -> None:
    older = msgspec.defstruct("Older", [("a", int), ("b", str, "")], array_like=True, tag="x")
    newer = msgspec.defstruct(
        "Newer", [("a", int), ("b", str, ""), ("c", list[int], [])], array_like=True, tag="x"
    )
    packed = msgspec.msgpack.encode(newer(1, "two", [3]))  # type: ignore[call-arg]
    assert msgspec.msgpack.decode(packed, type=older) == older(1, "two")  # type: ignore[call-arg]


def test_every_message_of_today_is_recorded() -> None:
    kept = {_key(one) for one in load(PROTOCOL).messages}
    new = [f"{one.message} of {one.link}" for one in today().messages if _key(one) not in kept]
    assert not new, (
        f"changed since they were recorded: {', '.join(new)}. If fields were only added at the "
        f"end, with defaults: python -m tests.compatibility.frames; {HOW}"
    )
    assert load(PROTOCOL).shapes == today().shapes, f"python -m tests.compatibility.frames; {HOW}"


def test_what_was_recorded_is_found_to_differ() -> None:
    # The comparison itself: another value, another order, a field less.
    assert _begins_with(["x", 1, [2, "a", 5]], ["x", 1, [2, "a"]])
    assert _begins_with({"a": 1, "b": [1, 2]}, {"b": [1]})
    assert not _begins_with(["x", 1, [2, "a"]], ["x", 1, ["a", 2]])
    assert not _begins_with(["x", 1], ["x", 1, 2])
    assert not _begins_with({"a": 1}, {"a": 1, "b": 2})


def _key(one: Recorded) -> tuple[str, ...]:
    return (one.link, one.message, *one.frames)


def _begins_with(now: Any, then: Any) -> bool:
    """Whether all that was said is said now, in the same places."""
    if isinstance(then, list):
        return (
            isinstance(now, list)
            and len(now) >= len(then)
            and all(map(_begins_with, now[: len(then)], then))
        )
    if isinstance(then, dict):
        return isinstance(now, dict) and all(
            key in now and _begins_with(now[key], value) for key, value in then.items()
        )
    return type(now) is type(then) and bool(now == then)

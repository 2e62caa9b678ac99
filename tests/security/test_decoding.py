"""Whatever bytes arrive on a link, the codec gives a message or a DecodeError, and nothing else."""

from __future__ import annotations

import random
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fxhpc.ids import new_stream
from fxhpc.protocol import codec, messages, service
from fxhpc.protocol.codec import Codec, DecodeError
from fxhpc.protocol.link import Envelope
from fxhpc.protocol.outcome import Outcome

CODECS = {
    "from manager": codec.FROM_MANAGER,
    "to manager": codec.TO_MANAGER,
    "from interchange": codec.FROM_INTERCHANGE,
    "to interchange": codec.TO_INTERCHANGE,
    "from client": codec.FROM_CLIENT,
    "to client": codec.TO_CLIENT,
}
STREAM = new_stream()
LARGE = bytes(70_000)
SAMPLES: list[Any] = [
    messages.Tasks([messages.TaskRun(STREAM, 0, b"f" * 32, [b"one", LARGE, b""])]),
    messages.Results(1, [messages.ResultRun(STREAM, 1, 1, [Outcome(0, 0, LARGE), Outcome(1, 1)])]),
    messages.Body(b"d" * 32, LARGE),
    messages.Register("m", b"e" * 16, 2, "1", queued=[messages.TaskRefs(STREAM, [0, 5])]),
    service.Submit(
        3, [service.Submission(messages.StreamInfo(STREAM, "e", b"f" * 32), 0, [LARGE, b"x"])]
    ),
    service.RegisterFunction(4, service.FunctionRecord("i", b"d" * 32, "name"), LARGE),
    service.States(
        5,
        [service.StreamStates(STREAM, [service.TaskState(0, "success", "", Outcome(0, 0, LARGE))])],
    ),
    service.Push(6, [messages.ResultRun(STREAM, 1, 1, [Outcome(0, 0, b"small")])]),
    messages.Heartbeat(),
]


def decode_all(frames: list[bytes]) -> int:
    """Decode with every codec; returns how many took it for a message."""
    taken = 0
    for one in CODECS.values():
        try:
            envelope = one.decode(frames)
        except DecodeError:
            continue
        taken += 1
        for owner, field in codec._places(envelope.message):
            value = getattr(owner, field)
            for payload in value if isinstance(value, list) else [value]:
                assert isinstance(payload, bytes), "a frame's number was left as a payload"
    return taken


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_frames(frames: list[bytes]) -> None:
    decode_all(frames)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
    | st.binary(max_size=8) | st.sampled_from(["tasks", "results", "submit", "body", "fetch"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), anything, st.binary(max_size=9))
def test_random_structures(session: int, number: int, message: Any, frame: bytes) -> None:
    decode_all([msgspec.msgpack.encode([session, number, message]), frame])


def test_messages_with_flipped_bytes() -> None:
    source = random.Random(11)
    encoded = [one.encode(Envelope(1, 0, sample)) for sample in SAMPLES for one in CODECS.values()]
    until = time.monotonic() + 2
    tried = taken = 0
    while time.monotonic() < until:
        frames = list(source.choice(encoded))
        head = bytearray(frames[0])
        for _ in range(source.randrange(1, 5)):
            head[source.randrange(len(head))] = source.randrange(256)
        if source.random() < 0.2:
            del head[source.randrange(len(head)) :]
        frames[0] = bytes(head)
        if source.random() < 0.2:
            frames.append(b"one more")
        elif source.random() < 0.2 and len(frames) > 1:
            frames.pop()
        taken += decode_all(frames)
        tried += 1
    assert tried > 1000
    assert taken > 0


@pytest.mark.parametrize("name", CODECS)
def test_deep_nesting(name: str) -> None:
    depth = 1_000_000
    for data in (b"\x91" * depth, b"\x93\x01\x02" + b"\x91" * depth, b"\x81\xa0" * depth):
        with pytest.raises(DecodeError):
            CODECS[name].decode([data])


@pytest.mark.parametrize(
    "length", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_lengths_that_are_not_there(length: bytes) -> None:
    """A few bytes that announce 4 GB make nobody allocate them."""
    for one in CODECS.values():
        for data in (length, b"\x93\x01\x02" + length, b"\x93\x01\x02\x92\xa5tasks" + length):
            with pytest.raises(DecodeError):
                one.decode([data])


@pytest.mark.parametrize("reference", [0, 2, 5, -1, 2**63])
def test_references_to_frames_that_are_not_there(reference: int) -> None:
    body = msgspec.msgpack.encode([1, 0, ["body", b"d" * 32, reference]])
    tasks = msgspec.msgpack.encode([1, 0, ["tasks", [[STREAM, 0, b"f", [b"", reference]]]]])
    result = msgspec.msgpack.encode([1, 0, ["results", 1, [[STREAM, 1, 1, [[0, 0, reference]]]]]])
    for head in (body, tasks):
        with pytest.raises(DecodeError):
            codec.TO_MANAGER.decode([head, b"frame 1"])
        with pytest.raises(DecodeError):
            codec.TO_MANAGER.decode([head])
    with pytest.raises(DecodeError):
        codec.FROM_MANAGER.decode([result, b"frame 1"])


def test_a_message_of_the_other_direction_is_refused() -> None:
    for frames in (codec.TO_MANAGER.encode(Envelope(1, 0, messages.Drain())),):
        for one in (codec.FROM_MANAGER, codec.FROM_CLIENT):
            assert isinstance(one, Codec)
            with pytest.raises(DecodeError):
                one.decode(frames)

"""Messages survive the way through frames; large payloads have frames of their own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fxhpc.protocol import codec, service
from fxhpc.protocol import messages as msg
from fxhpc.protocol.codec import Codec, DecodeError
from fxhpc.protocol.link import Envelope
from fxhpc.protocol.outcome import Outcome, OutcomeKind
from fxhpc.units import LARGE_PAYLOAD

SMALL, LARGE = b"s" * 10, b"l" * (LARGE_PAYLOAD + 1)
STREAM = b"stream------"
INFO = msg.StreamInfo(STREAM, "an endpoint", b"f" * 32)


def outcomes(*data: bytes) -> list[Outcome]:
    return [Outcome(index, OutcomeKind.VALUE, one) for index, one in enumerate(data)]


MESSAGES: list[tuple[Codec[Any], Any, int]] = [
    (codec.FROM_MANAGER, msg.Register("m", b"e", 2, "1", queued=[msg.TaskRefs(STREAM, [0, 2])]), 1),
    (codec.FROM_MANAGER, msg.Results(1, [msg.ResultRun(STREAM, 1, 1, outcomes(SMALL))]), 1),
    (codec.FROM_MANAGER, msg.Results(1, [msg.ResultRun(STREAM, 1, 1, outcomes(SMALL, LARGE))]), 2),
    (codec.TO_MANAGER, msg.Tasks([msg.TaskRun(STREAM, 0, b"f", [SMALL, LARGE, SMALL, LARGE])]), 3),
    (codec.TO_MANAGER, msg.Tasks([msg.TaskRun(STREAM, 0, b"f", [SMALL])]), 1),
    (codec.TO_MANAGER, msg.Body(b"d" * 32, LARGE), 2),
    (codec.TO_MANAGER, msg.Welcome(1, "1", drop=[msg.TaskRefs(STREAM, [3, 1])]), 1),
    (codec.FROM_INTERCHANGE, msg.Present("e", 1, "1", held=[msg.TaskRefs(STREAM, [0, 9])]), 1),
    (codec.TO_INTERCHANGE, msg.Cancel([msg.TaskRefs(STREAM, [0, 1])], True), 1),
    (codec.FROM_CLIENT, service.Submit(1, [service.Submission(INFO, 0, [LARGE, SMALL])]), 2),
    (codec.FROM_CLIENT, service.PutBody(1, b"d", LARGE), 2),
    (
        codec.FROM_CLIENT,
        service.RegisterFunction(1, service.FunctionRecord("id", b"d", "name"), LARGE),
        2,
    ),
    (codec.TO_CLIENT, service.Push(1, [msg.ResultRun(STREAM, 1, 1, outcomes(LARGE))]), 2),
    (
        codec.TO_CLIENT,
        service.States(
            1,
            [
                service.StreamStates(
                    STREAM,
                    [
                        service.TaskState(0, "success", outcome=outcomes(LARGE)[0]),
                        service.TaskState(1, "running"),
                    ],
                )
            ],
        ),
        2,
    ),
]


@pytest.mark.parametrize(("direction", "message", "frames"), MESSAGES)
def test_a_message_survives(direction: Codec[Any], message: Any, frames: int) -> None:
    before = msgspec.msgpack.encode(message)
    encoded = direction.encode(Envelope(5, 9, message))
    assert len(encoded) == frames
    assert msgspec.msgpack.encode(message) == before, "encoding has changed the message"
    assert direction.decode([bytes(frame) for frame in encoded]) == Envelope(5, 9, message)


def test_large_payloads_are_not_copied() -> None:
    (_, frame) = codec.TO_MANAGER.encode(Envelope(1, 1, msg.Body(b"d", LARGE)))
    assert frame is LARGE


@pytest.mark.parametrize("number", [0, 2, -1, 2**40])
def test_a_frame_that_is_not_there_is_no_message(number: int) -> None:
    data = msgspec.msgpack.encode([1, 1, ["body", b"d", number]])
    for frames in ([data], [data, b"frame"]):
        with pytest.raises(DecodeError):
            codec.TO_MANAGER.decode(frames)


@pytest.mark.parametrize(
    "frames",
    [[], [b""], [b"\xc1"], [b"not msgpack at all"], [msgspec.msgpack.encode([1, 1, ["who"]])]],
)
def test_what_is_no_message_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(DecodeError):
        codec.FROM_MANAGER.decode(frames)


def test_a_message_of_the_other_direction_is_refused() -> None:
    frames = codec.TO_MANAGER.encode(Envelope(1, 1, msg.Drain()))
    with pytest.raises(DecodeError):
        codec.FROM_MANAGER.decode(frames)


def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    data = msgspec.msgpack.encode([1, 1, ["capacity", 1, 2, 3, "and something new"]])
    assert codec.FROM_MANAGER.decode([data]).message == msg.Capacity(1, 2, 3)


def test_fields_that_an_earlier_version_does_not_have_get_their_defaults() -> None:
    data = msgspec.msgpack.encode([1, 1, ["welcome", 1, "0.0.1"]])
    assert codec.TO_MANAGER.decode([data]).message == msg.Welcome(1, "0.0.1")

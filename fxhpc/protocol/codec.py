"""Messages to frames and back. Large payloads get a frame of their own and are not copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from fxhpc.protocol import messages, service
from fxhpc.protocol.link import Envelope
from fxhpc.protocol.needs import needs_of
from fxhpc.units import LARGE_PAYLOAD

M = TypeVar("M")


class DecodeError(ValueError):
    """Bytes that are no message of this link. They are counted, logged once, and ignored.

    Attributes:
        envelope: their place on the link, if that at least can be read; else None.
        call: the number of the call that they were meant to be, if they have one; else None.
    """

    def __init__(
        self, text: str, envelope: Envelope | None = None, call: int | None = None
    ) -> None:
        super().__init__(text)
        self.envelope = envelope
        self.call = call


class _Envelope(msgspec.Struct, Generic[M], array_like=True):
    session: int
    number: int
    message: M


class Codec(Generic[M]):
    """Encodes whatever a link carries, and decodes one direction of it."""

    def __init__(self, incoming: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(_Envelope[incoming])
        self._encode = msgspec.msgpack.Encoder().encode

    def encode(self, envelope: Envelope) -> list[bytes]:
        """The frames of a message: its header, then each large payload."""
        frames: list[bytes] = [b""]
        message = _detach(envelope.message, frames)
        frames[0] = self._encode(Envelope(envelope.session, envelope.number, message))
        return frames

    def decode(self, frames: Sequence[bytes]) -> Envelope:
        """The message of these frames.

        Raises:
            DecodeError: they are not one.
        """
        try:
            decoded = self._decoder.decode(frames[0])
            _attach(decoded.message, frames)
            _check_ranges(decoded.message)
            _check_needs(decoded.message)
        except (msgspec.DecodeError, IndexError, UnicodeDecodeError, RecursionError) as error:
            raise _undecodable(frames, f"not a message of this link: {error}") from None
        return Envelope(decoded.session, decoded.number, decoded.message)


class _Header(msgspec.Struct, array_like=True):
    session: int
    number: int
    message: Any


def _undecodable(frames: Sequence[bytes], text: str) -> DecodeError:
    """The error for these frames: what can be read of them says what not to wait for."""
    try:
        header = msgspec.msgpack.decode(frames[0], type=_Header)
    except (msgspec.DecodeError, IndexError, UnicodeDecodeError, RecursionError):
        return DecodeError(text)
    call = None
    if isinstance(header.message, list) and len(header.message) > 1:
        call = header.message[1] if type(header.message[1]) is int else None
    return DecodeError(text, Envelope(header.session, header.number, None), call)


#: Tasks that one message may name: more would be a mistake, or meant to exhaust somebody's memory.
NAMED_TASKS = 2**26


def _check_ranges(message: Any) -> None:
    """What says first, count, first, count must do so, and not name more tasks than can be."""
    parts = getattr(message, "tasks", None) or getattr(message, "held", None)
    if isinstance(message, messages.Register):
        parts = [*message.queued, *message.running]
    elif isinstance(message, messages.Welcome):
        parts = message.drop
    if not isinstance(parts, list):
        return
    named = 0
    for part in parts:
        ranges = getattr(part, "ranges", None)
        if ranges is None:
            continue
        if len(ranges) % 2:
            raise IndexError("a range without a count")
        named += sum(ranges[1::2])
    if named > NAMED_TASKS:
        raise IndexError(f"{named} tasks named in one message")


def _check_needs(message: Any) -> None:
    """What says what tasks need must do so: many look at it, and expect nothing else."""
    if isinstance(message, messages.Tasks):
        packed = [run.needs for run in message.runs if run.needs]
    elif isinstance(message, service.Submit):
        packed = [row.info.needs for row in message.submissions if row.info.needs]
    elif isinstance(message, service.RegisterFunction):
        packed = [message.record.needs]
    else:
        return
    for one in packed:
        needs_of(one)


def _any_large(payloads: list[bytes]) -> bool:
    return max(map(len, payloads), default=0) > LARGE_PAYLOAD


def _payloads_of(states: list[service.TaskState]) -> list[bytes]:
    return [state.outcome.data for state in states if state.outcome is not None]


def _take(payloads: list[bytes], frames: list[bytes]) -> list[bytes]:
    """The same payloads, with a frame's number in the place of each large one."""
    if not _any_large(payloads):
        return payloads
    taken: list[Any] = list(payloads)
    for position, payload in enumerate(payloads):
        if len(payload) > LARGE_PAYLOAD:
            taken[position] = len(frames)
            frames.append(payload)
    return taken


def _detach(message: Any, frames: list[bytes]) -> Any:
    """The message, or a copy of it without its large payloads, which are appended to `frames`."""
    before = len(frames)
    replace = msgspec.structs.replace
    if isinstance(message, messages.Tasks):
        runs = [_with(run, "payloads", _take(run.payloads, frames)) for run in message.runs]
        return messages.Tasks(runs) if len(frames) > before else message
    if isinstance(message, messages.Results | service.Push):
        results = [
            _with(run, "outcomes", [_take_outcome(out, frames) for out in run.outcomes])
            if _any_large([out.data for out in run.outcomes])
            else run
            for run in message.runs
        ]
        return replace(message, runs=results) if len(frames) > before else message
    if isinstance(message, service.Submit):
        rows = [_with(row, "payloads", _take(row.payloads, frames)) for row in message.submissions]
        return replace(message, submissions=rows) if len(frames) > before else message
    if isinstance(message, messages.Body):
        return replace(message, data=_take([message.data], frames)[0])
    if isinstance(message, service.RegisterFunction | service.PutBody):
        return replace(message, body=_take([message.body], frames)[0])
    if isinstance(message, service.States):
        streams = [
            _with(stream, "states", [_take_state(state, frames) for state in stream.states])
            if _any_large(_payloads_of(stream.states))
            else stream
            for stream in message.streams
        ]
        return replace(message, streams=streams) if len(frames) > before else message
    return message


def _with(struct: Any, field: str, value: Any) -> Any:
    return (
        struct
        if value is getattr(struct, field)
        else msgspec.structs.replace(struct, **{field: value})
    )


def _take_outcome(outcome: Any, frames: list[bytes]) -> Any:
    return _with(outcome, "data", _take([outcome.data], frames)[0])


def _take_state(state: Any, frames: list[bytes]) -> Any:
    if state.outcome is None or len(state.outcome.data) <= LARGE_PAYLOAD:
        return state
    return _with(state, "outcome", _take_outcome(state.outcome, frames))


def _attach(message: Any, frames: Sequence[bytes]) -> None:
    """Put the large payloads back in their places."""
    if len(frames) == 1:
        return _refuse_numbers(message)
    for owner, field in _places(message):
        value = getattr(owner, field)
        if type(value) is list:
            for position, payload in enumerate(value):
                if type(payload) is int:
                    value[position] = _frame(frames, payload)
        elif type(value) is int:
            setattr(owner, field, _frame(frames, value))
    return None


def _frame(frames: Sequence[bytes], number: int) -> bytes:
    if not 0 < number < len(frames):
        raise IndexError(f"frame {number} of {len(frames)}")
    return frames[number]


def _refuse_numbers(message: Any) -> None:
    """A message without further frames must not refer to any."""
    for payloads in _payloads(message):
        if int in set(map(type, payloads)):
            raise IndexError("a payload refers to a frame that is not there")


def _payloads(message: Any) -> list[list[Any]]:
    """All payloads of a message. There are hundred thousands in a second: one step for each."""
    if isinstance(message, messages.Results | service.Push):
        return [[outcome.data for outcome in run.outcomes] for run in message.runs]
    if isinstance(message, service.States):
        return [_payloads_of(stream.states) for stream in message.streams]
    values = [getattr(owner, field) for owner, field in _places(message)]
    return [value if type(value) is list else [value] for value in values]


def _places(message: Any) -> list[tuple[Any, str]]:
    """Where in a message payloads are: an object and its field, a list of payloads or one."""
    if isinstance(message, messages.Tasks):
        return [(run, "payloads") for run in message.runs]
    if isinstance(message, messages.Results | service.Push):
        return [(outcome, "data") for run in message.runs for outcome in run.outcomes]
    if isinstance(message, service.Submit):
        return [(row, "payloads") for row in message.submissions]
    if isinstance(message, messages.Body):
        return [(message, "data")]
    if isinstance(message, service.RegisterFunction | service.PutBody):
        return [(message, "body")]
    if isinstance(message, service.States):
        return [
            (state.outcome, "data")
            for stream in message.streams
            for state in stream.states
            if state.outcome is not None
        ]
    return []


#: A manager's messages, as the interchange reads them.
FROM_MANAGER: Codec[messages.FromManager]
#: The interchange's messages, as a manager reads them.
TO_MANAGER: Codec[messages.ToManager]
#: The interchange's messages, as the forwarder reads them.
FROM_INTERCHANGE: Codec[messages.FromInterchange]
#: The forwarder's messages, as an interchange reads them.
TO_INTERCHANGE: Codec[messages.ToInterchange]
#: A client's messages, as the forwarder reads them.
FROM_CLIENT: Codec[service.FromClient]
#: The forwarder's messages, as a client reads them.
TO_CLIENT: Codec[service.ToClient]

_INCOMING = {
    "FROM_MANAGER": messages.FromManager,
    "TO_MANAGER": messages.ToManager,
    "FROM_INTERCHANGE": messages.FromInterchange,
    "TO_INTERCHANGE": messages.ToInterchange,
    "FROM_CLIENT": service.FromClient,
    "TO_CLIENT": service.ToClient,
}


def _made(name: str) -> Codec[Any]:
    """One of the above, when it is first asked for: a decoder takes a millisecond or two to make,
    and a process reads one or two links of the six.
    """
    try:
        codec: Codec[Any] = Codec(_INCOMING[name])
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = codec
    return codec


if not TYPE_CHECKING:  # else any name would be taken for one of the module's
    __getattr__ = _made

"""Whether what a user gave can be sent: checked where the user gave it, so that it harms nobody."""

from __future__ import annotations

from typing import Any

import msgspec

from fxhpc import errors
from fxhpc.protocol import codec, service
from fxhpc.protocol.link import Envelope
from fxhpc.protocol.messages import StreamInfo

#: What users' texts and numbers go into. The rest is made of what was checked before.
_WITH_TEXTS = (
    service.RegisterFunction
    | service.GetFunctions
    | service.RegisterContainer
    | service.Search
    | service.GetStatus
    | service.ListTasks
)


def check_call(message: Any) -> None:
    """Make sure that a call can be sent, and is one to whoever reads it.

    Raises:
        UsageError: it cannot be; nothing was sent.
    """
    if isinstance(message, service.RegisterFunction):
        message = msgspec.structs.replace(message, body=b"")
    if isinstance(message, _WITH_TEXTS):
        _check(message)


def check_stream(info: StreamInfo) -> None:
    """Make sure that tasks of this stream can be sent.

    Raises:
        UsageError: they cannot be; nothing was sent.
    """
    _check(service.Submit(0, [service.Submission(info, 0, [])]))


def _check(message: Any) -> None:
    try:
        codec.FROM_CLIENT.decode(codec.FROM_CLIENT.encode(Envelope(0, 0, message)))
    except (UnicodeError, OverflowError, TypeError, codec.DecodeError) as error:
        raise errors.UsageError(
            f"{type(message).__name__} cannot be sent: {error}. Nothing was sent. Give text that "
            f"is valid Unicode (no lone surrogates), and integers of at most 64 bits."
        ) from error

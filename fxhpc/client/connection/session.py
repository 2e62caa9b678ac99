"""A client's hold on its forwarder: made at the first use, given back, made anew after a fork."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fxhpc import errors
from fxhpc.client.connection import attachments
from fxhpc.client.connection.address import Afar
from fxhpc.client.connection.attachments import Attachment
from fxhpc.client.names import endpoint_name
from fxhpc.client.started import processes


class Session:
    """The part of `FuncXClient` that is about its own life.

    Args:
        attach: makes the attachment, at the first use and whenever there is none that is usable.
        home: the forwarder's, a directory or an address; None if it is embedded.
    """

    exit_rank = 1

    def __init__(self, attach: Callable[[], Attachment], home: Path | Afar | None) -> None:
        self._attach = attach
        self._home = home
        self._begin()
        self._is_closed = False
        processes.add_resident(self)

    def _begin(self) -> None:
        """Hold nothing yet."""
        self._lock = threading.RLock()
        self._attachment: Attachment | None = None

    def close(self) -> None:
        """Give back what is held; `local` ends with the last client of this process."""
        with self._lock:
            self._is_closed = True
            attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachments.release(attachment)

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            f"a {type(self).__name__} belongs to the process that made it, and is not sent to "
            f"another: make one there, which finds the same home's tasks by their ids (only a "
            f"forked child may use its parent's)"
        )

    def leave(self, deadline: float) -> None:
        """The interpreter ends: the connection and `local` leave by themselves."""

    def abandon(self) -> None:
        """This is a forked child: it attaches anew at its next use."""
        processes.bury(self._attachment, self._lock)
        self._begin()

    # --- for the other parts --------------------------------------------------------------------

    def _attached(self) -> Attachment:
        attachment = self._attachment
        if attachment is not None and attachment.usable:
            return attachment
        with self._lock:
            if self._is_closed:
                raise errors.ForwarderError("this client was closed; make another")
            if self._attachment is None or not self._attachment.usable:
                late = processes.is_exiting()
                self._attachment = self._attach_late() if late else self._attach()
            return self._attachment

    def _attach_late(self) -> Attachment:
        """The interpreter has begun to end: to a home, if threads can still be started.

        Python 3.12 starts none then. What was embedded has gone with all that it knew.
        """
        cause = None
        if self._home is not None:
            try:
                return self._attach()
            except RuntimeError as error:
                cause = error
        raise errors.ForwarderError(
            "the interpreter has begun to end, and this client has given up its connection. Use it "
            "before that: handlers of atexit, and threads that go on after the main one, are too "
            "late"
        ) from cause

    def _share(self) -> Attachment:
        """The attachment, held once more: for an executor."""
        return attachments.hold(self._attached())

    def _ask(self, message: Any) -> Any:
        return self._attached().connection.ask(message)

    def _tell_older(self, attachment: Attachment) -> None:
        attached = attachment.connection.attached
        if attached is None or not attached.older or attachment.told_older:
            return
        if isinstance(self._home, Afar):
            return  # it is that of processes of its own host
        attachment.told_older = True
        print(
            f"fxhpc: {_older(attached.older, self._home)} here.",
            file=sys.stderr,
        )

    def _endpoint(self, endpoint: str | uuid.UUID | None) -> str:
        """An endpoint as messages name it.

        Raises:
            MissingArgument, InvalidUUID, EndpointNotFound: it cannot be meant.
        """
        return endpoint_name(endpoint, self._home, self._ask)


def _older(tasks: int, home: object) -> str:
    if tasks == 1:
        return f"1 older task of a `local` endpoint that is gone waits in {home}; resume() runs it"
    text = f"{tasks:,} older tasks of `local` endpoints that are gone wait"
    return f"{text} in {home}; resume() runs them"

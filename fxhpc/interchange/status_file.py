"""`status.json`: how the endpoint is, for whoever looks at its directory."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from fxhpc.interchange.directory import EndpointDirectory, replace_file
from fxhpc.protocol.messages import EndpointReport, Status

#: Seconds between two writings, at least.
WRITE_S = 1.0


class StatusFile:
    """Writes the file when there is news, at most every second.

    It holds the fields of `messages.Status`, its `report` among them, and `written`: when, in
    seconds since the epoch.
    """

    def __init__(self, directory: EndpointDirectory) -> None:
        self._directory = directory
        self._told: Status | None = None
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether it may be written again."""
        return time.monotonic() >= self._next

    def update(self, status: Status) -> None:
        """Write it, if there is anything new. A disk that is full is no reason to end."""
        self._next = time.monotonic() + WRITE_S
        if status == self._told:
            return
        fields: dict[str, Any] = {
            name: getattr(status, name) for name in Status.__struct_fields__ if name != "report"
        }
        fields["report"] = status.report or EndpointReport()
        fields["written"] = time.time()
        try:
            replace_file(self._directory.status, msgspec.json.encode(fields), sync=False)
        except OSError:
            return  # at the next change, or the next second
        self._told = status

    def remove(self) -> None:
        """The endpoint has ended."""
        self._directory.status.unlink(missing_ok=True)

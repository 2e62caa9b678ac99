"""`status.json`: how the endpoint is, for whoever looks at its directory."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import msgspec

from fxhpc.interchange.directory import EndpointDirectory, replace_file
from fxhpc.interchange.reporting import is_urgent
from fxhpc.protocol.messages import EndpointReport, Status

#: Seconds between two writings, at least.
WRITE_S = 1.0

#: Seconds after which a file that holds what is true has the time of now.
TOUCH_S = 5.0


class StatusFile:
    """Writes the file when there is news, at most every second if that is not urgent. Without news
    its time is set anew now and then: so it says since when nobody has written.

    It holds the fields of `messages.Status`, its `report` among them, and `written`: when, in
    seconds since the epoch.
    """

    def __init__(self, directory: EndpointDirectory) -> None:
        self._directory = directory
        self._told: Status | None = None
        self._next = 0.0
        self._touch_at = 0.0

    def is_due(self) -> bool:
        """Whether it may be written again."""
        return time.monotonic() >= self._next

    def is_urgent(self, status: Status) -> bool:
        """Whether what it tells would mislead, see `reporting.is_urgent`."""
        return is_urgent(status, self._told)

    def update(self, status: Status) -> None:
        """Write it, if there is anything new. A disk that is full is no reason to end."""
        now = time.monotonic()
        self._next = now + WRITE_S
        if status == self._told:
            if now >= self._touch_at:
                self._touch_at = now + TOUCH_S
                with contextlib.suppress(OSError):
                    os.utime(self._directory.status)
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
        self._touch_at = now + TOUCH_S

    def remove(self) -> None:
        """The endpoint has ended."""
        self._directory.status.unlink(missing_ok=True)

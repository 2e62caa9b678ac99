"""What whoever runs an endpoint should know of its interchange beside its work: a sentence each.

Damage, disks without room, limits that are reached, messages that nobody could read, and a version
that was installed since. They stand in the log once, when they begin, and in the status as long as
they hold.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import time
from collections.abc import Callable

from fxhpc.replaced import Installation

#: Seconds between two lines of the log about the same kind of notice.
LOG_S = 60.0

#: Seconds for which it is told that no more files could be opened.
FILES_S = 30.0

#: Seconds between two looks at what is installed.
INSTALLED_S = 10.0

log = logging.getLogger("fxhpc.interchange")


class Notices:
    """Gathers sentences from whoever has something to tell.

    Args:
        sources: each tells a sentence, or nothing; under the name of its kind.
    """

    def __init__(self, sources: dict[str, Callable[[], str]]) -> None:
        self._sources = sources
        self._logged: dict[str, float] = {}  # kinds that hold, and when they may be logged again
        self.told: list[str] = []

    def look(self) -> bool:
        """Ask all sources: whether there is anything new since the last look."""
        now = time.monotonic()
        told: list[str] = []
        for kind, source in self._sources.items():
            text = source()
            if not text:
                self._logged.pop(kind, None)
                continue
            told.append(text)
            if text not in self.told and now >= self._logged.get(kind, 0.0):
                self._logged[kind] = now + LOG_S
                log.warning("%s", text)
        changed = told != self.told
        self.told = told
        return changed


class OpenFiles:
    """Notices when the limit on open files is reached: libzmq tells nobody, and tries again."""

    def __init__(self) -> None:
        self._until = 0.0

    def look(self) -> None:
        """Try to open one more."""
        try:
            os.close(os.dup(2))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._until = time.monotonic() + FILES_S

    def tell(self) -> str:
        """That it was reached of late, in words; empty: it was not."""
        if time.monotonic() > self._until:
            return ""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (
            f"the limit of {soft} open files is reached: managers cannot connect; raise it with "
            f"`ulimit -n` (up to {hard}) where the endpoint is started, and restart the endpoint"
        )


class Upgrade:
    """Notices when another version is installed in the place of the one that runs.

    Args:
        name: of the endpoint, to restart it by; empty: nobody can.
    """

    def __init__(self, name: str, installation: Installation | None = None) -> None:
        self._installation = installation or Installation()
        self._remedy = f"; `fxhpc endpoint restart {name}` takes it up, with its blocks" * bool(
            name
        )
        self._text = ""
        self._look_at = 0.0

    def tell(self) -> str:
        """That it is, in words; empty: it is not."""
        if not self._text and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + INSTALLED_S
            if self._installation.is_replaced():
                self._text = f"{self._installation.words()}: it goes on{self._remedy}"
        return self._text


def unreadable(managers: int, forwarders: int, refused: int) -> str:
    """What came in and was ignored since the start, in words; empty: nothing."""
    parts = [
        f"{count} {what}"
        for count, what in (
            (managers, "messages at the managers' port"),
            (forwarders, "messages at the forwarder's socket"),
            (refused, "connections without the right key"),
        )
        if count
    ]
    return f"ignored since the start, since nobody could read them: {', '.join(parts)}" * bool(
        parts
    )

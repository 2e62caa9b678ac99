"""Results that managers could not tell: the files that they have left, for the interchange to read.

A manager whose block ends while no interchange is there, or before it hears that its last results
are stored, leaves them in a file. They are told at the next start, before any task runs again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import msgspec

from fxhpc.protocol.messages import Results

_ENDING = ".results"

_decode = msgspec.msgpack.Decoder(list[Results]).decode

log = logging.getLogger("fxhpc.interchange")


class LeftResults:
    """The files in one directory, each of which is told once in the life of this process.

    It may be told again in that of the next one: what has ended stays as it is.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = os.fspath(folder)
        self._told: set[str] = set()

    def look(self) -> Iterator[tuple[str, list[Results]]]:
        """What has been left since the last look, with the paths of the files."""
        try:
            names = sorted(os.listdir(self._folder))
        except OSError:
            return  # nobody has left anything
        for name in names:
            path = os.path.join(self._folder, name)
            if not name.endswith(_ENDING) or path in self._told:
                continue
            self._told.add(path)
            try:
                with open(path, "rb") as file:
                    batch = _decode(file.read())
            except OSError as error:
                log.warning("what a manager has left in %s cannot be read: %s", path, error)
            except msgspec.DecodeError as error:
                log.warning("%s holds no results, and is removed: %s", path, error)
                self.discard(path)
            else:
                count = sum(len(run.outcomes) for results in batch for run in results.runs)
                log.info("a manager has left results of %d tasks in %s", count, path)
                yield path, batch

    def discard(self, path: str) -> None:
        """All that was in it is stored."""
        self._told.discard(path)
        with contextlib.suppress(OSError):
            os.unlink(path)
            os.rmdir(self._folder)  # unless there are more

"""Results that a manager could not tell before it left: kept in a file, told by the next one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import msgspec

from fxhpc.protocol.messages import Results
from fxhpc.protocol.pool import ManagerSpec

#: The directory beside the file with the interchange's address.
_FOLDER = "manager-results"
_ENDING = ".results"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Results]).decode

log = logging.getLogger("fxhpc.manager")


def folder_of(spec: ManagerSpec) -> str:
    """Where a manager leaves results; empty: nowhere, it is a client's own."""
    if spec.watch_pid or not spec.address_file:
        return ""
    return os.path.join(os.path.dirname(os.path.abspath(spec.address_file)), _FOLDER)


def write(folder: str, manager: str, batch: list[Results]) -> str:
    """Keep results in a file that is there as a whole or not at all; its path.

    Raises:
        OSError: it cannot be written.
    """
    os.makedirs(folder, 0o700, exist_ok=True)
    path = os.path.join(folder, manager + _ENDING)
    draft = f"{path}.new"
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
        file.write(_encode(batch))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    return path


def read(folder: str) -> Iterator[tuple[str, list[Results]]]:
    """What managers have left, with the paths of the files.

    It may be told twice, if two managers find it: what has ended stays as it is.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return  # nobody has left anything
    for name in names:
        path = os.path.join(folder, name)
        if not name.endswith(_ENDING):
            continue
        try:
            with open(path, "rb") as file:
                yield path, _decode(file.read())
        except OSError as error:
            log.info("%s cannot be read: %s", path, error.strerror)
        except msgspec.DecodeError as error:
            log.warning("%s holds no results, and is removed: %s", path, error)
            discard(path)


def discard(path: str) -> None:
    """All that was in it is stored."""
    try:
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass  # another manager was faster, or there are more

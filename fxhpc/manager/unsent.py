"""Results that a manager could not tell before it left: in a file, for the interchange to read.

See `fxhpc.interchange.left_results`, which does.
"""

from __future__ import annotations

import os

import msgspec

from fxhpc.protocol.messages import Results
from fxhpc.protocol.pool import ManagerSpec

#: The directory beside the file with the interchange's address.
_FOLDER = "manager-results"
_ENDING = ".results"

_encode = msgspec.msgpack.Encoder().encode


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

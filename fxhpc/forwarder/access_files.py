"""Access files: what somebody on another host needs to use a home there, in one file of theirs.

It has the address, the home's public key and a pair of keys of its own. Whoever has the file has
the access, so that it is written for its owner alone, and not read if others could have read it.
"""

from __future__ import annotations

import os
import stat

import msgspec

from fxhpc.errors import HomeError
from fxhpc.transport.curve import CurveClient
from fxhpc.transport.keys import KeyPair
from fxhpc.version import __version__

#: The version of what is in such a file.
FORMAT = 1

_BYTES = 64 * 1024


class AccessFile(msgspec.Struct, kw_only=True, frozen=True):
    """What an access file holds."""

    access: int = FORMAT
    name: str  # as the home's list has it
    addresses: list[str]  # `tcp://HOST:PORT`
    server_key: str  # the forwarder's public key
    public_key: str
    secret_key: str
    host: str = ""  # where it was made
    home: str = ""  # which one, there
    fxhpc: str = __version__  # which version has made it

    def __repr__(self) -> str:
        return f"AccessFile(name={self.name!r}, addresses={self.addresses!r})"

    def curve(self) -> CurveClient:
        """The keys, for a connection."""
        keys = KeyPair("client", self.public_key.encode(), self.secret_key.encode())
        return CurveClient(keys, self.server_key.encode())


def write_access_file(path: str | os.PathLike[str], access: AccessFile) -> None:
    """Write a new file, for its owner alone.

    Raises:
        FileExistsError: there is such a file; it is left as it is.
        OSError: it cannot be written; nothing is left.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(access)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(path)
        raise


def read_access_file(path: str | os.PathLike[str]) -> AccessFile:
    """Read one.

    Raises:
        HomeError: it cannot be read, others could read it, or it is none.
    """
    name = os.fspath(path)
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            data = os.read(descriptor, _BYTES) if stat.S_ISREG(found.st_mode) else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HomeError(f"the access file {name} cannot be read: {error.strerror}") from None
    if found.st_uid not in (os.geteuid(), 0):
        raise HomeError(
            f"the access file {name} belongs to user {found.st_uid}, not to you "
            f"({os.geteuid()}); it was not used"
        )
    if found.st_mode & 0o077:
        raise HomeError(
            f"the access file {name} is open to other users (mode "
            f"{stat.S_IMODE(found.st_mode):04o}) and was not used: run `chmod 600 {name}`; if "
            f"others may have read it, take it back where it was made: fxhpc access revoke"
        )
    try:
        return msgspec.json.decode(data, type=AccessFile)
    except msgspec.DecodeError as error:
        raise HomeError(
            f"{name} is no access file that fxhpc {__version__} can read ({error}); have one made "
            f"on the home's host: fxhpc access export FILE"
        ) from None

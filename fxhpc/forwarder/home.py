"""A home: the directory that holds one user's keys, store and endpoints, and who owns its store."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import msgspec

from fxhpc.errors import HomeError

#: The environment variable that names another home than `~/.fxhpc`.
HOME_VARIABLE = "FXHPC_HOME"


class ForwarderAddress(msgspec.Struct, frozen=True):
    """Where a home's forwarder is: what its owner file says."""

    host: str
    boot: str
    pid: int
    started: float  # seconds since the epoch
    clients: str  # where clients attach
    managers: str  # where local managers register
    epoch: int = 0
    version: str = ""


class Home:
    """The paths of a home.

    Args:
        path: the directory; FXHPC_HOME or `~/.fxhpc` if it is None.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        chosen = path or os.environ.get(HOME_VARIABLE) or os.path.expanduser("~/.fxhpc")
        self.path = Path(os.path.abspath(chosen))
        self.store = self.path / "store.db"
        self.lock = self.path / "lock"
        self.owner = self.path / "forwarder.json"
        self.log = self.path / "forwarder.log"
        self.locals = self.path / "locals"
        self.endpoints = self.path / "endpoints"

    def create(self) -> None:
        """Make the home, or make sure that it is this user's alone.

        Raises:
            HomeError: it cannot be made, is somebody else's, or is open to others.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.locals.mkdir(mode=0o700, exist_ok=True)
            found = os.lstat(self.path)
        except OSError as error:
            raise HomeError(
                f"the home {self.path} cannot be used: {error.strerror}; make the directory "
                f"writable, or name another one in {HOME_VARIABLE}"
            ) from error
        if found.st_uid != os.getuid():
            raise HomeError(
                f"the home {self.path} belongs to user {found.st_uid}, not to you "
                f"({os.getuid()}); name another one in {HOME_VARIABLE}"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise HomeError(
                f"the home {self.path} is open to others (mode "
                f"{stat.S_IMODE(found.st_mode):o}): chmod 700 {self.path}"
            )

    def read_owner(self) -> ForwarderAddress | None:
        """Where the forwarder is that was started last, alive or not."""
        try:
            return msgspec.json.decode(self.owner.read_bytes(), type=ForwarderAddress)
        except (OSError, msgspec.DecodeError):
            return None

    def write_owner(self, address: ForwarderAddress) -> None:
        """Tell where the forwarder is; readers see the old file or the new one."""
        text = msgspec.json.format(msgspec.json.encode(address))
        new = self.owner.with_suffix(".new")
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(text)
        os.replace(new, self.owner)

    def take_lock(self) -> int | None:
        """Become the owner of the store: a descriptor to keep open, or None if another is it."""
        descriptor = os.open(self.lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor


def boot_id() -> str:
    """What tells one run of this host's kernel from another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""

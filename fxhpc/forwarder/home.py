"""A home: the directory that holds one user's keys, store and endpoints, and who owns its store."""

from __future__ import annotations

import errno
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


#: The directory of large results in files, in a home and with each endpoint's state.
SPILL = "spill"


class Home:
    """The paths of a home.

    Args:
        path: the directory; FXHPC_HOME or `~/.fxhpc` if it is None.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        chosen = path or os.environ.get(HOME_VARIABLE) or os.path.expanduser("~/.fxhpc")
        self.path = Path(os.path.abspath(chosen))
        self.store = self.path / "store.db"
        self.limits = self.path / "store.json"
        self.lock = self.path / "lock"
        self.owner = self.path / "forwarder.json"
        self.log = self.path / "forwarder.log"
        self.locals = self.path / "locals"
        self.endpoints = self.path / "endpoints"
        self.spill = self.path / SPILL  # of `local` endpoints

    def create(self) -> None:
        """Make the home, or make sure that it is this user's alone.

        Raises:
            HomeError: it cannot be made, is somebody else's, or is open to others.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.locals.mkdir(mode=0o700, exist_ok=True)
            links, found = os.lstat(self.path), os.stat(self.path)
        except OSError as error:
            raise HomeError(
                f"the home {self.path} cannot be used: {error.strerror}; make the directory "
                f"writable, or name another one in {HOME_VARIABLE}"
            ) from error
        if links.st_uid != os.getuid():
            raise HomeError(
                f"the home {self.path} is a symbolic link that user {links.st_uid} made, not you "
                f"({os.getuid()}); name another one in {HOME_VARIABLE}"
            )
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
        """Tell where the forwarder is; readers see the old file or the new one.

        Raises:
            HomeError: it cannot be written.
        """
        text = msgspec.json.format(msgspec.json.encode(address))
        new = self.owner.with_suffix(".new")
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
                file.write(text)
            os.replace(new, self.owner)
        except OSError as error:
            raise _unwritable(self.owner, error) from error

    def take_lock(self) -> int | None:
        """Become the owner of the store: a descriptor to keep open, or None if another is it.

        Raises:
            HomeError: the file system takes no lock.
        """
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self.lock, flags, 0o600)
        except OSError as error:
            raise _unwritable(self.lock, error) from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return None
            raise HomeError(
                f"{self.lock} cannot be locked: {error.strerror}; without a lock two forwarders "
                f"could write to one store. Use a home on a file system with locks "
                f"({HOME_VARIABLE})"
            ) from error
        return descriptor

    def is_locked_by(self, descriptor: int) -> bool:
        """Whether this descriptor of `take_lock` still is the home's lock: the home may have been
        removed since, and made anew by another forwarder.
        """
        try:
            return os.path.samestat(os.lstat(self.lock), os.fstat(descriptor))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # a file system that does not answer now


def _unwritable(path: Path, error: OSError) -> HomeError:
    if error.errno == errno.EROFS:
        return HomeError(
            f"the home {path.parent} is on a file system that is read-only: a forwarder cannot "
            f"work there, and what is stored cannot be read. Make it writable, or copy the home "
            f"and name the copy in {HOME_VARIABLE}"
        )
    return HomeError(
        f"{path} cannot be written: {error.strerror}; free space there, see that the home is "
        f"yours and writable, or name another one in {HOME_VARIABLE}"
    )

"""A home: the directory that holds one user's keys, store and endpoints, and who owns its store."""

from __future__ import annotations

import contextlib
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
    hosts: str = ""  # where clients on other hosts attach: tcp, several with spaces between
    server_key: str = ""  # its public key there
    since: float = 0.0  # wall clock: when it was started
    access: int = 0  # when the `access.json` was changed that it knows; in ns


#: The note of a move of the store, in its home, in the directory before, and in the one after.
MOVE_NOTE = "store.moving"

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
        self.store_place = self.path / "store.path"  # names the store's directory, if elsewhere
        self._store: Path | None = None
        self.limits = self.path / "store.json"
        self.lock = self.path / "lock"
        self.owner = self.path / "forwarder.json"
        self.claim = self.path / "claim"  # which forwarder owns the store: see `claim`
        self.access = self.path / "access.json"  # who may attach from other hosts
        self.access_seen = self.path / "access.seen"
        self.forwarder_key = self.path / "forwarder.key"
        self.client_key = self.path / "client.key"  # of the home's own clients on other hosts
        self.manager_key = self.path / "manager.key"  # of the managers of their `local` endpoints
        self.log = self.path / "forwarder.log"
        self.locals = self.path / "locals"
        self.endpoints = self.path / "endpoints"
        self.spill = self.path / SPILL  # of `local` endpoints

    @property
    def store(self) -> Path:
        """The store's database: in the home, or in the directory that `store.path` names.

        Raises:
            HomeError: it cannot be told which.
        """
        if self._store is None:
            try:
                text = os.fsdecode(self.store_place.read_bytes()).removesuffix("\n")
            except FileNotFoundError:
                text = ""
            except OSError as error:
                raise HomeError(f"{self.store_place} cannot be read: {error.strerror}") from error
            place = Path(text or self.path)
            if "\0" in text or not place.is_absolute():
                raise HomeError(
                    f"{self.store_place} is damaged: it names {text[:200]!r}, which is no absolute "
                    f"path. Write the directory of the store into it; if that is the home: rm "
                    f"{self.store_place}"
                )
            self._store = place / "store.db"
        return self._store

    def has_store(self) -> bool:
        """Whether there is a store.

        Raises:
            HomeError: there is one that cannot be seen from here, or that is not this user's alone.
        """
        if not os.path.lexists(self.path):
            return False
        self.check()
        self.check_store()
        return self.store.exists()

    def check_store(self) -> None:
        """Make sure that the store's directory, if it is elsewhere, is there and this user's alone.

        Raises:
            HomeError: it is not. Another store must not be begun there, or in its place.
        """
        place = self.store.parent
        if place == self.path:
            return
        try:
            found = os.stat(place)
        except OSError as error:
            raise HomeError(
                f"the store of the home {self.path} is in {place}, which this host does not see: "
                f"{error.strerror}; work on a host that does. If it is gone for good, so are its "
                f"tasks: rm {self.store_place} begins anew"
            ) from error
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise HomeError(
                f"{place}, where the store of the home {self.path} is, must be yours alone: it is "
                f"user {found.st_uid}'s, with mode {stat.S_IMODE(found.st_mode):o}: chmod 700 it"
            )

    def create(self) -> None:
        """Make the home, or make sure that it is this user's alone.

        Raises:
            HomeError: it cannot be made, is somebody else's, or is open to others.
        """
        self._check_name()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.locals.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        self.check()

    def check(self) -> None:
        """Make sure that the home, which is there, is this user's alone.

        Raises:
            HomeError: it is somebody else's, is open to others, or is no directory.
        """
        self._check_name()
        try:
            links, found = os.lstat(self.path), os.stat(self.path)
        except OSError as error:
            raise self._unusable(error) from error
        if not stat.S_ISDIR(found.st_mode):
            raise HomeError(
                f"the home {self.path} is no directory; move that away, or name another one in "
                f"{HOME_VARIABLE}"
            )
        if stat.S_ISLNK(links.st_mode) and links.st_uid != os.getuid():
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

    def _check_name(self) -> None:
        """A path in another encoding than UTF-8 cannot be told to others, in messages and JSON."""
        try:
            os.fspath(self.path).encode()
        except UnicodeEncodeError:
            raise HomeError(
                f"the home {os.fspath(self.path)!r} has a path that is no UTF-8; name another one "
                f"in {HOME_VARIABLE}"
            ) from None

    def _unusable(self, error: OSError) -> HomeError:
        return HomeError(
            f"the home {self.path} cannot be used: {error.strerror}; make the directory "
            f"writable, or name another one in {HOME_VARIABLE}"
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
            raise unwritable(self.owner, error) from error

    def take_lock(self) -> int | None:
        """Become the owner of the store: a descriptor to keep open, or None if another is it.

        Raises:
            HomeError: the file system takes no lock.
        """
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self.lock, flags, 0o600)
        except OSError as error:
            raise unwritable(self.lock, error) from error
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

    def break_lock(self) -> int | None:
        """Become the owner though another holds the lock, or a file server thinks so: by a new
        file in the place of the lock. None: another was faster.

        Raises:
            HomeError: the file system takes no lock.
        """
        with contextlib.suppress(FileNotFoundError):
            self.lock.unlink()
        return self.take_lock()

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


def unwritable(path: str | Path, error: OSError) -> HomeError:
    """What a person is told if a file of the home cannot be written."""
    path = Path(path)
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

"""Who may attach to a home's forwarder from other hosts: `access.json`, and the keys.

Without that file only processes that see the home may, and from other hosts only if it lies on a
file system of a network. The file holds public keys; the secret one of whoever was granted access
is in the file that was given to them, and nowhere here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

import msgspec

from fxhpc.errors import ConfigError, HomeError
from fxhpc.forwarder.filesystems import network_type
from fxhpc.forwarder.home import Home, unwritable
from fxhpc.interchange.directory import replace_file
from fxhpc.site import SITE_FILE, is_there

#: The name of the home's own clients in the allow-list. No grant can have it.
OWN = "the home"


class Grant(msgspec.Struct, frozen=True):
    """Somebody who may attach."""

    name: str
    public: str  # their key, 40 characters of Z85
    made: float  # wall clock


class Access(msgspec.Struct):
    """What `access.json` holds."""

    port: int  # kept, so that files that were given out stay true
    address: str = ""  # the host's, as others know it; empty: all that it has
    granted: list[Grant] = []
    version: int = 1


def check_permitted(site_file: str = SITE_FILE) -> None:
    """See that the administrators of this host let homes be used from elsewhere by a grant.

    Raises:
        HomeError: they do not.
    """
    if not is_there(site_file):
        return
    from fxhpc.site.reading import current  # here: few hosts have such a file

    try:
        site = current(site_file)
    except ConfigError as error:
        raise HomeError(str(error)) from error
    if site is not None and site.access_from_outside == "refuse":
        raise HomeError(
            f"nobody is granted access to homes on this host from elsewhere "
            f"{site.because('access_from_outside')}; log in to work with yours"
        )


@contextlib.contextmanager
def changing(home: Home) -> Iterator[None]:
    """Nobody else changes meanwhile who may attach: one who has read what another is about to
    replace would grant again what was just taken back.

    Raises:
        HomeError: the file system takes no lock.
    """
    path = home.path / "access.lock"
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise HomeError(f"{path} cannot be locked: {error.strerror}") from error
        yield
    finally:
        os.close(descriptor)


def is_shared(home: Home) -> bool:
    """Whether processes of other hosts may use a home, as far as is known."""
    return home.access.exists() or bool(network_type(os.fspath(home.path)))


def read_access(home: Home) -> Access | None:
    """Who may attach from elsewhere; None if nothing was said of that.

    Raises:
        HomeError: it cannot be read.
    """
    try:
        return msgspec.json.decode(home.access.read_bytes(), type=Access)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise HomeError(
            f"{home.access} cannot be read: {why}; mend it, or remove it and begin anew: "
            f"fxhpc access init"
        ) from error


def write_access(home: Home, access: Access) -> None:
    """Write it, whole or not at all.

    Raises:
        HomeError: it cannot be written.
    """
    try:
        replace_file(home.access, msgspec.json.format(msgspec.json.encode(access)))
    except OSError as error:
        raise HomeError(f"{home.access} cannot be written: {error.strerror}") from error


def read_seen(home: Home) -> dict[str, float]:
    """When those who may attach did so last, by name; wall clock."""
    try:
        return msgspec.json.decode(home.access_seen.read_bytes(), type=dict[str, float])
    except (OSError, msgspec.DecodeError):
        return {}


def note_seen(home: Home, names: set[str]) -> None:
    """Write down that these have just attached."""
    seen = read_seen(home) | dict.fromkeys(names, time.time())
    try:
        replace_file(home.access_seen, msgspec.json.encode(seen), sync=False)
    except OSError:
        pass  # a full disk: it is told of nowhere else

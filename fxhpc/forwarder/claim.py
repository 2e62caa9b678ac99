"""A forwarder's claim to its home's store: written when it begins, looked at before it writes.

A lock says who owns a store, and some file systems of a network lose locks: when the owner is cut
off for long, or because nobody keeps them there. So the owner's name stands in a file as well,
which whoever takes over writes anew. The one before reads it, and writes nothing any more.
"""

from __future__ import annotations

import errno
import os
import platform

import msgspec

from fxhpc.errors import ForwarderError
from fxhpc.forwarder.home import Home, unwritable
from fxhpc.hosts import boot_id

#: The argument of a forwarder that is to take the store over, see `taking_over`.
TAKE_OVER = "take-over"

_GONE = frozenset({errno.ENOENT, errno.ESTALE, errno.ENOTDIR})
_BYTES = 4096


class Displaced(ForwarderError):
    """Another forwarder owns the store now: nothing may be written to it."""


class Claim:
    """One forwarder's claim. Nobody else's is like it.

    Attributes:
        is_lost: it was found to be another's.
    """

    def __init__(self, home: Home) -> None:
        self._path = os.fspath(home.claim)
        self._text = msgspec.json.encode(
            {
                "host": platform.node(),
                "boot": boot_id(),
                "pid": os.getpid(),
                "claim": os.urandom(8).hex(),
            }
        )
        self.is_lost = False

    def make(self, sync: bool) -> None:
        """Claim the store. From now on the claim of before does not hold.

        In its place, so that a file server tells whoever opens it next: a new file under the same
        name may be hidden behind what another host remembers of the name.

        Args:
            sync: other hosts may look for it.

        Raises:
            HomeError: it cannot be written.
        """
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.pwrite(descriptor, self._text, 0)
                os.ftruncate(descriptor, len(self._text))
                if sync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unwritable(self._path, error) from error

    def check(self) -> None:
        """Make sure that the store is still this forwarder's.

        It is opened each time: only then does a host ask the file server what is there.

        Raises:
            Displaced: it is another's.
            ForwarderError: that cannot be told now.
        """
        if not self.is_lost:
            try:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    found = os.read(descriptor, _BYTES)
                finally:
                    os.close(descriptor)
            except OSError as error:
                if error.errno not in _GONE:
                    raise ForwarderError(
                        f"{self._path} cannot be read ({error.strerror}), so that nobody knows "
                        f"whose the store is: nothing was written"
                    ) from None
                found = b""
            # One who reads while another writes may see a part, which is not its own either.
            self.is_lost = found != self._text
        if self.is_lost:
            raise Displaced(f"another forwarder owns the store ({self._path})")

    def confirm(self) -> None:
        """All is written: make sure that it was still this forwarder's, as far as can be told.

        Raises:
            Displaced: it is another's.
        """
        try:
            self.check()
        except Displaced:
            raise
        except ForwarderError:
            pass  # a file system that does not answer now: it was this one's a moment before

    def holds(self) -> bool:
        """Whether the store is still this forwarder's, as far as can be told."""
        try:
            self.confirm()
        except Displaced:
            return False
        return True

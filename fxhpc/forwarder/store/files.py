"""The largest payloads: a file for each, in a directory beside the store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from fxhpc.errors import ForwarderError
from fxhpc.forwarder.store.checksums import matches
from fxhpc.forwarder.store.page_cache import PageCache

#: Payloads above this many bytes lie in files: a database writes each byte twice, and was four
#: times slower where it was measured (250 KB: 0.33 against 1.3 ms).
FILE_LIMIT = 256 * 1024

#: The same where every file is synced by itself, as on network file systems.
SYNCED_FILE_LIMIT = 1024 * 1024

#: What the name of a directory has at its end that is being replaced.
_OLD = ".old"


class PayloadFiles:
    """The files of a store's largest payloads. They are written before the commit that names
    them, and removed after the commit that forgets them: at worst one too many is left, which
    `sweep` finds.
    """

    def __init__(self, directory: str, *, full_sync: bool) -> None:
        self.directory = directory
        _restore(directory)
        self.limit = SYNCED_FILE_LIMIT if full_sync else FILE_LIMIT
        self._full_sync = full_sync
        self._cache = PageCache()
        self._folder = -1  # the directory, open, once something was written
        self.size = 0  # bytes of all files
        self._written: dict[str, int] = {}  # in the transaction that is under way, with their bytes
        self._dropped: list[str] = []

    def write(self, name: str, data: bytes) -> None:
        """Write a file with mode 0600.

        In the directory that was there when the first was written: whoever takes the store over
        has another one under its name, see `taking_over`.

        Raises:
            OSError: it could not be written, or not whole.
        """
        if self._folder < 0:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            self._folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._folder)
        self._written[name] = len(data)
        try:
            self._cache.write(descriptor, data)
            if self._full_sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the directory: another may come into its place."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def read(self, name: str, size: int, checksum: int | None = None) -> bytes:
        """A file's bytes.

        Raises:
            ForwarderError: it is missing, or holds other bytes than were written.
        """
        path = os.path.join(self.directory, name)
        try:
            with open(path, "rb") as file:
                data = self._cache.read(file.fileno())
        except OSError as error:
            raise ForwarderError(
                f"The payload file {path} cannot be read ({error.strerror}): what it held of a "
                f"task is gone. Submit that task again."
            ) from None
        if len(data) != size:
            raise ForwarderError(
                f"The payload file {path} has {len(data)} bytes instead of {size}; the machine "
                f"may have lost its power while it was written. Submit that task again."
            )
        if not matches(checksum, data):
            raise ForwarderError(
                f"The payload file {path} is damaged: its checksum is wrong. Submit that task "
                f"again, and see that the disk is well."
            )
        return data

    def drop(self, name: str) -> None:
        """Remove a file once the transaction under way is committed."""
        self._dropped.append(name)

    def remove(self, names: Iterable[str]) -> None:
        """Remove these now, whatever becomes of what refers to them."""
        self.size -= self._remove(names)

    def commit(self) -> None:
        """The transaction is committed."""
        self.size += sum(self._written.values()) - self._remove(self._dropped)
        self._written.clear()
        self._dropped.clear()

    def rollback(self) -> None:
        """The transaction is undone."""
        self._remove(self._written)
        self._written.clear()
        self._dropped.clear()

    def sync_directory(self) -> None:
        """Make the names durable too, if they are to survive a loss of power."""
        if not self._full_sync or not self._written:
            return
        os.fsync(self._folder)

    def measure(self) -> None:
        """Find out how large the files are that there are."""
        self.size = 0
        try:
            with os.scandir(self.directory) as found:
                self.size = sum(entry.stat().st_size for entry in found)
        except OSError:
            pass  # there are none, or they cannot be told now

    def sweep(self, known: Iterable[str]) -> int:
        """Remove files that a crash left without a row; returns how many."""
        try:
            names = set(os.listdir(self.directory))
        except FileNotFoundError:
            return 0
        strays = sorted(names.difference(known))
        self._remove(strays)
        return len(strays)

    def _remove(self, names: Iterable[str]) -> int:
        """Remove these; returns how many bytes they had."""
        size = 0
        for name in names:
            try:
                if self._folder < 0:
                    length = os.stat(path := os.path.join(self.directory, name)).st_size
                    os.unlink(path)
                else:
                    length = os.stat(name, dir_fd=self._folder).st_size
                    os.unlink(name, dir_fd=self._folder)
                size += length
            except OSError:
                pass  # it was never made, or `sweep` will find it
        return size


def replace_directory(directory: str) -> None:
    """Have another directory with the same files in the place of this one: whoever has that open
    finds it removed. The files are written once, and never changed.
    """
    fresh, old = f"{directory}.new", f"{directory}{_OLD}"
    _restore(directory)
    if not os.path.isdir(directory):
        return
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    os.mkdir(fresh, 0o700)
    for name in os.listdir(directory):
        source, target = os.path.join(directory, name), os.path.join(fresh, name)
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            shutil.copyfile(source, target)
    os.replace(directory, old)
    os.replace(fresh, directory)
    shutil.rmtree(old, ignore_errors=True)


def _restore(directory: str) -> None:
    """Whoever replaced it may have been killed in between."""
    if not os.path.isdir(directory) and os.path.isdir(directory + _OLD):
        os.replace(directory + _OLD, directory)


def body_file(digest: bytes) -> str:
    """The name of the file of a function's body, or of a large shared argument."""
    return f"b{digest.hex()}"

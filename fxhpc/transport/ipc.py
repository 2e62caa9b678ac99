"""The private directories that ipc sockets lie in: how they are made, and checked before use."""

from __future__ import annotations

import os
import stat

from fxhpc.errors import HomeError

IPC_SCHEME = "ipc://"

#: Bytes that the kernel allows for a socket's path (108 on Linux, 104 on macOS, with the NUL).
PATH_LIMIT = 103 if os.uname().sysname == "Darwin" else 107


def make_ipc_directory(prefix: str = "fxhpc") -> str:
    """Make `/tmp/PREFIX-UID-RANDOM`, mode 0700, and return its path. The caller removes it.

    /tmp and nothing else: a home may be on a file system that cannot hold sockets, and TMPDIR is
    often longer than the path of a socket may be.
    """
    while True:
        path = f"/tmp/{prefix}-{os.getuid()}-{os.urandom(8).hex()}"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        os.chmod(path, 0o700)  # whatever the umask took away
        return path


def ipc_address(directory: str, name: str) -> str:
    """The address of a socket called `name` in a private directory.

    Raises:
        ValueError: the path is longer than the kernel allows.
    """
    address = f"{IPC_SCHEME}{os.path.join(directory, name)}"
    ipc_path(address)
    return address


def ipc_path(address: str) -> str:
    """The path of an ipc address.

    Raises:
        ValueError: it has none that can be used: abstract, relative, a wildcard, or too long.
    """
    path = address.removeprefix(IPC_SCHEME)
    if not path.startswith("/"):
        raise ValueError(
            f"{address} has no absolute path; an ipc socket without a place in a private "
            f"directory can be reached by every user of this machine"
        )
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise ValueError(
            f"the socket's path {path} has {len(os.fsencode(path))} bytes, and the kernel allows "
            f"{PATH_LIMIT}; use a directory with a shorter path"
        )
    return path


def check_private(path: str) -> None:
    """Make sure that a directory is this user's and nobody else can enter it.

    Raises:
        HomeError: it is missing, a symbolic link, somebody else's, or open to others.
    """
    try:
        found = os.lstat(path)
    except OSError as error:
        raise HomeError(
            f"the directory {path} cannot be used: {error.strerror}; see that it is there and that "
            f"you may enter it"
        ) from None
    if stat.S_ISLNK(found.st_mode):
        raise HomeError(
            f"{path} is a symbolic link; fxhpc uses only a directory itself there: remove the link"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise HomeError(f"{path} is not a directory, and must be one: move it away")
    if found.st_uid != os.geteuid():
        raise HomeError(
            f"the directory {path} belongs to the user with id {found.st_uid}, and this process "
            f"runs as {os.geteuid()}; nothing was read from it"
        )
    if found.st_mode & 0o077:
        raise HomeError(
            f"the directory {path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}) "
            f"and must not be: run `chmod 700 {path}`"
        )

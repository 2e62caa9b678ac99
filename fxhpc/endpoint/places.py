"""Where a home's endpoints lie: their names, their directories, who may read them."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shutil
import stat
import uuid
from pathlib import Path
from typing import NoReturn

from fxhpc import errors
from fxhpc.forwarder.home import Home
from fxhpc.interchange.directory import EndpointDirectory

#: What belongs to one endpoint and to no copy of its directory.
_OWN = (
    "*.json",
    "*.key",
    "*.lock",
    "blocks*",
    "epoch*",
    "failure.txt",
    "journal*",
    "lock",
    "logs",
    "manager-*",
    "managers.address",
    "spill",
    "spool*",
    "state_dir",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str) -> str:
    """The name, if an endpoint may have it.

    Raises:
        EndpointNameInvalid: it may not.
    """
    if name == "local":
        raise errors.EndpointNameInvalid(
            name,
            "`local` is always there: it belongs to the process that uses it",
            "choose another name for an endpoint of your own",
        )
    if _is_uuid(name):
        raise errors.EndpointNameInvalid(
            name,
            f"{name!r} is a UUID, which is an endpoint's id and cannot be its name",
            "use a name; those that there are: fxhpc endpoint list",
        )
    if not _NAME.fullmatch(name):
        raise errors.EndpointNameInvalid(
            name,
            f"{name!r} cannot be an endpoint's name",
            "a name has up to 64 letters, digits, '.', '-' and '_', and begins with a letter or "
            "a digit",
        )
    return name


def _is_uuid(name: str) -> bool:
    """Where an endpoint may be given by its id or its name, a name that is an id would mislead."""
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True


def known_names(home: Home) -> list[str]:
    """The names of the home's endpoints, configured or started."""
    try:
        found = sorted(home.endpoints.iterdir())
    except OSError:
        return []
    return [
        path.name
        for path in found
        if _NAME.fullmatch(path.name)
        and ((path / "config.yaml").exists() or (path / "endpoint.json").exists())
    ]


def find(home: Home, name: str) -> EndpointDirectory:
    """The directory of an endpoint of this home.

    Raises:
        EndpointNameInvalid: no endpoint can be called so.
        EndpointUnknown: there is none.
        EndpointDirectoryInvalid: it is somebody else's, open to others, or no directory.
    """
    if name == "local":
        raise errors.EndpointNameInvalid(
            name,
            "`local` is no endpoint of the home: each process that uses it has its own, with "
            "workers that end with it",
            "its work is listed by: fxhpc task list --endpoint local; its workers are told in that "
            'process alone, by get_endpoint_status("local")',
        )
    check_name(name)
    path = home.endpoints / name
    check_directory(name, path)
    if name not in known_names(home):
        raise unknown(home, name)
    return EndpointDirectory(path, read_state_dir(path))


def unknown(home: Home, name: str) -> errors.EndpointUnknown:
    """The error for an endpoint that is not there; it names the one that was meant."""
    close = difflib.get_close_matches(name, known_names(home), n=1, cutoff=0.6)
    meant = f"did you mean {close[0]!r}? Or " if close else ""
    return errors.EndpointUnknown(
        name,
        f"there is no endpoint {name!r} in {home.endpoints}",
        f"{meant}make it with: fxhpc endpoint configure {name}",
    )


def check_directory(name: str, path: Path) -> None:
    """See that an endpoint's directory is its user's alone, if it is there.

    Raises:
        EndpointDirectoryInvalid: it is not.
    """

    def refuse(text: str, hint: str) -> NoReturn:
        raise errors.EndpointDirectoryInvalid(name, text, hint)

    for place in (path.parent, path):
        try:
            found = os.stat(place)
        except FileNotFoundError:
            return
        except OSError as error:
            refuse(f"{place} cannot be read: {error.strerror}", "see that it is yours and readable")
        if not stat.S_ISDIR(found.st_mode):
            refuse(f"{place} is not a directory", "move it away, or use another home (--home)")
        if found.st_uid != os.getuid():
            refuse(
                f"{place} belongs to user {found.st_uid}, not to you ({os.getuid()})",
                "use a home of your own (--home, FXHPC_HOME)",
            )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        refuse(
            f"{path}, which holds keys, is open to others (mode {mode:o})",
            f"close it with: chmod 700 {path}",
        )


def create(home: Home, name: str) -> EndpointDirectory:
    """Make the directory of an endpoint, or find it.

    Raises:
        HomeError, EndpointNameInvalid, EndpointDirectoryInvalid: it cannot be.
    """
    check_name(name)
    home.create()
    path = home.endpoints / name
    check_directory(name, path)
    directory = EndpointDirectory(path, read_state_dir(path))
    with explained(name, path):
        directory.create(name)
    return directory


def original_of(home: Home, directory: EndpointDirectory) -> str:
    """The name of the endpoint that a directory is a copy of; empty if it is none.

    One that was renamed is no copy: the endpoint of its former name is not there any more.
    """
    record = directory.read_record()
    if record is None or record.name == directory.path.name:
        return ""
    other = EndpointDirectory(home.endpoints / record.name).read_record()
    return record.name if other is not None and other.endpoint == record.endpoint else ""


def make_own(directory: EndpointDirectory) -> EndpointDirectory:
    """Remove from a copy what is the other endpoint's: its id, its keys, which jobs it has, logs.

    Its configuration stays, and what else its user has put there.
    """
    name = directory.path.name
    bare = EndpointDirectory(directory.path)
    with explained(name, bare.path):
        for part in _OWN:
            for path in bare.path.glob(part):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        bare.create(name)
    return bare


def state_directory(directory: EndpointDirectory, name: str, state_dir: str) -> str:
    """The endpoint's own directory in `state_dir`, which may hold other endpoints' and a user's
    files; empty if no `state_dir` is named.
    """
    if not state_dir:
        return ""
    with explained(name, directory.path):
        record = directory.create(name)
    return os.path.join(state_dir, f"{name}-{record.endpoint[:8]}")


def read_state_dir(path: Path) -> str:
    """Where nodes find the endpoint's files, as it was started last; empty: in its directory."""
    try:
        return (path / "state_dir").read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError):
        return ""


class explained:
    """Turns what the file system refuses into an error that says what to do."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        where = os.fsdecode(error.filename) if error.filename else str(self._path)
        hint = {
            errno.ENOSPC: "free space there",
            errno.EDQUOT: "your quota is used up: free space there",
            errno.EROFS: "the file system is read-only: use another home (--home, FXHPC_HOME)",
            errno.ENAMETOOLONG: "use a shorter name",
        }.get(error.errno or 0, "see that the home is yours and writable (--home, FXHPC_HOME)")
        raise errors.EndpointDirectoryInvalid(
            self._name, f"{where} cannot be written: {error.strerror}", hint
        ) from error

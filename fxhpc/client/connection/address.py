"""What `FuncXClient(...)` and `home=` name: a directory of this host, or a home on another one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec

from fxhpc import errors
from fxhpc.client.declared import arguments

#: The environment variable that names another directory than `~/.fxhpc`.
HOME_VARIABLE = "FXHPC_HOME"

#: The one that names an access file, where no home is named.
ACCESS_VARIABLE = "FXHPC_ACCESS"

SSH_SCHEME, TCP_SCHEME = "ssh://", "tcp://"
_TCP_SHAPE = "tcp://HOST:PORT"
_SSH_SHAPE = "ssh://[USER@]HOST[:PORT][/HOME][?command=/PATH/OF/fxhpc]"
_HOST = re.compile(r"\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+$-]*")


class Afar(msgspec.Struct, frozen=True):
    """A home on another host: nothing of it can be read here, its forwarder is asked."""


class SshAddress(Afar, frozen=True):
    """A home that ssh leads to.

    Attributes:
        host: as the user's ssh knows it: a name of their configuration, too.
        user: empty if ssh is to decide.
        port: 0 likewise.
        home: its directory there; empty if its own FXHPC_HOME or ~/.fxhpc is meant.
        command: what the shell there is to run as `fxhpc`.
    """

    host: str
    user: str = ""
    port: int = 0
    home: str = ""
    command: str = "fxhpc"

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"{SSH_SCHEME}{user}{host}{port}{self.home}"


class TcpAddress(Afar, frozen=True):
    """A home that an access file leads to.

    Attributes:
        file: the access file.
        address: `tcp://HOST:PORT`; empty if the file's own is meant.
    """

    file: Path
    address: str = ""

    def __str__(self) -> str:
        return self.address or f"the access file {self.file}"


def parse(
    given: str | os.PathLike[str] | None,
    name: str = "home",
    access: str | os.PathLike[str] | None = None,
) -> Path | Afar:
    """The home that is meant: the given one, that of the access file in FXHPC_ACCESS, FXHPC_HOME's,
    or ~/.fxhpc.

    Args:
        name: of what was given, for an error's text.
        access: the access file, for an address that begins with tcp://, or without an address.

    Raises:
        UsageError: it is neither a path nor an address.
    """
    if access is not None:
        access = arguments.path("access", access, "of an access file (fxhpc access export)")
    if given is None:
        if not access and not os.environ.get(HOME_VARIABLE):
            access = os.environ.get(ACCESS_VARIABLE)
        if access:
            return TcpAddress(Path(access).expanduser().absolute())
        given = os.environ.get(HOME_VARIABLE) or "~/.fxhpc"
        if _is_address(given):
            raise errors.UsageError(
                f"{HOME_VARIABLE} is {given!r}; it names a directory of this host. Write "
                f"FuncXClient({given!r}) to use a home on another one."
            )
        return Path(given).expanduser().absolute()
    text = arguments.path(name, given, "of a directory, or an address such as ssh://HOST")
    if text.startswith(TCP_SCHEME):
        return _tcp(text, name, access or os.environ.get(ACCESS_VARIABLE))
    if access:
        raise _refused("access", access, f"an access file is for an address {_TCP_SHAPE}, or alone")
    if text.startswith(SSH_SCHEME):
        return _ssh(text, name)
    if _is_address(text):
        raise _refused(name, text, f"homes on other hosts are reached by {_SSH_SHAPE}")
    # An empty text is that of an environment where nothing is set.
    if not text:
        return parse(None)
    path = Path(text).expanduser().absolute()
    return TcpAddress(path) if path.is_file() else path


def _is_address(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def _ssh(text: str, name: str) -> SshAddress:
    from urllib.parse import unquote

    before, _, query = text.removeprefix(SSH_SCHEME).partition("?")
    authority, slash, path = before.partition("/")
    user, at, place = authority.rpartition("@")
    end = place.rfind(":") if not place.endswith("]") else -1
    host, port = (place, None) if end < 0 else (place[:end], place[end + 1 :])
    if not _HOST.fullmatch(host) or (at and not _USER.fullmatch(user)):
        # What begins with a dash would be an option of ssh.
        raise _refused(name, text, f"an address is {_SSH_SHAPE}")
    if port is not None and not (port.isdigit() and 0 < int(port) < 65536):
        raise _refused(name, text, f"{port!r} is no port, which is a number from 1 to 65535")
    home = unquote(slash + path) if path else ""
    home = home[1:] if home.startswith("/~") else home
    command = unquote(_command(query, text, name))
    if any(ord(letter) < 32 for letter in home + command):
        raise _refused(name, text, "neither a path nor a command has control characters")
    return SshAddress(host.strip("[]"), user, int(port or 0), home, command)


def _tcp(text: str, name: str, access: str | None) -> TcpAddress:
    host, _, port = text.removeprefix(TCP_SCHEME).rstrip("/").rpartition(":")
    if not _HOST.fullmatch(host) or not (port.isdigit() and 0 < int(port) < 65536):
        raise _refused(name, text, f"an address is {_TCP_SHAPE}")
    if not access:
        raise _refused(
            name,
            text,
            f"there is no access file: give access=FILE, or {ACCESS_VARIABLE}; on the home's "
            f"host one is made with: fxhpc access export FILE",
        )
    return TcpAddress(Path(access).expanduser().absolute(), f"{TCP_SCHEME}{host}:{port}")


def _command(query: str, text: str, name: str) -> str:
    command = ""
    for option in filter(None, query.split("&")):
        key, _, value = option.partition("=")
        if key != "command" or not value:
            raise _refused(name, text, f"an address is {_SSH_SHAPE}, without {option!r}")
        command = value
    return command or "fxhpc"


def _refused(name: str, given: Any, words: str) -> errors.UsageError:
    return errors.UsageError(f"{name}={given!r}: {words}.")

"""The commands `fxhpc access init|export|grant|revoke|list`: who may use a home from elsewhere."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.units import format_duration

if TYPE_CHECKING:
    from fxhpc.forwarder.access import Access
    from fxhpc.forwarder.home import ForwarderAddress

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")  # an IPv4 address, too

#: Seconds that the forwarder may take to see what was changed: it looks every second. On another
#: host it sees files that are new there a minute late, on some file systems.
_SEEN_S, _SEEN_FAR_S = 10.0, 90.0
_LOOK_S = 0.05


@click.group()
@output.common_options
def access() -> None:
    """Let clients on other hosts use the home, over an encrypted port.

    Without it there is no port, unless the home lies on a file system of a network, where the other
    hosts that see it attach by themselves.
    """


@access.command()
@click.option("--port", type=click.IntRange(1024, 65535), help="Which; any free one by default.")
@click.option("--address", metavar="HOST", help="This host as others know it; all it has.")
@click.option("--rotate", is_flag=True, help="New keys: all files that were given out end.")
@output.common_options
def init(port: int | None, address: str | None, rotate: bool) -> None:
    """Open the port, and start the forwarder if it does not run.

    Said again it changes nothing, unless an option says so. The forwarder stays as long as somebody
    is granted access; after a reboot this command starts it again.
    """
    from fxhpc.forwarder.access import Access, changing, check_permitted, read_access, write_access

    check_permitted()
    if address and not _HOST.fullmatch(address):
        raise errors.UsageError(
            f"--address {address!r} is no name and no IPv4 address of a host, such as "
            f"login1.cluster or 10.1.0.11; the port is --port"
        )
    home = output.home()
    home.create()
    with changing(home):
        found = read_access(home)
        if found is None:
            found = Access(port or _free_port())
        found.port = port or found.port
        found.address = found.address if address is None else address
        ended = len(found.granted) if rotate else 0
        if rotate:
            found.granted = []
            for path in (home.forwarder_key, home.client_key, home.manager_key):
                path.unlink(missing_ok=True)
        write_access(home, found)
    address_now = _await_port(found)
    if output.wants_json():
        output.document({"addresses": address_now.hosts.split(), "ended": ended})
        return
    click.echo(f"the forwarder on {address_now.host} listens at {address_now.hosts}")
    if ended:
        click.echo(f"{ended} granted before can come no more; give out new files: {_export()}")
    elif not found.granted:
        click.echo(f"nobody else may use it yet; make a file for somebody: {_export()}")


@access.command(short_help="Grant access, and write what its owner needs into FILE.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="As the list has it; the file's name by default.")
@output.common_options
def export(file: Path, name: str | None) -> None:
    """Grant access, and write what its owner needs into FILE, for its owner alone.

    Bring it to the other host (scp), remove it here, and use it there:
    FuncXClient("FILE"), or FXHPC_ACCESS=FILE.
    """
    _grant(name if name is not None else file.stem, file)


@access.command(short_help="Grant access under a NAME, and write NAME.json.")
@click.argument("name")
@click.option("--file", type=click.Path(path_type=Path), help="NAME.json here by default.")
@output.common_options
def grant(name: str, file: Path | None) -> None:
    """Grant access under a NAME, and write what its owner needs into a file."""
    _grant(name, file if file is not None else Path(f"{name}.json"))


@access.command()
@click.argument("name", required=False)
@click.option("--all", "everybody", is_flag=True, help="All, and close the port.")
@output.common_options
def revoke(name: str | None, everybody: bool) -> None:
    """Take access back, at once: connections that are there end too."""
    from fxhpc.forwarder.access import changing, read_access, write_access

    if bool(name) == everybody:
        raise click.UsageError("say whose: a NAME, or --all")
    home = output.home()
    left: list[str] = []
    with changing(home) if home.path.is_dir() else contextlib.nullcontext():
        if everybody:
            home.access.unlink(missing_ok=True)
            home.access_seen.unlink(missing_ok=True)
        else:
            found = read_access(home)
            before = found.granted if found is not None else []
            remaining = [one for one in before if one.name != name]
            left = [one.name for one in remaining]
            if found is None or len(left) == len(before):
                known = ", ".join(left)
                raise errors.UsageError(
                    f"{name} has no access; {f'these have: {known}' if known else 'nobody has'}"
                )
            found.granted = remaining
            write_access(home, found)
    _check_seen(_await_look())
    who = "nobody has access from elsewhere" if everybody else f"{name} has no access"
    _tell_left(left, f"{who} any more")


@access.command("list", short_help="Show who may use the home from other hosts.")
@output.common_options
def list_() -> None:
    """Show who may use the home from other hosts, and when they connected last."""
    from fxhpc.forwarder.access import read_access, read_seen

    home = output.home()
    found, seen = read_access(home), read_seen(home)
    rows = [(one.name, one.made, seen.get(one.name)) for one in found.granted] if found else []
    if output.wants_json():
        output.document(
            {
                "port": found.port if found else None,
                "granted": [
                    {"name": name, "kind": "client", "made": made, "connected": at}
                    for name, made, at in rows
                ],
            }
        )
        return
    if not rows:
        click.echo(f"nobody has access from elsewhere; grant it: {_export()}")
        return
    now = time.time()
    output.table(
        ("name", "kind", "made", "connected last"),
        [
            (name, "client", _ago(now - made), _ago(now - at) if at else "never")
            for name, made, at in rows
        ],
    )


def _tell_left(left: list[str], text: str) -> None:
    if output.wants_json():
        output.document({"left": left})
    else:
        click.echo(text)


def _grant(name: str, file: Path) -> None:
    from fxhpc.forwarder.access import (
        OWN,
        Grant,
        changing,
        check_permitted,
        write_access,
    )
    from fxhpc.forwarder.access_files import AccessFile, write_access_file
    from fxhpc.transport.keys import new_keys

    check_permitted()
    home = output.home()
    if not _NAME.fullmatch(name) or name == OWN:
        raise errors.UsageError(
            f"{name!r} cannot be a name: it has up to 64 letters, digits, '.', '-' and '_', and "
            f"begins with a letter or a digit"
        )
    address = _await_port(_ungranted(name))
    keys = new_keys("client")
    made = AccessFile(
        name=name,
        addresses=address.hosts.split(),
        server_key=address.server_key,
        public_key=keys.public.decode(),
        secret_key=keys.secret.decode(),
        host=platform.node(),
        home=os.fspath(home.path),
    )
    with changing(home):
        found = _ungranted(
            name
        )  # meanwhile somebody else may have been granted it, or not any more
        try:
            write_access_file(file, made)
        except FileExistsError:
            raise errors.UsageError(f"{file} is there already, and was left as it is") from None
        except OSError as error:
            raise errors.UsageError(f"{file} cannot be written: {error.strerror}") from None
        found.granted = [*found.granted, Grant(name, made.public_key, time.time())]
        write_access(home, found)
    _await_look(is_needed=True)
    if output.wants_json():
        output.document({"name": name, "file": os.path.abspath(file)})
        return
    click.echo(f"{file} gives access to the home {home.path}, to whoever has it")
    click.echo(f"bring it to its owner (scp), who keeps it with mode 600, and remove it: rm {file}")


def _ungranted(name: str) -> Access:
    """Who has access, with nobody of this name among them.

    Raises:
        UsageError: somebody of this name has, or there is no port.
    """
    from fxhpc.forwarder.access import read_access

    home = output.home()
    found = read_access(home)
    if found is None:
        raise errors.UsageError(f"the home {home.path} has no port yet: fxhpc access init")
    if any(one.name == name for one in found.granted):
        raise errors.UsageError(
            f"{name} has access already; take it back first: fxhpc access revoke {name}, or "
            f"choose another name"
        )
    return found


def _await_port(access: Access) -> ForwarderAddress:
    """The forwarder, started if need be, when it listens where it is to.

    Raises:
        HomeError: it does not.
    """
    from fxhpc.forwarder.attach import ensure_forwarder

    ensure_forwarder(output.home().path)
    found = _await(
        lambda address: (
            address is not None and f":{access.port} " in f"{address.hosts} ".replace("tcp://", "")
        )
    )
    if found is None:
        raise errors.HomeError(
            f"the forwarder does not listen at port {access.port}: another program has it, "
            f"perhaps; {output.home().log} says why. Choose another: fxhpc access init --port N"
        )
    _await_look()
    return output.home().read_owner() or found


def _await(holds: Any) -> ForwarderAddress | None:
    """Wait for what the owner file says; it, or None if it did not come to say so."""
    deadline = time.monotonic() + _patience()
    while True:
        address = output.home().read_owner()
        if holds(address):
            return address
        if time.monotonic() > deadline:
            return None
        time.sleep(_LOOK_S)


def _await_look(is_needed: bool = False) -> bool:
    """Wait until the forwarder has seen what was written. Whether it has, or there is none.

    Args:
        is_needed: start one if it leaves before: with nobody to come it does.
    """
    from fxhpc.forwarder.attach import ensure_forwarder, find_forwarder

    home = output.home()
    deadline = time.monotonic() + _patience()
    try:
        changed = home.access.stat().st_mtime_ns
    except FileNotFoundError:
        changed = 0  # nobody has access: it says 0 then
    while True:
        if is_needed:
            ensure_forwarder(home.path)
        address = home.read_owner()
        if address is None and not is_needed:
            return True
        if address and (address.access >= changed if changed else not address.access):
            return True
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_S)
    try:
        return find_forwarder(home) is None
    except errors.ForwarderUnreachable:
        return False


def _check_seen(has_seen: bool) -> None:
    """
    Raises:
        ForwarderUnreachable: access was taken back, and the forwarder goes on as if it was not.
    """
    home = output.home()
    address = home.read_owner()
    if has_seen or address is None:
        return
    raise errors.ForwarderUnreachable(
        str(home.path),
        f"it was taken back in {home.access}, but the forwarder on host {address.host}, pid "
        f"{address.pid}, has not looked there: who is connected stays until it does. If it was "
        f"stopped or hangs, end it there: kill -9 {address.pid}; nothing is lost. If that host is "
        f"cut off: fxhpc forwarder start --take-over",
    )


def _patience() -> float:
    address = output.home().read_owner()
    is_far = address is not None and address.host != platform.node()
    return _SEEN_FAR_S if is_far else _SEEN_S


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("0.0.0.0", 0))
        return int(trial.getsockname()[1])


def _export() -> str:
    return f"fxhpc access export laptop.json{output.home_option()}"


def _ago(seconds: float) -> str:
    return f"{format_duration(max(0.0, seconds))} ago"

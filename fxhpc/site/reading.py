"""Reads the site file, and refuses one that somebody else than the administrators could change."""

from __future__ import annotations

import os
import re
import socket
import stat
from typing import Any

import msgspec

from fxhpc.durations import parse_duration
from fxhpc.errors import ConfigError
from fxhpc.site import SITE_FILE
from fxhpc.site.rules import Site, login_limit

#: Where msgspec says that something is wrong.
_AT = re.compile(r"(.*) - at `\$\.?(.*)`")
#: Keys that are set here alone.
_OURS = ("source", "lines", "poll_s")
_MAX_BYTES = 2**20


def current(path: str = SITE_FILE) -> Site | None:
    """What the administrators of this host have set; None if there is no such file.

    Raises:
        ConfigError: it cannot be used: nothing is allowed then, since nobody knows what is.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            text = file.read(_MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise _refused(
                f"{path}: is a link to {os.readlink(path)}, which this host does not see"
            ) from None
        return None
    except OSError as error:
        raise _refused(f"{path}: cannot be read: {error.strerror}") from error
    if found.st_uid != 0:
        raise _refused(f"{path}: belongs to user {found.st_uid}, and must be root's")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise _refused(f"{path}: others than root may write to it: chmod 644 {path}")
    return parse(text.decode("utf-8", "replace"), path)


def parse(text: str, source: str) -> Site:
    """A site file's text, checked.

    Raises:
        ConfigError: with the line of what is wrong.
    """
    import yaml  # here: only where there is such a file

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.load(text, Loader=yaml.BaseLoader)  # texts, lists and mappings
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        why = getattr(error, "problem", None) or str(error)
        raise _refused(f"{source}{line}: is no YAML: {why}") from None
    except RecursionError:
        raise _refused(f"{source}: is no YAML: it is nested too deep") from None
    if node is None:
        return Site(source=source)
    lines: dict[str, int] = {}
    if not isinstance(values, dict):
        raise _refused(f"{source}: is no mapping of keys to values")
    if twice := _find_lines(node, "", lines):
        raise _refused(f"{source}:{lines[twice]}: {twice}: stands there twice")
    for key in lines:
        if key.rpartition(".")[2] in _OURS:
            raise _refused(f"{source}:{lines[key]}: there is no key {key!r}")
    try:
        site = msgspec.convert(values, Site, strict=False)
    except msgspec.ValidationError as error:
        at = _AT.fullmatch(str(error))
        what, key = at.groups() if at else (str(error), "")
        key = key.partition("[")[0]
        unknown = re.search(r"unknown field `(\w+)`", what)
        if unknown:
            key = f"{key}.{unknown[1]}".lstrip(".")
            what = "there is no such key"
        line = f":{lines[key]}" if key in lines else ""
        raise _refused(f"{source}{line}: {key}: {what}") from None
    site = msgspec.structs.replace(site, source=source, lines=lines)
    login = site.login_nodes
    if (login.max_workers is None) != (not login.hosts):
        raise _refused(
            f"{site.where('login_nodes')}: login_nodes: needs both, `hosts` (such as [login*]) and "
            f"`max_workers` (0: nothing runs there)"
        )
    if site.endpoints.poll_interval is None:
        return site
    try:
        seconds = parse_duration(site.endpoints.poll_interval)
    except ValueError as error:
        where = site.where("endpoints.poll_interval")
        raise _refused(f"{where}: endpoints.poll_interval: {error}") from None
    return msgspec.structs.replace(
        site, endpoints=msgspec.structs.replace(site.endpoints, poll_s=seconds)
    )


def host_names() -> list[str]:
    """What this host is called, with its domain and without."""
    name = socket.gethostname()
    return list(dict.fromkeys((name, name.partition(".")[0])))


def login_limit_here(path: str = SITE_FILE) -> tuple[int | None, Site | None]:
    """Workers that a process may have on this host, None without limit; and who says so.

    Raises:
        ConfigError: the site file cannot be used.
    """
    site = current(path)
    return (None if site is None else login_limit(site, host_names())), site


def _find_lines(node: Any, prefix: str, lines: dict[str, int]) -> str:
    """Note where each key stands; returns one that stands there twice, or nothing."""
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        is_second = name in lines
        lines[name] = key.start_mark.line + 1
        if is_second:
            return name
        if value.id == "mapping" and (twice := _find_lines(value, f"{name}.", lines)):
            return twice
    return ""


def _refused(problem: str) -> ConfigError:
    return ConfigError([f"{problem}. It holds for all users of this host: tell its administrators"])

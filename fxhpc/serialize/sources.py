"""The user modules that a function needs, with their sources: what travels in its body."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from fxhpc.serialize import references

#: Bytes of source that a body takes along at most; what is beyond must be found by the worker.
SOURCES_LIMIT = 1024 * 1024

_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#;]*)|import[ \t]+([^\n#;]+))",
    re.MULTILINE,
)


class Source(NamedTuple):
    """One user module's file, as it was when the function was packed."""

    name: str
    path: str
    is_package: bool
    modified_ns: int
    text: bytes


def collect(names: Iterable[str], limit: int = SOURCES_LIMIT) -> list[Source]:
    """The sources of these modules, of their packages and of what they import, nearest first.

    Modules that are not the user's are left out, and so is what goes beyond `limit` bytes.
    """
    found: dict[str, Source | None] = {}
    waiting = sorted(names)
    size = 0
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found[name] = source = _read(name)
        if source is None:
            continue
        size += len(source.text)
        if size > limit:
            found[name] = None
            break
        parent = name.rpartition(".")[0]
        if parent:
            waiting.append(parent)
        waiting += _imported(name, source.is_package, source.text)
    return sorted(source for source in found.values() if source is not None)


def _read(name: str) -> Source | None:
    """The file of a module as it is now, which may be newer than what is loaded."""
    located = _locate(name)
    if located is None:
        return None
    path, is_package = located
    try:
        with open(path, "rb") as file:
            modified = os.fstat(file.fileno()).st_mtime_ns
            return Source(name, path, is_package, modified, file.read())
    except OSError:
        return None  # deleted since it was imported: the worker has to find it, or to say so


def _locate(name: str) -> tuple[str, bool] | None:
    path = references.user_module_of(name)
    if path:
        return os.path.abspath(path), hasattr(sys.modules[name], "__path__")
    if name in sys.modules or name.partition(".")[0] in sys.stdlib_module_names:
        return None
    located = references.find_file(name)
    return located if located and references.is_user_file(located[0]) else None


@lru_cache(maxsize=1024)
def _imported(name: str, is_package: bool, text: bytes) -> tuple[str, ...]:
    """What a source may import: names of modules, some of which are names in modules."""
    names: dict[str, None] = {}
    for origin, imported, plain in _IMPORT.findall(text.decode("utf-8", "replace")):
        if plain:
            names.update(dict.fromkeys(_words(plain)))
            continue
        dots = len(origin) - len(origin.lstrip("."))
        base = origin[dots:]
        if dots:
            package = name.split(".")
            package = package[: len(package) - dots + (1 if is_package else 0)]
            base = ".".join([*package, base] if base else package)
        if base:
            names[base] = None
            names.update(dict.fromkeys(f"{base}.{word}" for word in _words(imported)))
    return tuple(names)


@lru_cache(maxsize=64)
def bound_by_imports(text: str, nested: bool) -> frozenset[str]:
    """The names that the import statements of a source bind, with `nested` indented ones too."""
    names: set[str] = set()
    for match in _IMPORT.finditer(text):
        _, imported, plain = match.groups()
        if match[0][0] in " \t" and not nested:
            continue
        for part in (imported or plain).strip().strip("()").split(","):
            words = part.split()
            if words:
                names.add(words[-1] if "as" in words else words[0].partition(".")[0])
    return frozenset(names)


def _words(text: str) -> list[str]:
    parts = text.strip().strip("()").split(",")
    return [words[0] for part in parts if (words := part.split()) and words[0] != "*"]

"""Reads YAML so that every value knows its line. What is wrong is said with it, never a traceback.

It is YAML as people mean it: `on`, `yes`, `1:30` and `0123` are words, which a field that wants a
boolean, a duration or a number understands, and a field that wants a name keeps as it is written.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fxhpc.errors import ConfigError

#: Where a value is: the keys and list indices that lead to it.
KeyPath = tuple[str | int, ...]

#: Nobody's configuration is larger; files that are were meant to be something else.
_MAX_BYTES = 2**20
#: Values in one file, each alias counted in full: aliases of aliases make billions of few lines.
_MAX_VALUES = 20_000
_MAX_DEPTH = 50


#: In text; alone, YAML reads it as a mapping.
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_ ]*)\}\}")


class WrittenFloat(float):
    """A number that knows how it was written: a name such as 1.10 is not 1.1."""

    text: str

    def __new__(cls, text: str) -> WrittenFloat:
        # YAML has a point in front of `.inf` and `.nan`, Python has not.
        plain = text.replace("_", "")
        made = super().__new__(
            cls, float(plain.replace(".", "") if "n" in plain.lower() else plain)
        )
        made.text = text
        return made


@dataclass
class Document:
    """What a YAML file says, and where it says it."""

    source: str  # the file's name, as problems show it
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)  # from 1
    #: Values that are placeholders to be filled in, `{{ NAME }}`.
    placeholders: dict[KeyPath, str] = field(default_factory=dict)
    #: Keys of the top level that come from another file.
    sources: dict[str, str] = field(default_factory=dict)
    #: What is wrong in it as YAML, and its line. What is right can be checked all the same.
    problems: list[tuple[int, str]] = field(default_factory=list)
    #: What its author should know.
    warnings: list[str] = field(default_factory=list)

    def line_of(self, path: KeyPath) -> int:
        """The line of a key, or of the nearest above it that has one; 0: none has."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return 0

    def problem(self, path: KeyPath, text: str) -> str:
        """A line for people: `file:line: key.path: text`."""
        source = self.sources.get(str(path[0]), self.source) if path else self.source
        return problem(source, self.line_of(path), path, text)


def problem(source: str, line: int, path: KeyPath, text: str) -> str:
    """`file:line: key.path: text`, without what is not known."""
    where = f"{source}:{line}" if line else source
    keys = show_path(path)
    return f"{where}: {keys}: {text}" if keys else f"{where}: {text}"


def show_path(path: KeyPath) -> str:
    """A path as people write it: engine.provider.walltime, limits[0]."""
    shown = ""
    for part in path:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else str(part)
    return shown


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a configuration file.

    Raises:
        ConfigError: it is not there, cannot be read, or is no text.
    """
    source = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            [f"{source}: there is no such file; `fxhpc endpoint configure NAME` writes one"]
        ) from None
    except IsADirectoryError:
        raise ConfigError([f"{source}: is a directory; give the YAML file in it"]) from None
    except OSError as error:
        raise ConfigError([f"{source}: cannot be read: {error.strerror or error}"]) from None
    if len(data) > _MAX_BYTES:
        raise ConfigError([f"{source}: is larger than 1 MB, which no configuration is"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [f"{source}:{line}: is not UTF-8 text (byte 0x{data[error.start]:02x})"]
        ) from None


def parse(text: str, source: str) -> Document:
    """What a YAML text says, which must be right.

    Raises:
        ConfigError: it is no YAML, or not a mapping; all duplicate keys at once.
    """
    document = parse_all(text, source)
    if document.problems:
        raise ConfigError([text for _, text in document.problems])
    return document


def parse_all(text: str, source: str) -> Document:
    """What a YAML text says, with the `problems` of its single keys and values.

    Raises:
        ConfigError: it is no YAML, or not a mapping.
    """
    if not text.strip():
        raise ConfigError(
            [f"{source}: is empty; `fxhpc config show slurm` prints one to begin with"]
        )
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        raise ConfigError([_syntax_problem(error, source, text)]) from None
    except RecursionError:
        raise ConfigError([f"{source}: is nested too deeply"]) from None
    if node is None:
        raise ConfigError([f"{source}: holds comments alone"])
    reader = _Reader(source)
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "one plain value"
        raise ConfigError(
            [f"{source}:{_line(node)}: is {kind}; it must be keys with values, `key: value`"]
        )
    data = reader.read(node, (), ())
    return Document(source, data, reader.lines, reader.placeholders, problems=reader.problems)


def parse_file(path: str | os.PathLike[str]) -> Document:
    """`parse` of a file; problems show its name as it was given."""
    return parse(read_text(path), os.fspath(Path(path)))


class _Loader(yaml.SafeLoader):
    """YAML's syntax, and which plain words are numbers, booleans or nothing."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_PLAIN = [
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:[0-9][0-9_]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9]+\.?[eE][-+]?[0-9]+|[-+]?[0-9]+\.|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
]
for _tag, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list(_first))


_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _Reader:
    """Turns YAML's nodes into plain values, and remembers their lines."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[KeyPath, int] = {}
        self.placeholders: dict[KeyPath, str] = {}
        self.problems: list[tuple[int, str]] = []
        self._left = _MAX_VALUES

    def read(self, node: yaml.Node, path: KeyPath, above: tuple[yaml.Node, ...]) -> Any:
        if any(node is other for other in above) or len(above) > _MAX_DEPTH:
            text = "contains itself" if node in above else "is nested too deeply"
            raise ConfigError([problem(self.source, _line(node), path, text)])
        self._left -= 1
        if self._left < 0:
            raise ConfigError(
                [f"{self.source}:{_line(node)}: its aliases (`*name`) make more values than fit"]
            )
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            self._wrong(node, path, f"tags such as {node.tag!r} are not allowed here")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, (*above, node))
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, path, (*above, node))
        return self._scalar(node, path)

    def _sequence(
        self, node: yaml.SequenceNode, path: KeyPath, above: tuple[yaml.Node, ...]
    ) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            place = (*path, index)
            self.lines[place] = _line(item)
            values.append(self.read(item, place, above))
        return values

    def _mapping(
        self, node: yaml.MappingNode, path: KeyPath, above: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.MappingNode):
                name = _placeholder(key_node)
                self.placeholders[path] = name
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, path, "a key must be a plain word")
                continue
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged.update(self._merge(value_node, path, above))
                continue
            key = key_node.value
            place = (*path, key)
            if key in first:
                self._wrong(key_node, place, f"is there twice, on line {first[key]} too")
                continue
            first[key] = _line(key_node)
            self.lines[place] = _line(key_node)
            found[key] = self.read(value_node, place, above)
        return {**merged, **found}

    def _merge(
        self, node: yaml.Node, path: KeyPath, above: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
        """What `<<: *name` brings; the keys beside it go before it, as YAML has it."""
        if isinstance(node, yaml.SequenceNode):
            merged: dict[str, Any] = {}
            for item in reversed(node.value):
                merged.update(self._merge(item, path, (*above, node)))
            return merged
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, path, "`<<` takes a mapping, mostly `<<: *name`")
            return {}
        return dict(self.read(node, path, above))

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() == "true"
            if kind == "int":
                return int(text.replace("_", ""), 0)
            if kind == "float":
                return WrittenFloat(text)
        except ValueError:
            self._wrong(node, path, f"{text!r} is not of the kind !!{kind}")
            return None
        found = _PLACEHOLDER.search(text)
        if found:
            self.placeholders[path] = found[1].strip()
        if kind not in ("str", "merge", "timestamp", "value"):
            self._wrong(node, path, f"tags such as {node.tag!r} are not allowed here")
        return text

    def _wrong(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        line = _line(node)
        self.problems.append((line, problem(self.source, line, path, text)))


def _placeholder(node: yaml.MappingNode) -> str:
    """What stands between the braces of `{{ NAME }}`."""
    return " ".join(str(key.value) for key, _ in node.value) or "..."


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _syntax_problem(error: yaml.YAMLError, source: str, text: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    if mark is None:  # the reader's: characters that text does not hold
        position = getattr(error, "position", 0)
        character = getattr(error, "character", "?")
        shown = f"0x{character:02x}" if isinstance(character, int) else repr(character)
        line = text.count("\n", 0, position) + 1
        return f"{source}:{line}: is not a text file: it holds the character {shown}"
    line = mark.line + 1
    written = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if "\t" in written[: mark.column + 1]:
        return f"{source}:{line}: a tab: YAML is indented by spaces"
    if "single document" in str(getattr(error, "context", "")):
        return f"{source}:{line}: a second document begins (`---`); there may be one"
    if "expected <block end>" in said or "mapping values are not allowed" in said:
        said += " (is the indentation right? a value with `: ` or ` #` in it needs quotes)"
    column = mark.column + 1
    return f"{source}:{line}: is not YAML: {said}, column {column}: {written.strip()[:60]!r}"

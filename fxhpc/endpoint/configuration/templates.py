"""Globus Compute's Jinja templates of configurations: found, filled in, and read as YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fxhpc.endpoint.configuration.template_fill import RESERVED, filled
from fxhpc.endpoint.configuration.template_schema import check_variables
from fxhpc.endpoint.configuration.words import CLOUD_KEYS
from fxhpc.endpoint.configuration.yaml_file import Document, parse, parse_all, problem, read_text
from fxhpc.errors import ConfigError

#: Beside a config.yaml: what its workers are, by Globus Compute's names.
_BESIDE = ("user_config_template.yaml.j2", "user_config_template.yaml")
_STATEMENT = re.compile(r"^\s*\{%", re.MULTILINE)


def document_of(path: Path, variables: Mapping[str, Any] | None = None) -> Document:
    """What a configuration says: a file, a template, or Globus Compute's two files.

    Raises:
        ConfigError: it cannot be read, a variable has no value, or it is no YAML.
    """
    path = _file_in(path)
    if path.suffix == ".py":
        raise ConfigError([_python_config(path)])
    used: set[str] = set()
    document = _read(path, variables, used)
    beside = _template_beside(path, document)
    if beside is None:
        document.warnings += _unused(path, document, variables, used)
        return document
    workers = _fill_in(beside, variables or {}, used)
    workers.warnings += _unused(beside, workers, variables, used)
    for key, value in document.data.items():
        if key not in workers.data:
            workers.data[key] = value
            workers.sources[key] = document.source
            for place, line in document.lines.items():
                if place[0] == key:
                    workers.lines[place] = line
    workers.problems += document.problems
    return workers


def flat_text(path: Path, variables: Mapping[str, Any] | None = None) -> str:
    """The same as the text of one YAML file that needs no variables any more.

    Raises:
        ConfigError: as `document_of`.
    """
    path = _file_in(path)
    document = _read(path, variables, set())
    beside = _template_beside(path, document)
    if beside is None:
        text = read_text(path)
        if not _is_template(path, text, variables):
            return text
        return _render(path, text, variables or {}, set())
    rendered = _render(beside, read_text(beside), variables or {}, set())
    inner = parse(rendered, str(beside)).data
    outer = {
        key: value
        for key, value in document.data.items()
        if key not in inner and key not in CLOUD_KEYS
    }
    head = yaml.safe_dump(outer, sort_keys=False) if outer else ""
    return f"# Made of {path.name} and {beside.name}.\n{head}{rendered}"


def _file_in(path: Path) -> Path:
    """The configuration in a directory of an endpoint: of fxhpc, Globus Compute or funcX."""
    if not path.is_dir():
        return path
    python = path / "config.py"
    found = path / "config.yaml"
    return python if python.exists() and not found.exists() else found


def _unused(
    path: Path, document: Document, variables: Mapping[str, Any] | None, used: set[str]
) -> list[str]:
    """What was given and changes nothing: values for variables, and a template."""
    known = ", ".join(sorted(used - set(RESERVED))) or "none"
    warnings = [
        f"{document.source}: has no variable {name!r}, for which a value was given; it has: {known}"
        for name in variables or {}
        if name not in used
    ]
    if path.name == "config.yaml":
        warnings += [
            f"{path.parent / name}: is not used, since {document.source} has the engine's keys "
            f"itself"
            for name in _BESIDE
            if (path.parent / name).exists()
        ]
    return warnings


def _read(path: Path, variables: Mapping[str, Any] | None, used: set[str]) -> Document:
    text = read_text(path)
    if _is_template(path, text, variables):
        return _fill_in(path, variables or {}, used)
    return parse_all(text, str(path))


def _is_template(path: Path, text: str, variables: Mapping[str, Any] | None) -> bool:
    """A file that is YAML already is one only if there is something to fill in."""
    return (
        path.suffix == ".j2" or bool(_STATEMENT.search(text)) or (bool(variables) and "{{" in text)
    )


def _template_beside(path: Path, document: Document) -> Path | None:
    """The template that belongs to a config.yaml which says nothing about workers itself."""
    if path.suffix == ".j2" or "engine" in document.data or "provider" in document.data:
        return None
    named = document.data.get("user_config_template_path")
    if named:
        return path.parent / str(named)
    if path.name != "config.yaml":
        return None
    return next((path.parent / name for name in _BESIDE if (path.parent / name).exists()), None)


def _fill_in(path: Path, variables: Mapping[str, Any], used: set[str]) -> Document:
    text = read_text(path)
    rendered = _render(path, text, variables, used)
    same_lines = rendered.count("\n") == text.count("\n")
    return parse_all(rendered, str(path) if same_lines else f"{path} (filled in)")


def _render(path: Path, text: str, variables: Mapping[str, Any], used: set[str]) -> str:
    """A template's text with its variables filled in; notes in `used` which variables it has."""
    from fxhpc.forwarder.attach import module_environment  # here: most are no templates

    source = str(path)
    values = check_variables(path.parent / "user_config_schema.json", variables, set(RESERVED))
    made = filled(text, values, module_environment())
    if made.problem:
        raise ConfigError([problem(source, made.line, (), made.problem)])
    if made.missing:
        raise ConfigError([_no_value(source, text, name) for name in made.missing])
    used.update(made.variables)
    return made.text


def _no_value(source: str, text: str, name: str) -> str:
    found = re.search(rf"\{{[{{%].*\b{re.escape(name)}\b", text)
    line = text.count("\n", 0, found.start()) + 1 if found else 0
    return problem(
        source,
        line,
        (),
        f"the variable {name!r} has no value: write one in its place, or give it by "
        f"`--set {name}=VALUE`",
    )


def _python_config(path: Path) -> str:
    return (
        f"{path}: is Python, as funcX had it, and is not run; write the same in YAML "
        f"(`fxhpc config show slurm` prints one to begin with): Config(executors=[...]) becomes "
        f"`engine:`, SlurmProvider(...) becomes `provider: {{type: SlurmProvider, ...}}` in it, "
        f"with the same keys"
    )

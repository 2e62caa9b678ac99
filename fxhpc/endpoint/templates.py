"""Globus Compute's Jinja templates of configurations: found, filled in in a sandbox, and read."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fxhpc.endpoint.config_words import CLOUD_KEYS
from fxhpc.endpoint.template_schema import check_variables
from fxhpc.endpoint.yaml_file import Document, parse, parse_all, problem, read_text
from fxhpc.errors import ConfigError

if TYPE_CHECKING:
    import jinja2

#: Beside a config.yaml: what its workers are, by Globus Compute's names.
_BESIDE = ("user_config_template.yaml.j2", "user_config_template.yaml")
#: Variables that Globus Compute fills in by itself. Here there is nobody whom they could describe.
_RESERVED: dict[str, Any] = {
    "parent_config": {},
    "user_runtime": {},
    "mapped_identity": {},
    "_GC": {"user_runtime": {}, "parent_config": {}, "mapped_identity": {}},
}
_MAX_CHARACTERS = 2**20
_STATEMENT = re.compile(r"^\s*\{%", re.MULTILINE)


def document_of(path: Path, variables: Mapping[str, Any] | None = None) -> Document:
    """What a configuration says: a file, a template, or Globus Compute's two files.

    Raises:
        ConfigError: it cannot be read, a variable has no value, or it is no YAML.
    """
    path = _file_in(path)
    if path.suffix == ".py":
        raise ConfigError([_python_config(path)])
    document = _read(path, variables)
    beside = _template_beside(path, document)
    if beside is None:
        return document
    workers = _fill_in(beside, variables or {})
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
    document = _read(path, variables)
    beside = _template_beside(path, document)
    if beside is None:
        text = read_text(path)
        return _render(path, text, variables or {}) if _is_template(path, text, variables) else text
    rendered = _render(beside, read_text(beside), variables or {})
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


def _read(path: Path, variables: Mapping[str, Any] | None) -> Document:
    text = read_text(path)
    if _is_template(path, text, variables):
        return _fill_in(path, variables or {})
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


def _fill_in(path: Path, variables: Mapping[str, Any]) -> Document:
    text = read_text(path)
    rendered = _render(path, text, variables)
    same_lines = rendered.count("\n") == text.count("\n")
    return parse_all(rendered, str(path) if same_lines else f"{path} (filled in)")


def _render(path: Path, text: str, variables: Mapping[str, Any]) -> str:
    """A template's text with its variables filled in.

    Strings that are given come out in quotes, as with Globus Compute: `account: {{ account }}`.
    """
    import jinja2  # here: most configurations are no templates
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source = str(path)
    values = check_variables(path.parent / "user_config_schema.json", variables, set(_RESERVED))
    missing: dict[str, None] = {}
    environment = ImmutableSandboxedEnvironment(
        undefined=_noting(missing), keep_trailing_newline=True, finalize=_quoted
    )
    environment.filters["shell_escape"] = _shell_escape
    try:
        made = environment.from_string(text).render(
            {**_RESERVED, **{name: _given(value) for name, value in values.items()}}
        )
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(
            [problem(source, error.lineno, (), f"is not a template: {error.message}")]
        ) from None
    except RecursionError:
        raise ConfigError([f"{source}: the template is nested too deeply"]) from None
    except Exception as error:  # whatever the template does
        raise ConfigError(
            [f"{source}: the template fails: {error or type(error).__name__}"]
        ) from None
    if missing:
        raise ConfigError([_no_value(source, text, name) for name in missing])
    if len(made) > _MAX_CHARACTERS:
        raise ConfigError([f"{source}: the template makes more than 1 MB of text"])
    return made


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


def _noting(missing: dict[str, None]) -> type[jinja2.Undefined]:
    """What stands for variables without a value: notes their names, so that all are told."""
    import jinja2

    class Missing(jinja2.ChainableUndefined):
        __slots__ = ()

        def _note(self) -> None:
            missing[self._undefined_name or "?"] = None

        def __str__(self) -> str:
            self._note()
            return ""

        def __iter__(self) -> Any:
            self._note()
            return iter(())

        def __bool__(self) -> bool:
            self._note()
            return False

    return Missing


class _GivenText(str):
    """A string that a user gave for a variable."""


def _given(value: Any) -> Any:
    if isinstance(value, str):
        return _GivenText(value)
    if isinstance(value, Mapping):
        return {name: _given(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_given(item) for item in value]
    return value


def _quoted(value: Any) -> Any:
    """What is given comes out as YAML, which JSON is, so that no value can add keys."""
    if isinstance(value, _GivenText):
        return json.dumps(str(value))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return value


def _shell_escape(value: Any) -> Any:
    """Globus Compute's filter for text that goes into a shell script."""
    return _GivenText(shlex.quote(value)) if isinstance(value, str) else value


def _python_config(path: Path) -> str:
    return (
        f"{path}: is Python, as funcX had it, and is not run; write the same in YAML "
        f"(`fxhpc config show slurm` prints one to begin with): Config(executors=[...]) becomes "
        f"`engine:`, SlurmProvider(...) becomes `provider: {{type: SlurmProvider, ...}}` in it, "
        f"with the same keys"
    )

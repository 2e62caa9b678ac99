"""`fxhpc config`: check an endpoint's configuration, show it, print the JSON schema of all keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fxhpc.cli import output
from fxhpc.endpoint.configuration.config import EndpointConfig, config_text, load_config, template
from fxhpc.endpoint.configuration.schema import json_schema
from fxhpc.endpoint.configuration.yaml_file import parse
from fxhpc.errors import ConfigError, UsageError

_variables = click.option(
    "--set",
    "variables",
    metavar="KEY=VALUE",
    multiple=True,
    help="A value for a variable of a Jinja template; may be given several times.",
)


@click.group()
def config() -> None:
    """Check endpoint configurations, show them, print their JSON schema."""


@config.command()
@output.common_options
def schema() -> None:
    """Print the JSON schema of all keys, for editors and programs."""
    output.document(json_schema())


@config.command(short_help="Tell everything that is wrong with a configuration.")
@click.argument("file", type=click.Path(path_type=Path))
@_variables
@output.common_options
def check(file: Path, variables: tuple[str, ...]) -> None:
    """Tell everything that is wrong with a configuration; exit code 1 if there is anything."""
    problems: list[str] = []
    warnings: list[str] = []
    try:
        warnings = load_config(file, assignments(variables)).warnings
    except ConfigError as error:
        problems = error.problems
    if output.wants_json():
        output.document({"ok": not problems, "problems": problems, "warnings": warnings})
    for warning in warnings:
        output.note(f"warning: {warning}")
    for text in problems:
        output.note(text)
    if problems:
        raise click.exceptions.Exit(output.FAILED)
    output.say(f"{file}: is in order")


@config.command(short_help="Print a configuration: a file, or one to begin with.")
@click.argument("file_or_name")
@click.option("--resolved", is_flag=True, help="All keys with the values that hold.")
@_variables
@output.common_options
def show(file_or_name: str, resolved: bool, variables: tuple[str, ...]) -> None:
    """Print a configuration: a file, or local, slurm, pbs or a machine's, to begin with.

    Templates are shown filled in. With --resolved or --json all keys are shown with their values,
    those of the defaults too.
    """
    path = Path(file_or_name)
    if not path.exists() and path.suffix == "" and "/" not in file_or_name:
        text, loaded = template(file_or_name), None
        _refuse_values(file_or_name, variables)
    else:
        text = config_text(path, assignments(variables))
        loaded = load_config(path, assignments(variables))
    if not (resolved or output.wants_json()):
        for warning in loaded.warnings if loaded is not None and variables else ():
            output.note(f"warning: {warning}")
        click.echo(text, nl=not text.endswith("\n"))
        return
    if loaded is None:
        raise ConfigError([f"{file_or_name}: holds values to fill in; write it to a file first"])
    _show_values(loaded)


def _refuse_values(name: str, variables: tuple[str, ...]) -> None:
    if variables:
        raise UsageError(f"{name!r} is no template that --set could fill in; edit what is written")


def _show_values(loaded: EndpointConfig) -> None:
    values = loaded.settings.model_dump(mode="json")
    if output.wants_json():
        output.document({**values, "warnings": loaded.warnings})
        return
    for warning in loaded.warnings:
        output.note(f"warning: {warning}")
    import yaml

    click.echo(yaml.safe_dump(values, sort_keys=False), nl=False)


def assignments(texts: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE of a command line, the values read as YAML: numbers, lists, text.

    Raises:
        UsageError: one has no `=`, or a name that is none.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--set takes KEY=VALUE, not {text!r}")
        values[name] = _value(value)
    return values


def _value(text: str) -> Any:
    """A value as YAML reads it, but what comes out as text is the text itself, with `#` and all."""
    try:
        found = parse(f"value: {text}\n", "--set").data
    except ConfigError:
        return text  # no YAML
    value = found["value"] if list(found) == ["value"] else text
    is_nothing = value is None and text.strip().lower() not in ("", "~", "null")
    is_quoted = text.strip()[:1] in ("'", '"')
    return text if is_nothing or (isinstance(value, str) and not is_quoted) else value

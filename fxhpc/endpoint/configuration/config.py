"""An endpoint's configuration: its YAML read, checked and made one, with all problems at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import fxhpc
from fxhpc.endpoint.configuration.checks import Checks, expand, provider_type
from fxhpc.endpoint.configuration.engine import POOL_ENGINES, Engine, Settings
from fxhpc.endpoint.configuration.layout import Layout, lay_out
from fxhpc.endpoint.configuration.provider import Provider
from fxhpc.endpoint.configuration.templates import document_of, flat_text
from fxhpc.endpoint.configuration.yaml_file import Document
from fxhpc.errors import ConfigError
from fxhpc.site import SITE_FILE
from fxhpc.site.reading import current, host_names

__all__ = [
    "ConfigError",
    "EndpointConfig",
    "config_text",
    "load_config",
    "load_config_dict",
    "template",
]

#: Configurations to begin with, see `template`.
TEMPLATES = ("local", "slurm", "pbs")


@dataclass(frozen=True)
class EndpointConfig:
    """A configuration that holds together."""

    settings: Settings
    source: str  # the file, or what else it came from
    warnings: list[str]  # what its author should know, a line each
    layout: Layout = field(repr=False, compare=False)

    @property
    def engine(self) -> Engine:
        """How tasks are run."""
        return self.settings.engine

    @property
    def provider(self) -> Provider:
        """Who gives nodes."""
        return self.settings.engine.provider

    @property
    def provider_type(self) -> str:
        """Parsl's name of the provider: "SlurmProvider"."""
        return provider_type(self.provider)

    @property
    def display_name(self) -> str:
        """A name for people; empty: there is none but the endpoint's own."""
        return self.settings.display_name or self.settings.engine.label or ""

    @property
    def state_dir(self) -> str:
        """An absolute directory that nodes see; empty: they see the endpoint's own."""
        return expand(self.settings.state_dir or "")

    @property
    def walltime_s(self) -> float:
        """How long a block lasts, in seconds; 0: there is no limit."""
        return float(getattr(self.provider, "walltime", 0.0))

    def problem(self, path: tuple[str, ...], text: str) -> str:
        """A line about one of its values, `file:line: key.path: text`."""
        return self.layout.problem(path, text)


def load_config(
    path: str | os.PathLike[str],
    variables: Mapping[str, Any] | None = None,
    site_file: str = SITE_FILE,
) -> EndpointConfig:
    """Read an endpoint's configuration, ours or Globus Compute's in either of its layouts.

    Args:
        path: the YAML file, or a Jinja template of one (`.j2`), or a directory with `config.yaml`.
        variables: values for a template, what Globus Compute calls `user_endpoint_config`.
        site_file: what the administrators of this host have set; empty: it does not count.

    Raises:
        ConfigError: with all problems, each `file:line: key.path: what is wrong`.
    """
    return _load(document_of(Path(path), variables), site_file)


def config_text(path: str | os.PathLike[str], variables: Mapping[str, Any] | None = None) -> str:
    """The text of the one YAML file that a configuration is, or that its templates make.

    Raises:
        ConfigError: it cannot be read, or a variable has no value.
    """
    return flat_text(Path(path), variables)


def load_config_dict(
    values: Mapping[str, Any], source: str = "config", site_file: str = SITE_FILE
) -> EndpointConfig:
    """The same of a dictionary with the words of the YAML; `source` is what problems begin with.

    Raises:
        ConfigError: with all problems.
    """
    return _load(Document(source, dict(values)), site_file)


def _load(document: Document, site_file: str) -> EndpointConfig:
    site = current(site_file)
    layout = lay_out(document)
    engine = layout.data.get("engine", {})
    if engine.get("type") in POOL_ENGINES and "provider" not in engine:
        # A pool is there from the start and stays, as it does with Globus Compute.
        engine["provider"] = {"type": "LocalProvider", "init_blocks": 1, "min_blocks": 1}
    try:
        settings = Settings.model_validate(layout.data)
    except ValidationError as error:
        from fxhpc.endpoint.configuration.problems import (
            tell,  # here: most configurations are in order
        )

        tell(error, layout)
        raise ConfigError(layout.problems()) from None
    if site is not None:
        from fxhpc.endpoint.configuration.site import within  # here: most hosts have no such file

        settings = within(settings, layout, site, host_names())
    checks = Checks(settings, layout)
    if layout.found:
        raise ConfigError(layout.problems())
    warnings = [*document.warnings, *_unused(layout), *checks.warnings]
    return EndpointConfig(settings, document.source, warnings, layout)


def _unused(layout: Layout) -> list[str]:
    """A warning for all keys of Globus' cloud, one for all others without a meaning."""
    warnings = []
    source = layout.document.source
    if layout.cloud:
        # Of two files mostly both have some.
        sources = [layout.document.sources.get(key, source) for key in layout.cloud]
        warnings.append(
            f"{', '.join(dict.fromkeys(sources))}: keys for Globus' cloud, which fxhpc does not "
            f"use, are ignored: {', '.join(sorted(set(layout.cloud)))}"
        )
    if layout.idle:
        warnings.append(
            f"{source}: keys without a meaning for fxhpc are ignored: "
            f"{', '.join(sorted(set(layout.idle)))}"
        )
    return warnings


def template(kind: str) -> str:
    """A commented configuration to begin with: the text of `configs/KIND.yaml`.

    Args:
        kind: local, slurm, pbs, or the name of a machine that is there.

    Raises:
        ConfigError: there is none of this name; the text names those that are.
    """
    known = {}
    for item in _configs().iterdir():
        if item.name.endswith(".yaml"):
            known[item.name.removesuffix(".yaml")] = item
    if kind not in known:
        names = [*TEMPLATES, *sorted(set(known) - set(TEMPLATES))]
        raise ConfigError([f"there is no configuration {kind!r}; there are: {', '.join(names)}"])
    return str(known[kind].read_text(encoding="utf-8"))


def _configs() -> Any:
    """The directory of ready configurations: installed as a package, beside the package before."""
    try:
        return resources.files("fxhpc.configs")
    except ModuleNotFoundError:
        return Path(fxhpc.__file__).resolve().parent.parent / "configs"

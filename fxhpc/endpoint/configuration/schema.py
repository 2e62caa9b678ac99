"""The JSON schema of an endpoint's YAML: what editors complete and check."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from fxhpc.endpoint.configuration.engine import Address, Containers, Engine, Limits, Logs, Settings
from fxhpc.endpoint.configuration.provider import PROVIDERS, Launcher
from fxhpc.endpoint.configuration.words import (
    CLOUD_KEYS,
    ENGINE_NAMES,
    IDLE_KEYS,
    LAUNCHER_NAMES,
    PROVIDER_NAMES,
    RENAMED,
)

_STRATEGY: dict[str, Any] = {
    "description": "When to scale: a name, or as funcX has it a mapping with max_idletime.",
    "anyOf": [
        {"enum": ["none", "simple", "htex_auto_scale"]},
        {"type": "object", "properties": {"type": {"const": "SimpleStrategy"}, "max_idletime": {}}},
    ],
}
_STATUS_OPTIONS: dict[str, Any] = {
    "description": "Globus Compute's place for max_idletime and strategy.",
    "type": "object",
}


def json_schema() -> dict[str, Any]:
    """A schema (draft 2020-12) of all keys, on every level on which they may stand."""
    schema = Settings.model_json_schema()
    parts: dict[str, Any] = schema["$defs"]
    _describe(schema, Settings)
    models: list[type[BaseModel]] = [
        Engine,
        Launcher,
        Address,
        Containers,
        Limits,
        Logs,
        *PROVIDERS,
    ]
    for model in models:
        _describe(parts[model.__name__], model)
    engine = parts["Engine"]["properties"]
    kinds = {kind.__name__: parts[kind.__name__]["properties"] for kind in PROVIDERS}
    top = dict(schema["properties"])
    shared = {key: value for key, value in engine.items() if key not in ("type", "provider")}
    shared["strategy"] = _STRATEGY
    shared["address"] = {
        "description": shared["address"]["description"],
        "anyOf": [{"type": "string"}, _without_description(shared["address"])],
    }
    shared["job_status_kwargs"] = _STATUS_OPTIONS
    for old, new in RENAMED.items():
        shared[old] = {**shared[new], "description": f"An old name of {new}."}
    by_provider = _provider_keys(kinds)
    ignored = {
        **{key: {"description": "Ignored: without a meaning here."} for key in sorted(IDLE_KEYS)},
        **{key: {"description": "Ignored: for Globus' cloud."} for key in sorted(CLOUD_KEYS)},
    }
    above = {key: value for key, value in top.items() if key != "engine"}
    engine["provider"].pop("discriminator", None)
    provider = _or_a_name(engine["provider"], PROVIDER_NAMES)
    everywhere = {**ignored, **by_provider, **shared, **above}
    schema["properties"] = {
        **everywhere,
        "engine": _or_a_name(top["engine"], ENGINE_NAMES),
        "provider": provider,
    }
    parts["Engine"]["properties"] = {
        **everywhere,
        "type": engine["type"],
        "provider": provider,
    }
    for name, properties in kinds.items():
        properties["type"] = _names_of(properties["type"])
        parts[name]["required"] = sorted({*parts[name].get("required", []), "type"})
        for key, value in {**ignored, **shared}.items():
            properties.setdefault(key, value)
    parts["Launcher"] = _or_a_name(parts["Launcher"], LAUNCHER_NAMES)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "An endpoint of fxhpc"
    schema["description"] = "An endpoint's YAML: who gives nodes, how tasks run, when to scale."
    return schema


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Give a model's keys the texts that stand below them in its class, or in one that it has them
    from.

    Pydantic can do so itself, but when the class is made, which would cost every command 0.3 s.
    """
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in pairwise(tree.body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and field.target.id in schema["properties"]
            ):
                schema["properties"][field.target.id]["description"] = text.value.value


def _names_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The type of a provider, in all the ways in which it may be written."""
    full = schema.get("enum") or [schema["const"]]
    short = [name for name, long in PROVIDER_NAMES.items() if long in full]
    return {"enum": [*full, *short], "description": schema.get("description", "")}


def _provider_keys(kinds: dict[str, Any]) -> dict[str, Any]:
    """The keys of all providers, which may also stand on the levels above."""
    found: dict[str, Any] = {}
    for properties in kinds.values():
        for key, value in properties.items():
            if key != "type":
                found.setdefault(key, value)
    return found


def _or_a_name(schema: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A mapping, or short its type."""
    return {
        "description": schema.get("description", ""),
        "anyOf": [{"enum": sorted({*names, *names.values()})}, _without_description(schema)],
    }


def _without_description(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("default", "description")}

"""Checks the values for a template against the JSON schema that Globus Compute keeps beside it.

The part of JSON Schema that such files use: types, enums, required and further properties, limits
of numbers and lengths, patterns, defaults. What else a schema says is not checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxhpc.errors import ConfigError

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}


def check_variables(path: Path, variables: Mapping[str, Any], reserved: set[str]) -> dict[str, Any]:
    """The variables, with the schema's defaults for those that were not given.

    Raises:
        ConfigError: what does not fit, all of it; or the schema is no JSON.
    """
    problems = [
        f"the variable {name!r} is reserved, and cannot be given"
        for name in variables
        if name in reserved
    ]
    try:
        schema = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: is no JSON schema: {error}"]) from None
    if not isinstance(schema, dict):
        raise ConfigError([f"{path}: is no JSON schema: it must be an object"])
    properties = schema.get("properties") or {}
    values = {
        name: part["default"]
        for name, part in properties.items()
        if isinstance(part, dict) and "default" in part
    }
    values.update(variables)
    problems += [
        f"{path}: the variable {name!r} is required: give it by `--set {name}=VALUE`"
        for name in schema.get("required", [])
        if name not in values
    ]
    for name, value in variables.items():
        if name in properties:
            problems += [
                f"{path}: the variable {name!r} {text}" for text in _faults(properties[name], value)
            ]
        elif schema.get("additionalProperties") is False:
            known = ", ".join(properties) or "none"
            problems.append(f"{path}: there is no variable {name!r}; there are: {known}")
    if problems:
        raise ConfigError(problems)
    return values


def _faults(schema: Any, value: Any) -> list[str]:
    if not isinstance(schema, dict):
        return []
    faults = []
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_a(value, kind) for kind in kinds):
        return [f"must be of type {' or '.join(kinds)}, not {value!r}"]
    if "enum" in schema and value not in schema["enum"]:
        faults.append(f"must be one of {schema['enum']}, not {value!r}")
    if "const" in schema and value != schema["const"]:
        faults.append(f"must be {schema['const']!r}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            faults.append(f"must be {schema['minimum']} or more")
        if value > schema.get("maximum", value):
            faults.append(f"must be {schema['maximum']} or less")
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)):
            faults.append(f"must have {schema['maxLength']} characters at most")
        if len(value) < schema.get("minLength", 0):
            faults.append(f"must have {schema['minLength']} characters at least")
        if "pattern" in schema and not re.search(str(schema["pattern"]), value):
            faults.append(f"must match {schema['pattern']!r}")
    if isinstance(value, list) and "items" in schema:
        for item in value:
            faults += _faults(schema["items"], item)
    return faults


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES.get(kind, (object,)))

"""Says in words what pydantic found wrong with a configuration, and where it was written."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fxhpc.durations import EXAMPLES
from fxhpc.endpoint.configuration.engine import Address, Containers, Engine, Limits, Logs, Settings
from fxhpc.endpoint.configuration.layout import Layout, did_you_mean
from fxhpc.endpoint.configuration.provider import PROVIDERS, Launcher, Model, Provider
from fxhpc.endpoint.configuration.quantities import Duration
from fxhpc.endpoint.configuration.yaml_file import KeyPath
from fxhpc.units import format_duration

#: Provider classes by the names that choose them.
_BY_TYPE: dict[str, type[Provider]] = {
    name: kind for kind in PROVIDERS for name in get_args(kind.model_fields["type"].annotation)
}
_MODELS: dict[str, Any] = {
    "engine": Engine,
    "launcher": Launcher,
    "limits": Limits,
    "containers": Containers,
    "logs": Logs,
    "address": Address,
}
_DURATION = get_args(Duration)[1]
_WITH_DURATIONS: tuple[type[Model], ...] = (Settings, Engine, *PROVIDERS)
#: Keys that are durations, and have limits.
_DURATIONS = frozenset(
    name
    for model in _WITH_DURATIONS
    for name, key in model.model_fields.items()
    if _DURATION in key.metadata
)


def tell(error: ValidationError, layout: Layout) -> None:
    """Add each thing that is wrong to what the layout knows already."""
    for detail in error.errors():
        path = _plain_path(detail["loc"], layout)
        layout.wrong(layout.where(path), _words(detail, path, layout))


def _plain_path(loc: tuple[str | int, ...], layout: Layout) -> KeyPath:
    """Pydantic's location without the names of the alternatives that it has chosen."""
    path: list[str | int] = []
    for part in loc:
        if path[-1:] == ["provider"] and part in _BY_TYPE:
            continue
        if path[-1:] == ["address"] and part in ("mapping", "list"):
            continue
        path.append(part)
    if path[:2] == ["engine", "address"] and not isinstance(
        layout.document.data.get("address", []), list
    ):
        path = path[:2] if path[2:3] == [0] else path
    return tuple(path)


def _words(detail: ErrorDetails, path: KeyPath, layout: Layout) -> str:
    kind, given = detail["type"], detail["input"]
    context: dict[str, Any] = detail.get("ctx") or {}
    shown = f", not {_show(given)}"
    if kind == "extra_forbidden":
        return _no_such_key(path, layout)
    if (kind == "missing" and isinstance(path[-1], int)) or kind in ("too_short", "too_long"):
        return f"must be two numbers, such as [54000, 55000]{shown}"
    if kind == "missing":
        return "is missing"
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", detail["msg"]))
    if kind == "literal_error":
        known = [word.strip("' ") for word in context["expected"].replace(" or ", ", ").split(", ")]
        return f"{given!r} is none of: {', '.join(known)}{did_you_mean(str(given), known)}"
    limits = {
        "greater_than_equal": ("must be {ge} or more", "ge"),
        "greater_than": ("must be more than {gt}", "gt"),
        "less_than_equal": ("must be {le} or less", "le"),
        "less_than": ("must be less than {lt}", "lt"),
    }
    if kind in limits:
        text, name = limits[kind]
        if path and path[-1] in _DURATIONS:
            given = format_duration(float(given))
            return (
                text.format(**{name: format_duration(context[name])})
                + f", not {given} (a plain number is seconds; {EXAMPLES})"
            )
        return text.format(**{name: f"{context[name]:,.6g}"}) + shown
    if kind == "finite_number":
        return f"must be a finite number{shown}"
    if kind.startswith("int"):
        return f"must be a whole number{shown}"
    if kind.startswith("float"):
        return f"must be a number{shown}"
    if kind.startswith("bool"):
        return f"must be true or false{shown}"
    if kind.startswith("string"):
        return f"must be text{shown}"
    if kind in ("list_type", "tuple_type"):
        return f"must be a list, such as [a, b]{shown}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be keys with values, `key: value`{shown}"
    return f"{detail['msg']}{shown}"


def _no_such_key(path: KeyPath, layout: Layout) -> str:
    key, above = str(path[-1]), path[:-1]
    if above == ("engine", "provider"):
        name = str(layout.data["engine"]["provider"].get("type", "LocalProvider"))
        known = sorted(_BY_TYPE[name].model_fields)
        if not layout.has("engine", "provider", "type"):
            return "belongs to a batch system, and none is named: add `provider: {type: ...}`"
        return f"{name} has no key {key!r}{did_you_mean(key, known)}"
    model = _MODELS.get(str(above[-1]) if above else "", Settings)
    return f"there is no such key{did_you_mean(key, sorted(model.model_fields))}"


def _show(value: Any) -> str:
    text = repr(getattr(value, "text", value))
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Brings all the ways in which an endpoint's YAML is laid out into one: engine, in it the provider.

Globus Compute has its keys on three levels. Here a key may stand on any of them; whatever is said
about it later names the place where it was written.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from fxhpc.endpoint.configuration.engine import MPI_ENGINES, POOL_ENGINES, Engine, Settings
from fxhpc.endpoint.configuration.provider import PROVIDERS, BatchProvider
from fxhpc.endpoint.configuration.words import (
    CLOUD_KEYS,
    ENGINE_NAMES,
    IDLE_KEYS,
    LAUNCHER_NAMES,
    MEANT,
    PROVIDER_NAMES,
    RENAMED,
    full_name,
)
from fxhpc.endpoint.configuration.yaml_file import Document, KeyPath, show_path

_TOP_KEYS = frozenset(Settings.model_fields) - {"engine"}
_ENGINE_KEYS = frozenset(Engine.model_fields) - {"provider", "type"}
_PROVIDER_KEYS = frozenset(key for kind in PROVIDERS for key in kind.model_fields) - {"type"}
#: Where the keys of each level are in the one layout.
_TOP: KeyPath = ()
_ENGINE: KeyPath = ("engine",)
_PROVIDER: KeyPath = ("engine", "provider")
_HOMES = {
    **dict.fromkeys(_TOP_KEYS, _TOP),
    **dict.fromkeys(_PROVIDER_KEYS, _PROVIDER),
    **dict.fromkeys(_ENGINE_KEYS, _ENGINE),
}
_TAKEN_APART = frozenset({"strategy", "job_status_kwargs"})
_ALL_KEYS = sorted({*_HOMES, *_TAKEN_APART, "engine", "provider", "type"})
_STRATEGY_KEYS = ("max_idletime", "interval", "threshold", "strategy_period")
#: Given on two levels these do not contradict: Globus' top level speaks of its cloud.
_INNER_WINS = frozenset({"heartbeat_period", "heartbeat_threshold", "label"})


@dataclass
class Layout:
    """A configuration in the one layout, and where each of its values was written."""

    document: Document
    data: dict[str, Any] = field(default_factory=dict)
    written: dict[KeyPath, KeyPath] = field(default_factory=dict)
    found: list[tuple[int, str]] = field(default_factory=list)  # what is wrong, and its line
    replaced: set[KeyPath] = field(default_factory=set)  # placeholders that were told of
    cloud: list[str] = field(default_factory=list)  # keys of Globus' cloud that it had
    idle: list[str] = field(default_factory=list)  # keys without a meaning here that it had

    def where(self, path: KeyPath) -> KeyPath:
        """Where a value of the one layout was written, or would have been."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.written:
                return self.written[path[:length]] + path[length:]
        if path[:2] == _PROVIDER and "provider" in self.document.data:
            return path[1:]
        if path[:1] == _ENGINE and "engine" not in self.document.data:
            return path[1:]
        return path

    def problem(self, path: KeyPath, text: str) -> str:
        """A line about a value of the one layout, at the place where it was written."""
        return self.document.problem(self.where(path), text)

    def has(self, *path: str) -> bool:
        """Whether a value was given."""
        return path in self.written

    def wrong(self, written: KeyPath, text: str) -> None:
        """Note what is wrong at a place of the file; of a placeholder one note is enough."""
        if written in self.replaced:
            return
        self.found.append((self.document.line_of(written), self.document.problem(written, text)))

    def problems(self) -> list[str]:
        """What is wrong, in the order of the file."""
        return list(dict.fromkeys(text for _, text in sorted(self.found, key=lambda one: one[0])))


def lay_out(document: Document) -> Layout:
    """Bring a file into the one layout; what is wrong on the way it knows."""
    layout = Layout(document, found=list(document.problems))
    data = dict(document.data)
    for path, name in document.placeholders.items():
        by_set = f", or give it by `--set {name}=VALUE`" if name.isidentifier() else ""
        layout.wrong(
            path, f"'{{{{ {name} }}}}' is to be replaced: write your own value there{by_set}"
        )
        layout.replaced.add(path)
        _remove(data, path)
    engine = _section(layout, data.pop("engine", None), ("engine",), "GlobusComputeEngine")
    outer = _section(layout, data.pop("provider", None), ("provider",), "SlurmProvider")
    inner_path: KeyPath = ("engine", "provider")
    inner = _section(layout, engine.pop("provider", None), inner_path, "SlurmProvider")
    for values, written, level in (
        (inner, inner_path, _PROVIDER),
        (outer, ("provider",), _PROVIDER),
        (engine, ("engine",), _ENGINE),
        (data, (), _TOP),
    ):
        for key, value in values.items():
            _place(layout, key, value, (*written, key), level)
    _name_types(layout)
    return layout


def _section(layout: Layout, value: Any, path: KeyPath, example: str) -> dict[str, Any]:
    """A level's keys; a plain word is its type."""
    if value is None:
        return {}
    if isinstance(value, str):
        place = (*path, "type")
        layout.document.lines[place] = layout.document.line_of(path)
        return {"type": value}
    if isinstance(value, dict):
        return dict(value)
    layout.wrong(path, f"must be keys with values, at least `type: {example}`")
    return {}


def _place(layout: Layout, key: str, value: Any, written: KeyPath, level: KeyPath) -> None:
    """Put a key where it belongs."""
    if value is None:
        return  # nothing was said: the default holds
    key = RENAMED.get(key, key)
    if key in CLOUD_KEYS and level != _PROVIDER:
        if value not in (0, False) or key not in ("idle_heartbeats_soft", "idle_heartbeats_hard"):
            layout.cloud.append(key)
        return
    if key in _TAKEN_APART:
        _place_strategy(layout, key, value, written)
        return
    if key == "type" and level != _TOP:
        _put(layout, (*level, "type"), value, written)
        return
    home = _HOMES.get(key)
    if home is None:
        if key in IDLE_KEYS:
            layout.idle.append(show_path(written))
        elif level == _PROVIDER and _is_passed_through(layout):
            _put(layout, (*_PROVIDER, key), value, written)
        else:
            layout.wrong(written, f"there is no such key{_did_you_mean(key, _ALL_KEYS)}")
        return
    if key == "launcher":
        value = _launcher(layout, value, written)
    elif key == "address" and isinstance(value, str):
        value = [value]
    elif key == "max_workers_per_node" and value in (float("inf"), "inf"):
        return
    elif key == "strategy":
        value = str(value).lower()
    _put(layout, (*home, key), value, written)


def _is_passed_through(layout: Layout) -> bool:
    value = layout.data.get("engine", {}).get("provider", {}).get("type")
    name = full_name(str(value), PROVIDER_NAMES, "provider") if value else None
    return name in ("AWSProvider", "AzureProvider", "GoogleCloudProvider")


def _put(layout: Layout, path: KeyPath, value: Any, written: KeyPath) -> None:
    target = layout.data
    for part in path[:-1]:
        target = target.setdefault(str(part), {})
    key = str(path[-1])
    if path in layout.written:
        if target[key] != value and key not in _INNER_WINS:
            other = layout.written[path]
            line = layout.document.line_of(other)
            layout.wrong(
                written,
                f"is given by {show_path(other)}{f' on line {line}' if line else ''} too, with "
                f"another value; keep one of them",
            )
        return
    target[key] = value
    layout.written[path] = written


def _place_strategy(layout: Layout, key: str, value: Any, written: KeyPath) -> None:
    """`strategy` and `job_status_kwargs`, in the forms of funcX, Parsl and Globus Compute."""
    if isinstance(value, str) and key == "strategy":
        _put(layout, ("engine", "strategy"), value.lower(), written)
        return
    if not isinstance(value, dict):
        example = "`max_idletime: 120`" if key == "job_status_kwargs" else "`strategy: simple`"
        layout.wrong(written, f"must be keys with values, such as {example}")
        return
    for part, given in value.items():
        place = (*written, part)
        if given is None:
            continue
        if part == "max_idletime":
            _put(layout, ("engine", "max_idletime"), given, place)
        elif part == "strategy" and key == "job_status_kwargs":
            _put(layout, ("engine", "strategy"), str(given).lower(), place)
        elif part == "type" and key == "strategy":
            if given not in ("SimpleStrategy", "KubeSimpleStrategy"):
                layout.wrong(place, f"{given!r} is no strategy; there are none, simple and "
                             f"htex_auto_scale, written `strategy: simple`")  # fmt: skip
        elif part in _STRATEGY_KEYS:
            layout.idle.append(show_path(place))
        else:
            layout.wrong(place, f"there is no such key{_did_you_mean(part, _STRATEGY_KEYS)}")


def _launcher(layout: Layout, value: Any, written: KeyPath) -> Any:
    """A launcher as a mapping with its full name, however it is written."""
    if isinstance(value, str):
        place = (*written, "type")
        layout.document.lines[place] = layout.document.line_of(written)
        value = {"type": value}
    if not isinstance(value, dict):
        return value
    launcher = {key: given for key, given in value.items() if given is not None}
    name = launcher.get("type")
    if isinstance(name, str):
        launcher["type"] = full_name(name, LAUNCHER_NAMES, "launcher") or name
    return launcher


def _name_types(layout: Layout) -> None:
    """Full names for the engine and the provider; unknown ones are told and left out."""
    engine = layout.data.setdefault("engine", {})
    _name_type(layout, engine, ("engine",), ENGINE_NAMES, "engine")
    provider = engine.get("provider")
    if not provider:
        return
    if "type" not in provider:
        if any(path[:1] == ("provider",) or path[:2] == _PROVIDER for path in _given(layout)):
            layout.wrong(
                layout.where(_PROVIDER),
                "`type` is missing: SlurmProvider, PBSProProvider, TorqueProvider, LocalProvider, "
                "...",
            )
            _guess_provider(provider, "")
        else:  # its keys stand elsewhere, `walltime` on the top level
            provider["type"] = "LocalProvider"
        return
    written = str(provider["type"])
    if not _name_type(layout, provider, _PROVIDER, PROVIDER_NAMES, "provider"):
        _guess_provider(provider, written)


def _guess_provider(provider: dict[str, Any], written: str) -> None:
    """Take a provider for the one that was meant, so that its keys are checked too.

    If nobody can say which was meant, only the keys that batch systems share are.
    """
    meant = meant_by(written, sorted(set(PROVIDER_NAMES.values()))) if written else ""
    if not meant:
        for key in set(provider) - set(BatchProvider.model_fields):
            provider.pop(key)
    provider["type"] = meant or "SlurmProvider"


def _given(layout: Layout) -> list[KeyPath]:
    return [written for path, written in layout.written.items() if path[:2] == _PROVIDER]


def _name_type(
    layout: Layout, section: dict[str, Any], path: KeyPath, names: dict[str, str], kind: str
) -> bool:
    written = section.get("type")
    if written is None:
        return True
    name = full_name(str(written), names, kind)
    if name is not None:
        section["type"] = name
        return True
    section.pop("type")
    known = sorted(set(names.values()))
    text = f"{written!r} is no {kind}{_did_you_mean(str(written), known)}"
    if str(written).startswith("Cobalt"):
        text = "Parsl has no CobaltProvider any more"
    layout.wrong(layout.where((*path, "type")), f"{text}; there are: {', '.join(known)}")
    return False


def _remove(data: dict[str, Any], path: KeyPath) -> None:
    """Take a value out, so that its placeholder is told once."""
    target: Any = data
    for part in path[:-1]:
        target = target[part]
    if path:
        target[path[-1]] = None


def did_you_mean(written: str, known: list[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    meant = meant_by(written, known)
    return f" (did you mean {meant!r}?)" if meant else ""


def meant_by(written: str, known: list[str]) -> str:
    """The one of these that somebody meant who wrote this; empty: it is like none."""
    meant = MEANT.get(written, "")
    if meant in known:
        return meant
    short, whole = {_plain(name): name for name in known}, {name.lower(): name for name in known}
    if close := difflib.get_close_matches(_plain(written), short, 1, 0.6):
        return short[close[0]]
    close = difflib.get_close_matches(written.lower(), whole, 1, 0.85)
    return whole[close[0]] if close else ""


def _plain(word: str) -> str:
    """A word without what people leave out, or write otherwise."""
    word = word.lower().replace("-", "").replace("_", "").replace(" ", "")
    for ending in ("provider", "launcher", "engine"):
        word = word.removesuffix(ending) or word
    return word


def _did_you_mean(written: str, known: Any) -> str:
    return did_you_mean(str(written), list(known))


__all__ = ["MPI_ENGINES", "POOL_ENGINES", "Layout", "did_you_mean", "lay_out"]

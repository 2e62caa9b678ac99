"""Keeps a configuration within what the administrators of this host have set for all users.

What the user has chosen beyond it is refused; what is nobody's choice is lowered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fxhpc.endpoint.configuration.engine import Settings
from fxhpc.endpoint.configuration.layout import Layout
from fxhpc.endpoint.configuration.provider import ONE_NODE_LAUNCHERS, LocalProvider
from fxhpc.endpoint.configuration.yaml_file import KeyPath
from fxhpc.site.rules import Site, login_limit, login_refusal
from fxhpc.units import format_duration

_PROVIDER: KeyPath = ("engine", "provider")
_WORKERS: KeyPath = ("engine", "max_workers_per_node")


def within(settings: Settings, layout: Layout, site: Site, hosts: Sequence[str]) -> Settings:
    """The settings within a site's limits; the layout is told what is beyond them.

    Args:
        hosts: the names of this host.
    """
    limits, provider = site.endpoints, settings.engine.provider

    def refuse(path: KeyPath, text: str, key: str) -> None:
        layout.wrong(layout.where(path), f"{text} {site.because(f'endpoints.{key}')}")

    for name, most in (
        ("nodes_per_block", limits.max_nodes_per_block),
        ("max_blocks", limits.max_blocks),
    ):
        value = getattr(provider, name)
        if most is not None and value > most:
            key = name if name.startswith("max_") else f"max_{name}"
            refuse((*_PROVIDER, name), f"{value} is above {most}, the most here", key)
    nodes = provider.max_blocks * provider.nodes_per_block
    if limits.max_nodes is not None and nodes > limits.max_nodes:
        refuse(
            (*_PROVIDER, "max_blocks"),
            f"{provider.max_blocks} blocks of {provider.nodes_per_block} nodes are {nodes} nodes, "
            f"above {limits.max_nodes}, the most here",
            "max_nodes",
        )
    workers, where = settings.engine.max_workers_per_node, "endpoints.max_workers_per_node"
    most_workers = limits.max_workers_per_node
    if isinstance(provider, LocalProvider) and _is_one_node(provider):
        at_login = login_limit(site, hosts)
        if at_login == 0:
            layout.wrong(layout.where((*_PROVIDER, "type")), login_refusal(site))
            return settings
        if at_login is not None:
            share = at_login // provider.max_blocks
            if not share:
                text = f"{provider.max_blocks} blocks need as many workers, and this login node"
                because = site.because("login_nodes.max_workers")
                path = layout.where((*_PROVIDER, "max_blocks"))
                layout.wrong(path, f"{text} has {at_login} for an endpoint {because}")
                return settings
            if most_workers is None or share < most_workers:
                most_workers, where = share, "login_nodes.max_workers"
    if most_workers is not None and workers is not None and workers > most_workers:
        because = site.because(where)
        layout.wrong(
            layout.where(_WORKERS), f"{workers} is above {most_workers}, the most here {because}"
        )
    if settings.poll_interval < limits.poll_s and layout.has("poll_interval"):
        refuse(
            ("poll_interval",),
            f"{format_duration(settings.poll_interval)} is shorter than "
            f"{format_duration(limits.poll_s)}, the shortest here",
            "poll_interval",
        )
    return _lowered(settings, most_workers, limits.poll_s)


def _is_one_node(provider: LocalProvider) -> bool:
    """Whether its blocks are on this host alone."""
    return provider.launcher is None or provider.launcher.type in ONE_NODE_LAUNCHERS


def _lowered(settings: Settings, workers: int | None, poll_s: float) -> Settings:
    changes: dict[str, Any] = {}
    if workers is not None and settings.engine.max_workers_per_node is None:
        engine = settings.engine.model_copy(update={"max_workers_per_node": workers})
        changes["engine"] = engine
    if poll_s > settings.poll_interval:
        changes["poll_interval"] = poll_s
    return settings.model_copy(update=changes) if changes else settings

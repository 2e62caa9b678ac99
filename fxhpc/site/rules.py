"""What a site file may say, and what follows from it for a host: plain values. No I/O."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]


class Endpoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of each endpoint. None: there is none."""

    max_workers_per_node: Count | None = None
    max_nodes_per_block: Count | None = None
    max_blocks: Count | None = None
    max_nodes: Count | None = None  # in all blocks together
    poll_interval: str | None = None  # between two status commands, at least: a duration
    poll_s: float = 0.0  # the same in seconds; `reading` sets it


class LoginNodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hosts that many people share, and what may run there."""

    hosts: list[str] = []  # as shells match names
    max_workers: Annotated[int, msgspec.Meta(ge=0)] | None = None  # of a process; 0: none


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A site file.

    Attributes:
        lines: where each key stands, `endpoints.max_blocks`: counted from 1.
    """

    message: str = ""
    contact: str = ""  # who may be asked
    endpoints: Endpoints = Endpoints()
    login_nodes: LoginNodes = LoginNodes()
    access_from_outside: Literal["allow", "refuse"] = "allow"
    source: str = ""
    lines: dict[str, int] = {}

    def where(self, key: str) -> str:
        """The place of a key, for people: `/etc/fxhpc/site.yaml:7`."""
        line = self.lines.get(key, 0)
        return f"{self.source}:{line}" if line else self.source

    def because(self, key: str) -> str:
        """The end of a sentence that refuses something: who has said so, and who may be asked."""
        asked = f"; ask {self.contact}" if self.contact else ""
        return f"(the administrators of this host have set it in {self.where(key)}{asked})"


def login_limit(site: Site, hosts: Sequence[str]) -> int | None:
    """Workers that a process may have on a host of these names; None: as many as it likes."""
    patterns = site.login_nodes.hosts
    if any(fnmatch.fnmatchcase(host, pattern) for host in hosts for pattern in patterns):
        return site.login_nodes.max_workers
    return None


def login_refusal(site: Site) -> str:
    """Why nothing runs on a login node, and what may be done: two sentences."""
    return (
        f"No tasks run on this login node {site.because('login_nodes.max_workers')}. Use an "
        f"endpoint of the batch system (fxhpc endpoint configure NAME --from slurm), or work "
        f"inside a job."
    )


def limits_in_words(site: Site) -> list[tuple[str, str]]:
    """All that it limits: key and value."""
    found: list[tuple[str, str]] = []
    for key in Endpoints.__struct_fields__[:-1]:
        value = getattr(site.endpoints, key)
        if value is not None:
            found.append((f"endpoints.{key}", str(value)))
    most = site.login_nodes.max_workers
    if site.login_nodes.hosts and most is not None:
        found.append(("login_nodes.max_workers", f"{most} on {', '.join(site.login_nodes.hosts)}"))
    if site.access_from_outside == "refuse":
        found.append(("access_from_outside", "refuse"))
    return found

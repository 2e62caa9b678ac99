"""All that is looked at, topic by topic."""

from __future__ import annotations

from fxhpc.doctor import leftovers, limits, network, places, site, versions
from fxhpc.doctor.apart import Look, look_apart
from fxhpc.endpoint.check import Finding
from fxhpc.forwarder.home import Home

#: Seconds for everything together.
LIMIT_S = 4.0


def topics(home: Home) -> dict[str, Look]:
    """What looks at what, for a home."""
    return {
        "versions": versions.look,
        "processes": lambda: versions.look_at_processes(home),
        "home": lambda: places.look_at_home(home),
        "/tmp": places.look_at_tmp,
        "state_dir": lambda: places.look_at_states(home),
        "quota": places.look_at_quota,
        "store": lambda: leftovers.look_at_store(home),
        "keys": lambda: leftovers.look_at_keys(home),
        "leftovers": lambda: leftovers.look_at_leftovers(home),
        "limits": limits.look,
        "ports": network.look_at_ports,
        "endpoints' addresses": lambda: network.look_at_endpoints(home),
        "batch system": network.look_at_batch_system,
        "site file": site.look,
    }


def examine(home: Home, limit_s: float = LIMIT_S) -> list[Finding]:
    """Look at everything, in the order of `topics`."""
    found = look_apart(topics(home), limit_s)
    return [finding for findings in found.values() for finding in findings]

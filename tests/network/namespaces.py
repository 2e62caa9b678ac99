"""A small network of namespaces: a hub, nodes around it, and ways to cut them off. Needs root.

The hub has a bridge with the address 10.200.0.1, each node one of its own behind a pair of virtual
interfaces. A pair whose bridge's side is down swallows everything silently, as a node does that has
lost its power: no reset, no end of a connection. Unix sockets do not mind namespaces: a client of
the test's own namespace speaks to an interchange in the hub.

Names begin with `fxn-` and the pid of the process that made them, so that whoever starts next can
remove what a killed one has left.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

HUB_ADDRESS = "10.200.0.1"

_CLONE_NEWNET = 0x40000000
_NAMES = Path("/run/netns")
_LIBC = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> str:
    """What `ip` says."""
    return _run("ip", *arguments)


def sweep() -> None:
    """Remove the namespaces of processes that have ended."""
    for path in _NAMES.glob("fxn-*"):
        owner = re.match(r"fxn-(\d+)-", path.name)
        if owner and not Path("/proc", owner[1]).exists():
            with contextlib.suppress(subprocess.CalledProcessError):  # another has been faster
                ip("netns", "delete", path.name)


class Network:
    """A hub and its nodes, numbered from 0."""

    def __init__(self, nodes: int) -> None:
        sweep()
        self._prefix = f"fxn-{os.getpid()}-{secrets.token_hex(3)}"
        self.hub = f"{self._prefix}-hub"
        self.nodes = [f"{self._prefix}-{number}" for number in range(nodes)]
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        ip("netns", "add", self.hub)
        ip("-n", self.hub, "link", "set", "lo", "up")
        ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.hub, "address", "add", f"{HUB_ADDRESS}/24", "dev", "bridge")
        ip("-n", self.hub, "link", "set", "bridge", "up")
        for number, node in enumerate(self.nodes):
            ip("netns", "add", node)
            pair = ("peer", "name", "eth0", "netns", node)
            ip("-n", self.hub, "link", "add", f"to{number}", "type", "veth", *pair)
            ip("-n", self.hub, "link", "set", f"to{number}", "master", "bridge")
            ip("-n", self.hub, "link", "set", f"to{number}", "up")
            ip("-n", node, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            ip("-n", node, "link", "set", "lo", "up")
            ip("-n", node, "link", "set", "eth0", "up")

    def address(self, node: int) -> str:
        """A node's."""
        return f"10.200.0.{10 + node}"

    @contextlib.contextmanager
    def inside(self, namespace: str) -> Iterator[None]:
        """What this thread starts in here, it starts in that namespace."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        other = os.open(_NAMES / namespace, os.O_RDONLY)
        try:
            _enter(other)
            yield
        finally:
            _enter(own)
            os.close(own)
            os.close(other)

    # --- faults ---------------------------------------------------------------------------------

    def cut(self, node: int) -> None:
        """Nothing goes through any more, in either direction, and nobody is told."""
        ip("-n", self.hub, "link", "set", f"to{node}", "down")

    def mend(self, node: int) -> None:
        """The node's cable is plugged in again."""
        ip("-n", self.hub, "link", "set", f"to{node}", "up")

    def deafen_hub(self, node: int) -> None:
        """What the node says does not arrive; it hears all."""
        self._drop(self.hub, f"ip saddr {self.address(node)} drop")

    def deafen_node(self, node: int) -> None:
        """The node hears nothing; what it says arrives."""
        self._drop(self.nodes[node], f"ip saddr {HUB_ADDRESS} drop")

    def _drop(self, namespace: str, rule: str) -> None:
        chain = f"chain cut {{\ntype filter hook input priority 0\n{rule}\n}}"
        _run("ip", "netns", "exec", namespace, "nft", f"table inet cut {{\n{chain}\n}}")

    def hear(self, node: int) -> None:
        """Both sides hear each other again."""
        for namespace in (self.hub, self.nodes[node]):
            with contextlib.suppress(subprocess.CalledProcessError):  # it was not deaf
                _run("ip", "netns", "exec", namespace, "nft", "delete table inet cut")

    def slow(self, node: int, rate: str) -> None:
        """What the node sends goes no faster than this, such as `1mbit`."""
        shape = ("tbf", "rate", rate, "burst", "16kb", "latency", "200ms")
        _run("tc", "-n", self.nodes[node], "qdisc", "replace", "dev", "eth0", "root", *shape)

    def slow_towards(self, node: int, rate: str) -> None:
        """What is sent to the node goes no faster than this."""
        shape = ("tbf", "rate", rate, "burst", "16kb", "latency", "200ms")
        _run("tc", "-n", self.hub, "qdisc", "replace", "dev", f"to{node}", "root", *shape)

    def connections(self, node: int) -> int:
        """How many connections the node has opened since it is there."""
        text = (_run("ip", "netns", "exec", self.nodes[node], "cat", "/proc/net/snmp")).splitlines()
        names, values = [line.split() for line in text if line.startswith("Tcp:")]
        return int(values[names.index("ActiveOpens")])

    def close(self) -> None:
        """Remove all of it, the interfaces too."""
        for namespace in (self.hub, *self.nodes):
            if (_NAMES / namespace).exists():
                ip("netns", "delete", namespace)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout

"""Hostile and garbled messages on each link, into the real cores: nobody falls over.

Some hundreds for each link in every run; 100,000 for each with `pytest -m load`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fxhpc.forwarder import events as fev
from fxhpc.interchange import events as iev
from fxhpc.manager import events as mev
from fxhpc.protocol import codec, messages, pool, provision, service
from fxhpc.testing.cluster import NAMED_ENDPOINT, NAMED_KEY, Cluster
from tests.faults.figures import record_figure
from tests.security.hostile import Hostile, decodes, encoded

BODY = b"a function"
DIGEST = bytes.fromhex("b4a0ea5ae3b7b4a8b4f2e1fd3d6b1aef2a0b8bd6e5e5f5f1ee2b84d0bd58e6c2")
STREAM = b"a stream of."

Feed = Callable[[Any], None]


class Target:
    """A cluster at work, and ways to let one of its processes hear something."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.client = self.cluster.new_client()
        self.node = self.cluster.new_node(None)
        self.cluster.settle()
        self.client.call(lambda number: service.PutBody(number, DIGEST, BODY))
        info = messages.StreamInfo(STREAM, NAMED_ENDPOINT, DIGEST, retries=2)
        self.client.submit([service.Submission(info, 0, [b"arguments"] * 6)])
        self.cluster.settle()
        for number in list(self.node.workers):
            self.node.begin(number)
        self.cluster.settle()

    def feed(self, link: str) -> Feed:
        """What lets the hearing side of a link handle a message."""
        cluster, node = self.cluster, self.node
        peer = next(peer for peer, known in cluster.named.links.items() if known is node.link)
        client_peer = next(iter(cluster.home.clients))
        interchange, forwarder = cluster.named.core, cluster.forwarder
        now = 2000.0
        return {
            # Its shell answers a mistake in what one client wants, and goes on: see `failed`.
            "client to forwarder": lambda m: _guarded(
                forwarder, fev.ClientSaid(client_peer, m), now
            ),
            "interchange to forwarder": lambda m: _ignore(
                forwarder.handle(fev.InterchangeSaid(NAMED_KEY, m), now)
            ),
            "forwarder to interchange": lambda m: _ignore(
                interchange.handle(iev.ForwarderSaid(m), now)
            ),
            "manager to interchange": lambda m: _ignore(
                interchange.handle(iev.ManagerSaid(peer, m), now)
            ),
            "interchange to manager": lambda m: _ignore(node.core.handle(mev.Said(m), now)),
            "forwarder to client": lambda m: None,  # a client's are tests/unit/client's
        }[link]


LINKS: dict[str, tuple[Any, Any]] = {
    "client to forwarder": (codec.FROM_CLIENT, service.FromClient),
    "forwarder to client": (codec.TO_CLIENT, service.ToClient),
    "interchange to forwarder": (codec.FROM_INTERCHANGE, messages.FromInterchange),
    "forwarder to interchange": (codec.TO_INTERCHANGE, messages.ToInterchange),
    "manager to interchange": (codec.FROM_MANAGER, messages.FromManager),
    "interchange to manager": (codec.TO_MANAGER, messages.ToManager),
}


def _ignore(_: object) -> None:
    """What they want done about it is not done."""


def _guarded(forwarder: Any, event: Any, now: float) -> None:
    try:
        forwarder.handle(event, now)
    except Exception as error:
        forwarder.failed(error)


def fuzz(link: str, count: int, seed: int, each: int = 25) -> tuple[int, int]:
    """Let so many messages arrive; how many were taken for messages, and how many were not.

    Args:
        each: after so many, what hears them is made anew: what was heard before must not save it
            from what comes.
    """
    incoming, union = LINKS[link]
    source = random.Random(seed)
    hostile = Hostile(source, [STREAM])
    taken = refused = 0
    target, feed = None, None
    for number in range(count):
        if number % each == 0:
            target = Target()
            feed = target.feed(link)
        assert feed is not None
        frames = encoded(hostile.of(union))
        if source.random() < 0.4:
            frames = hostile.garbled(frames)
        message = decodes(incoming, frames)
        if message is None:
            refused += 1
            continue
        taken += 1
        try:
            feed(message)
        except Exception as error:
            text = repr(message)[:400]
            raise AssertionError(f"message {number} of seed {seed}: {error!r} by {text}") from error
    return taken, refused


@pytest.mark.parametrize("link", LINKS)
def test_i04_hostile_messages(link: str) -> None:
    """Whatever a peer says on a link, by its types or not, whoever hears it goes on."""
    taken, refused = fuzz(link, 600, seed=4)
    assert taken > 120
    assert refused > 40


@pytest.mark.load
@pytest.mark.parametrize("link", LINKS)
def test_i04_100_000_hostile_messages(link: str) -> None:
    """The same, a hundred thousand times on each link."""
    taken, refused = fuzz(link, 100_000, seed=2026, each=100)
    record_figure("I4", f"{link}: hostile messages without a crash", taken + refused)
    record_figure("I4", f"{link}: of these taken for messages", taken)


PIPES = {
    "seed to manager": pool.FromSeed,
    "manager to seed": pool.ToSeed,
    "manager to worker": pool.ToWorker,
    "provisioner to interchange": provision.FromProvisioner,
    "interchange to provisioner": provision.ToProvisioner,
}


def fuzz_pipe(name: str, count: int, seed: int) -> int:
    """Decode so many messages of a pipe, garbled or not; how many were taken for messages."""
    union = PIPES[name]
    source = random.Random(seed)
    hostile = Hostile(source)
    decoder = msgspec.msgpack.Decoder(union)
    taken = 0
    for _ in range(count):
        frames = [msgspec.msgpack.encode(hostile.of(union))]
        if source.random() < 0.6:
            frames = hostile.garbled(frames)
        try:
            decoder.decode(frames[0] if frames else b"")
            taken += 1
        except msgspec.DecodeError:
            continue
        except UnicodeDecodeError:
            continue
    return taken


@pytest.mark.parametrize("name", PIPES)
def test_i04_hostile_bytes_in_pipes(name: str) -> None:
    """A pipe between our own processes: what comes out of it is a message or an error of one."""
    assert fuzz_pipe(name, 1500, seed=4) > 300


@pytest.mark.load
@pytest.mark.parametrize("name", PIPES)
def test_i04_100_000_hostile_bytes_in_pipes(name: str) -> None:
    """The same, a hundred thousand times for each pipe."""
    taken = fuzz_pipe(name, 100_000, seed=2026)
    record_figure("I4", f"{name}: hostile messages without a crash", 100_000)
    record_figure("I4", f"{name}: of these taken for messages", taken)

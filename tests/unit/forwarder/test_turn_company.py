"""The order in which the forwarder's loop does things within a turn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fxhpc.forwarder import events as ev
from fxhpc.forwarder.loop import Loop
from fxhpc.protocol import service


class Core:
    """Stores what a client says, answers when that is done, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def handle(self, event: ev.Event, now: float) -> list[ev.Action]:
        self.told.append(type(event).__name__)
        if isinstance(event, ev.ClientSaid):
            return [ev.Store(7, [])]
        if isinstance(event, ev.Stored):
            return [ev.ToClient(b"c", service.Done(1))]
        return []

    def take_mistakes(self) -> list[Exception]:
        return []


class Writer:
    """One that commits at once."""

    def __init__(self) -> None:
        self.done: list[tuple[object, object]] = []

    def submit(self, token: object, operations: object) -> None:
        self.done.append((token, None))

    def completed(self) -> list[tuple[object, object]]:
        done, self.done = self.done, []
        return done


def test_what_is_stored_at_once_is_answered_before_the_turn_ends() -> None:
    """Who waits for it need not wait for what the end of a turn sends on."""
    core: Any = Core()
    clients: Any = SimpleNamespace(send=lambda peer, message: core.told.append("answered"))
    host: Any = SimpleNamespace(closed=list)
    writer: Any = Writer()
    waker: Any = None
    loop = Loop(core, clients, writer, host, waker)
    loop.feed(ev.ClientSaid(b"c", service.Resume(1)))
    assert core.told == ["Begun", "ClientSaid", "Stored", "answered", "EndOfTurn"]

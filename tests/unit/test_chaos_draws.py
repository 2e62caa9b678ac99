"""A chaos refuses nonsense before it hits anybody, and picks among those who are there."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from fxhpc.testing.chaos import Chaos, chaos
from fxhpc.testing.victims import Process

NONSENSE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"kill": "worker"}, TypeError, "it is a set of kinds, such as {'worker'}"),
    ({"kill": 5}, TypeError, "it is a set of kinds"),
    ({"kill": None}, TypeError, "it is a set of kinds"),
    ({"kill": set()}, ValueError, "kill is empty"),
    ({"kill": {"daemon"}}, ValueError, "there is no daemon; there are worker, seed"),
    ({"kill": ["worker", 5]}, ValueError, "there is no 5"),
    ({"every_s": 0}, ValueError, "more than 0"),
    ({"every_s": -1.0}, ValueError, "more than 0"),
    ({"every_s": float("nan")}, ValueError, "no finite number"),
    ({"every_s": float("inf")}, ValueError, "no finite number"),
    ({"every_s": "2"}, TypeError, "every_s: '2' is no number"),
    ({"seed": "7"}, TypeError, "seed='7'"),
    ({"seed": 1.5}, TypeError, "whole number"),
    ({"seed": True}, TypeError, "whole number"),
    ({"shares": (2, 2)}, ValueError, "not more than 1 together"),
    ({"shares": (0.6, 0.6)}, ValueError, "not more than 1 together"),
    ({"shares": (-0.1, 0.1)}, ValueError, "from 0 to 1"),
    ({"shares": 0.1}, TypeError, "two numbers"),
    ({"shares": (0.1, 0.1, 0.1)}, TypeError, "two numbers"),
    ({"shares": "ab"}, TypeError, "two numbers"),
    ({"stop_s": (2.0, 0.1)}, ValueError, "in this order"),
    ({"stop_s": (-1.0, 2.0)}, ValueError, "0 s or more"),
    ({"stop_s": 1.0}, TypeError, "two numbers"),
    ({"clients": [0]}, ValueError, "no pid of a process"),
    ({"clients": [-1]}, ValueError, "no pid of a process"),
    ({"clients": ["7"]}, TypeError, "'7' is no pid"),
    ({"clients": 7}, TypeError, "pids of processes"),
    ({"where": 5}, TypeError, "where=5: it is a home's directory"),
    ({"where": b"/tmp"}, TypeError, "it is a home's directory"),
    ({"where": ""}, ValueError, "not the directory of a home"),
    ({"where": __file__}, ValueError, "not the directory of a home"),
]


@pytest.mark.parametrize(("given", "kind", "words"), NONSENSE, ids=lambda value: str(value)[:40])
def test_nonsense_is_refused_at_once(
    given: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as raised:
        chaos(**given)
    assert words in str(raised.value)


def test_a_home_that_is_not_there_yet_is_one(tmp_path: Path) -> None:
    for where in (tmp_path / "home", str(tmp_path), tmp_path):
        assert chaos(where, seed=1).seed == 1


class Victim(Process):
    """A process that is only named; it takes signals, or is gone already."""

    def send(self, number: signal.Signals) -> bool:
        return self.pid % 2 == 0


def told(monkeypatch: pytest.MonkeyPatch, seed: int, there: list[Process], hits: int) -> Chaos:
    one = Chaos(None, {"worker", "manager", "forwarder"}, seed=seed)
    monkeypatch.setattr(one, "_find", lambda: list(there))
    for _ in range(hits):
        one._hit()
    return one


def test_who_is_there_is_hit_and_a_seed_tells_the_same_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is wasted on kinds of which nobody is there, nor on one that has just ended."""
    there: list[Process] = [Victim("worker", pid, 1.0) for pid in range(2, 12)]
    there.append(Victim("manager", 20, 1.0))
    first, second = (told(monkeypatch, 5, there, 200) for _ in range(2))
    assert not first.misses
    assert [(hit.kind, hit.pid, hit.how) for hit in first.story] == [
        (hit.kind, hit.pid, hit.how) for hit in second.story
    ]
    assert 70 <= first.counts["manager"] <= 130  # by kinds: ten workers are no shield
    assert {hit.pid for hit in first.story} == {2, 4, 6, 8, 10, 20}
    lines = first.tell().splitlines()
    workers, managers = first.counts["worker"], first.counts["manager"]
    assert lines[1].startswith(f"hit: manager {managers}, worker {workers} (SIGKILL 1")
    assert "SIGSTOP" in lines[1]
    assert "nobody" not in lines[1]
    assert told(monkeypatch, 6, there, 200).story != first.story


def test_that_nobody_was_there_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    one = told(monkeypatch, 5, [Victim("worker", 3, 1.0)], 2)
    assert one.misses == 2
    assert not one.counts
    assert one.tell().splitlines()[1] == "hit: nothing; 2 times nobody was there"

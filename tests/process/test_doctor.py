"""`fxhpc doctor` in a home with things that are wrong: each is named, nothing is changed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from fxhpc.forwarder.home import Home
from tests.process.homes import TestHome


def _doctor(home: TestHome, *words: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "fxhpc.cli.main", "doctor", "--json", *words],
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, json.loads(done.stdout)


def test_what_is_wrong_is_named_and_nothing_is_changed(home: TestHome) -> None:
    code, told = _doctor(home)
    assert (code, told["problems"]) == (0, 0), told
    assert not home.path.exists()

    Home(home.path).create()
    key = home.path / "client.key"
    key.touch(0o644)
    key.chmod(0o644)
    endpoint = home.path / "endpoints" / "midway"
    for place in (endpoint.parent, endpoint, home.path / "executors"):
        place.mkdir(0o700)
    (endpoint / "config.yaml").touch()
    (endpoint / "failure.txt").write_text("the disk was full")
    (home.path / "store.json").write_text("5 GB")
    (home.path / "store.db").touch()
    before = sorted(home.path.rglob("*"))

    code, told = _doctor(home)

    words = {f"{one['what']}: {one['text']} {one['hint']}" for one in told["findings"]}
    assert code == 1
    for text in ("client.key is open to others", "store.json cannot be read", "the disk was full"):
        assert any(text in line for line in words), (text, words)
    assert sorted(home.path.rglob("*")) == before

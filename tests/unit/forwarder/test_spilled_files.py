"""Files of large results: found in a home and with its endpoints, removed with their tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.forwarder import spilled
from fxhpc.forwarder.home import Home
from fxhpc.forwarder.spilled import LOOK_S, SpilledFiles, size_of, spill_directories
from fxhpc.ids import new_stream
from fxhpc.interchange.directory import EndpointDirectory


def _file(directory: Path, stream: bytes, name: str = "00000000-0a0b0c0d", size: int = 10) -> Path:
    folder = directory / stream.hex()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(bytes(size))
    return path


def test_what_is_unknown_at_two_looks_goes(tmp_path: Path) -> None:
    known, gone, late = new_stream(), new_stream(), new_stream()
    files = {name: _file(tmp_path, name) for name in (known, gone, late)}
    others = [tmp_path / "notes", tmp_path / ("z" * 24)]
    for other in others:
        other.mkdir(parents=True)
    streams = {known}
    sweep = SpilledFiles(lambda: [str(tmp_path), str(tmp_path / "never made")])
    sweep.tick(100.0, streams.__contains__)
    sweep.tick(100.0 + LOOK_S / 2, streams.__contains__)
    assert all(path.exists() for path in files.values())
    streams.add(late)  # it was just not known yet
    sweep.tick(100.0 + LOOK_S, streams.__contains__)
    assert [path.exists() for path in files.values()] == [True, False, True]
    assert not files[gone].parent.exists()
    assert all(other.exists() for other in others)


def test_a_look_removes_a_bounded_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled, "_MOST", 3)
    for stream in (new_stream(), new_stream()):
        for number in range(4):
            _file(tmp_path, stream, f"{number:08x}-0a0b0c0d")
    sweep = SpilledFiles(lambda: [str(tmp_path)])
    left = []
    for _ in range(4):
        sweep.look(lambda _: False)
        left.append(size_of([str(tmp_path)]) // 10)
    assert left == [8, 5, 2, 0]
    assert not list(tmp_path.iterdir())


def test_they_are_counted_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled, "_COUNTED", 3)
    stream = new_stream()
    for number in range(4):
        _file(tmp_path, stream, f"{number:08x}-0a0b0c0d", size=2**number)
    sweep = SpilledFiles(lambda: [str(tmp_path)])
    sizes = []
    for second in range(4):
        sweep.tick(100.0 + second, lambda _: True)
        sizes.append(sweep.size)
    assert sizes == [0, 15, 15, 15]
    next(tmp_path.glob("*/00000003-*")).unlink()
    for second in range(2):
        sweep.tick(101.0 + LOOK_S + second, lambda _: True)
    assert sweep.size == 7


def test_the_directories_are_those_that_endpoints_use(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    here = EndpointDirectory(home.endpoints / "here")
    here.create("here")
    state = tmp_path / "scratch" / "there-1234"
    there = EndpointDirectory(home.endpoints / "there", state)
    there.create("there")
    (there.path / "state_dir").write_text(f"{state}\n")
    found = spill_directories(home)
    assert found == [str(home.spill), str(here.spill), str(there.spill)]
    _file(home.spill, new_stream(), size=100)
    _file(there.spill, new_stream(), size=23)
    assert size_of(found) == 123
    there.remove()
    assert not state.exists()

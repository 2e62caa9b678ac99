"""Which files `fxhpc endpoint logs` shows, and which choices it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxhpc.cli import main, output
from fxhpc.cli.logs import find_logs
from fxhpc.interchange.directory import EndpointDirectory


@pytest.mark.parametrize("ends", [("stdout", "stderr"), ("sh.out", "sh.err")])
def test_what_a_blocks_job_wrote_is_found_whoever_started_it(
    tmp_path: Path, ends: tuple[str, str]
) -> None:
    directory = EndpointDirectory(tmp_path)
    directory.blocks.mkdir()
    wrote = [directory.blocks / f"fxhpc-midway-35040ae9-1.17.86.{end}" for end in ends]
    others = [
        directory.blocks / name
        for name in ("fxhpc-midway-35040ae9-1.17.86.sh", "fxhpc-midway-35040ae9-11.17.86.sh.err")
    ]
    for path in (*wrote, *others):
        path.touch()
    assert find_logs(directory, "midway", "interchange", None, "1") == sorted(wrote)


@pytest.mark.parametrize("second", [["--provisioner"], ["--block", "1"], ["--manager", "m"]])
def test_one_log_at_a_time(second: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["endpoint", "logs", "midway", "--supervisor", *second]) == output.USAGE
    assert "choose one" in capsys.readouterr().err

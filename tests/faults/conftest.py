"""Homes and managers for the faults: each home is a directory of its own, left by its forwarder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.conftest import client, home, interchange
from tests.process.homes import TestHome

__all__ = ["client", "home", "interchange"]


@pytest.fixture
def small_home(tmp_path: Path) -> Iterator[TestHome]:
    """A home with one worker on a disk of 24 MB, where this user may mount one; else on any."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(mount, check=False).returncode:
        disk = tmp_path
    home = TestHome(disk / "home", tmp_path / "scripts")
    home.environment["FXHPC_WORKERS"] = "1"
    try:
        yield home
        home.close()
    finally:
        if disk.is_mount():
            subprocess.run(["umount", "-l", str(disk)], check=True)

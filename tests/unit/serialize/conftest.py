"""Programs that tests run as processes of their own, each within a limit of time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(__file__).resolve().parent / "programs"


@pytest.fixture(scope="session")
def programs() -> Path:
    return PROGRAMS


@pytest.fixture(scope="session")
def run_program() -> Callable[..., str]:
    """Run Python with these arguments; its output, or the test fails with its errors."""

    def run(
        *arguments: str | Path,
        stdin: str = "",
        cwd: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> str:
        path = os.pathsep.join([str(ROOT), str(PROGRAMS)])
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=cwd,
            env={
                **os.environ,
                "FXHPC_ROOT": str(ROOT),
                "PYTHONPATH": path,
                "PYTHONDONTWRITEBYTECODE": "1",
                **(environment or {}),
            },
            **options,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run

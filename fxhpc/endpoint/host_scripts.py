"""Runs the shell lines of `endpoint_setup` and `endpoint_teardown` on the endpoint's host."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from fxhpc.units import format_duration

#: Seconds that such a script may take.
LIMIT_S = 300.0
_SHOWN_LINES = 5


def run_script(what: str, script: str, log: Path, limit_s: float = LIMIT_S) -> str:
    """Run shell lines to their end, their output to a log: what went wrong, or "".

    Args:
        what: their key in the configuration.
        script: the lines; nothing is run if there are none.
        log: what they print goes to its end; made with mode 0600.
    """
    if not script.strip():
        return ""
    shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
    with os.fdopen(os.open(log, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600), "rb") as output:
        begin = output.seek(0, os.SEEK_END)
        try:
            process = subprocess.Popen(
                [shell, "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=Path.home() if Path.home().is_dir() else "/",
                start_new_session=True,
            )
        except OSError as error:  # too long for one argument, mostly
            return f"{what} cannot be run: {error.strerror or error}"
        try:
            code = process.wait(limit_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"{what} did not end within {format_duration(limit_s)}; its output: {log}"
        if code == 0:
            return ""
        output.seek(begin)
        lines = output.read().decode(errors="replace").strip().splitlines()[-_SHOWN_LINES:]
        ended = f"exit code {code}" if code > 0 else f"signal {-code}"
        said = f": {' / '.join(lines)}" if lines else ""
        return f"{what} failed with {ended}{said}"

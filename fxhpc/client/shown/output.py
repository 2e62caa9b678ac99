"""What a task printed, as its result has it: text that is not cut inside a character."""

from __future__ import annotations

from typing import Any

from fxhpc.protocol.outcome import Output


def printed_in(output: Output) -> dict[str, Any]:
    """`stdout` and `stderr`, and how many bytes of each the task wrote in all.

    The texts are the ends of what was written, where more was written than is kept. An empty
    dictionary if nothing was kept.
    """
    if not (output.stdout_bytes or output.stderr_bytes or output.stdout or output.stderr):
        return {}
    return {
        "stdout": _text(output.stdout, output.stdout_bytes),
        "stderr": _text(output.stderr, output.stderr_bytes),
        "stdout_bytes": max(output.stdout_bytes, len(output.stdout)),
        "stderr_bytes": max(output.stderr_bytes, len(output.stderr)),
    }


def _text(data: bytes, total: int) -> str:
    if total > len(data):
        # Its beginning is cut off, maybe inside a character: what is left of that goes too.
        rest = 0
        while rest < min(3, len(data)) and 0x80 <= data[rest] < 0xC0:
            rest += 1
        data = data[rest:]
    return data.decode(errors="replace")

"""Has functions look at things that may hang, each in a forked process, all at the same time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from fxhpc.endpoint.check import PROBLEM, Finding

Look = Callable[[], Iterable[Finding]]

_decode = msgspec.json.Decoder(list[Finding]).decode


def look_apart(topics: Mapping[str, Look], limit_s: float) -> dict[str, list[Finding]]:
    """What each function finds. One that has no end within `limit_s` seconds is left behind.

    The process forks, and must have one thread.
    """
    running = {topic: _start(look) for topic, look in topics.items()}
    deadline = time.monotonic() + limit_s
    return {
        topic: _answer(topic, pid, reader, deadline, limit_s)
        for topic, (pid, reader) in running.items()
    }


def _start(look: Look) -> tuple[int, int]:
    """The pid of a process that looks, and where it tells what it found."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    with contextlib.suppress(BaseException):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        try:
            found = list(look())
        except Exception as error:
            text = f"cannot be looked at: {type(error).__name__}: {error}"
            found = [Finding(PROBLEM, "", text)]
        data = memoryview(msgspec.json.encode([_as_text(finding) for finding in found]))
        while data:
            data = data[os.write(writer, data) :]
    os._exit(0)


def _as_text(finding: Finding) -> Finding:
    """The same, if paths in it are no UTF-8."""
    parts = (finding.what, finding.text, finding.hint)
    return Finding(finding.level, *(p.encode(errors="backslashreplace").decode() for p in parts))


def _answer(topic: str, pid: int, reader: int, deadline: float, limit_s: float) -> list[Finding]:
    text, is_whole = b"", False
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reader, 65536)
        if not part:
            is_whole = True
            break
        text += part
    os.close(reader)
    if not is_whole:
        os.kill(pid, signal.SIGKILL)
    # What waits for a file server does not even end when it is killed: nobody waits for it.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0 if is_whole else os.WNOHANG)
    if is_whole and text:
        with contextlib.suppress(msgspec.DecodeError):
            return [f if f.what else Finding(f.level, topic, f.text, f.hint) for f in _decode(text)]
    return [
        Finding(
            PROBLEM,
            topic,
            f"gave no answer within {limit_s:g} s" if not is_whole else "could not be looked at",
            "a file system or a command hangs: see whether `df` and `ls` on your home and on /tmp "
            "come back, and tell the administrators"
            if not is_whole
            else "",
        )
    ]

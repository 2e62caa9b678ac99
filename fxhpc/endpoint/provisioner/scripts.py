"""The files of blocks: their scripts, what they wrote, and the notes that they leave behind.

Parsl puts a time behind a block's name, and for some providers a word before it; all files of a
block are found by its name all the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from fxhpc.endpoint.launch import CANCELLED, ENDED, FATAL, STARTED
from fxhpc.endpoint.provisioner.commands import printable

#: Bytes of a file's end that are looked at, and lines and characters of it that are told.
_TAIL_BYTES, _TAIL_LINES, _TAIL_CHARACTERS = 8192, 12, 2000

#: Files of so many ended blocks stay, of those that failed and of the others.
KEPT_FAILED, KEPT_OTHERS = 50, 20

#: Logs of managers that stay, however old they are.
KEPT_LOGS = 500

#: Seconds after which the files of a block that nobody asks for are an ended one's.
_FORGOTTEN_S = 24 * 3600.0

_NAME = re.compile(r"^(?:cmd_)?(?:parsl\.)?(?P<name>fxhpc-.+-\d+)\.")
_STDERR = re.compile(r"\.stderr$|\.err$|\.e\d+$")
_STDOUT = re.compile(r"\.stdout$|\.out$|\.o\d+$")
_LABEL = re.compile(r"^\s*\d+: ")  # what `srun -l` puts before each line

#: What Parsl's launchers print, which explains nothing.
_CHATTER = re.compile(r"^(Found (cores|nodes) : |Launching worker: |All workers done$|Done$)")


@dataclass(frozen=True)
class Started:
    """What a block's script noted when it began."""

    pid: int
    ticks: int  # its start, as /proc has it; 0: not known
    boot: str
    host: str
    job: str  # the batch system's id, if its environment told


class BlockFiles:
    """All blocks' files in one directory."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)

    def script(self, name: str) -> Path | None:
        """The script of a block: there is one as soon as it may have been submitted."""
        scripts = [
            path
            for path in self._of(name)
            if not path.name.startswith("cmd_") and _is_script(path.name, name)
        ]
        return max(scripts, key=lambda path: path.name, default=None)

    def job_name(self, name: str) -> str:
        """What the batch system's job of a block is called in full; empty: never submitted."""
        script = self.script(name)
        return script.name.removesuffix(".submit").removesuffix(".sh") if script else ""

    def started(self, name: str) -> Started | None:
        """What its script noted at its start, or None if that was not seen yet."""
        lines = _read(self.directory / (name + STARTED)).splitlines()
        if len(lines) < 5 or not lines[0].isdigit():
            return None
        ticks = int(lines[1]) if lines[1].isdigit() else 0
        return Started(int(lines[0]), ticks, lines[2], lines[3], lines[4])

    def exit_code(self, name: str) -> int | None:
        """With which code its script has ended, or None if that was not seen yet."""
        text = _read(self.directory / (name + ENDED)).strip()
        return int(text) if text.isdigit() else None

    def ended(self) -> set[str]:
        """The names of all blocks whose scripts have ended."""
        with os.scandir(self.directory) as entries:
            return {entry.name[: -len(ENDED)] for entry in entries if entry.name.endswith(ENDED)}

    def cancel(self, name: str) -> None:
        """Whatever of this name starts yet ends at once."""
        path = self.directory / (name + CANCELLED)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))

    def forget(self, name: str) -> None:
        """A new block of this name: what an old one noted is not of it."""
        for ending in (STARTED, ENDED):
            with contextlib.suppress(OSError):
                (self.directory / (name + ending)).unlink()

    def last_words(self, name: str) -> tuple[str, str]:
        """The last lines that a block wrote, and the one that says why another would end so too."""
        files = sorted(self._of(name))
        errors = [_tail(path) for path in files if _STDERR.search(path.name)]
        text = "\n".join(filter(None, errors))
        if not text:
            outputs = [_tail(path) for path in files if _STDOUT.search(path.name)]
            text = "\n".join(filter(None, outputs))
        fatal = ""
        for line in text.splitlines():
            if FATAL in line:
                fatal = line.partition(FATAL)[2].strip()
        lines = text.splitlines()[-_TAIL_LINES:]
        return "\n".join(lines)[-_TAIL_CHARACTERS:], fatal

    def clean(self, alive: Collection[str]) -> None:
        """Remove the files of ended blocks, but for the last ones."""
        groups: dict[str, list[Path]] = {}
        for path in self._all():
            match = _NAME.match(path.name)
            if match:
                groups.setdefault(match["name"], []).append(path)
        failed: list[tuple[float, str]] = []
        others: list[tuple[float, str]] = []
        for name, paths in groups.items():
            if name in alive:
                continue
            newest = max(map(_changed, paths))
            code = self.exit_code(name)
            if code is None and time.time() - newest < _FORGOTTEN_S:
                continue
            (others if code in (0, 143, None) else failed).append((newest, name))
        for kept, found in ((KEPT_FAILED, failed), (KEPT_OTHERS, others)):
            for _, name in sorted(found, reverse=True)[kept:]:
                for path in groups[name]:
                    with contextlib.suppress(OSError):
                        path.unlink()

    def clean_logs(self, folder: Path) -> None:
        """Remove the logs of managers of long ago, but for the last ones."""
        with contextlib.suppress(OSError):
            logs = sorted(((_changed(path), path) for path in folder.iterdir()), reverse=True)
            for changed, path in logs[KEPT_LOGS:]:
                if time.time() - changed > _FORGOTTEN_S:
                    path.unlink()

    def _all(self) -> Iterator[Path]:
        try:
            yield from self.directory.iterdir()
        except OSError:
            return  # a file system that is away for a moment: it is looked at again

    def _of(self, name: str) -> list[Path]:
        starts = (f"{name}.", f"parsl.{name}.", f"cmd_{name}.", f"cmd_parsl.{name}.")
        return [path for path in self._all() if path.name.startswith(starts)]


def _is_script(file: str, name: str) -> bool:
    rest = file.removeprefix("parsl.")[len(name) :]
    return re.fullmatch(r"\.[\d.]+(\.sh|\.submit)?", rest) is not None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [_LABEL.sub("", printable(line).rstrip()) for line in text.splitlines()]
    return "\n".join(line for line in lines if line and not _CHATTER.match(line))

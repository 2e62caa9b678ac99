"""docs/my-cluster.md, typed line by line on a real Slurm by an ordinary user: all of it works, and
what comes back is what the page says.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from login_node import LoginNode
from slurm_cluster import SlurmCluster

from tests.waiting import eventually

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "my-cluster.md"

#: Done before: the fixture installs into a virtual environment, for all tests of this user.
_INSTALLED = ("python3 -m venv ~/fxhpc-venv", "pip install .")

#: What these find is the host's own; that they end well is looked at.
_OF_THE_HOST = ("fxhpc doctor", "sinfo")

_MARK = "-- typed --"


@dataclass
class Line:
    """A line of the page that is typed, and what comes back; "..." stands for any lines."""

    typed: str
    back: list[str] = field(default_factory=list)


def test_the_page_works_as_it_is_typed(alice: LoginNode, slurm: SlurmCluster) -> None:
    user = alice.home.parent
    (user / "fxhpc-venv").symlink_to(Path(alice.python).parents[1])
    alice.home = user / ".fxhpc"
    alice.environment["HOME"] = str(user)
    del alice.environment["FXHPC_HOME"]
    text = _PAGE.read_text()
    for name, content in _files(text):
        alice.script(name, content)
    lines = [line for line in _lines(text) if line.typed not in _INSTALLED]
    script = "\n".join(f"{line.typed}\ncode=$?; echo; echo '{_MARK}' $code" for line in lines)
    code, out, _ = alice.run("bash", "-c", f"exec 2>&1\n{script}", within=60)
    assert code == 0, out
    parts = re.split(rf"\n{_MARK} (\d+)\n", out)
    assert len(parts) == 2 * len(lines) + 1, out
    for line, told, ended in zip(lines, parts[::2], parts[1::2], strict=False):
        assert (ended != "0") == line.typed.startswith("fxhpc endpoint check wrong"), (line, told)
        if line.typed not in _OF_THE_HOST:
            _compare(line, told.replace(str(user), "/home/you"))
    assert not alice.home.exists()
    eventually(lambda: not alice.titled("fxhpc: "))
    alice.check_nothing_left()


def _files(page: str) -> Iterator[tuple[str, str]]:
    """Files that the reader writes: blocks whose first line is a comment with a name."""
    for block in re.findall(r"^```(?:yaml|py)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        yield block.split("\n", 1)[0].removeprefix("# "), block


def _lines(page: str) -> Iterator[Line]:
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        line = None
        for text in block.splitlines():
            if text.startswith("$ "):
                if line is not None:
                    yield line
                line = Line(text.removeprefix("$ "))
            elif line is not None and text.strip():
                line.back.append(text)
        assert line is not None, block
        yield line


def _compare(line: Line, told: str) -> None:
    """Names, numbers and times of another host and another day count as the same."""
    found = [_usual(one) for one in told.splitlines() if one.strip()]
    where = 0
    skipped = False
    for wanted in line.back:
        if wanted.strip() == "...":
            skipped = True
            continue
        rest = found[where:]
        assert _usual(wanted) in (rest if skipped else rest[:1]), f"{wanted}\n{line.typed}\n{told}"
        where += rest.index(_usual(wanted)) + 1
        skipped = False
    assert skipped or where == len(found), f"more than the page says\n{line.typed}\n{told}"


def _usual(text: str) -> str:
    text = text.replace(socket.gethostname(), "login1")
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID", text)
    text = re.sub(r"\b[0-9a-f]{8}\b|\b[0-9a-f]{16}\b", "ID", text)
    text = re.sub(r"\d[\d.,:-]*( (ms|s|min)( \d+ s)?| [KMGT]?B)?", "#", text)
    text = " ".join(re.sub("─+", "", text).split())
    # The batch system's own word is there when it was asked next, which it is not all the time.
    return re.sub(r"\b(pending|running) (PENDING|RUNNING)\b", r"\1", text)

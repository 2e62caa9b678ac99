"""Commands of a batch system: each with a limit on its time, and its words when it fails."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

#: What a batch system that cannot be reached says. It may have heard the question all the same.
_AWAY = re.compile(
    r"unable to contact slurm controller|socket timed out|connection refused|connection timed out"
    r"|connection reset|connect failure|no route to host|communication failure"
    r"|cannot connect to|could not connect|unable to connect|zero bytes were transmitted"
    r"|controller is in standby|transport endpoint|temporarily un(able|available)"
    r"|batch system (is )?(down|unavailable)|server is shutting down|pbs_iff|end of file",
    re.IGNORECASE,
)

#: What makes several commands of one line.
_SEVERAL = re.compile(r"[;&|\n](?=[^']*(?:'[^']*'[^']*)*$)")

#: What programs write for terminals: colours, and the like.
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

#: Characters of a command's words that are passed on, and how many lines.
_WORDS, _LINES = 600, 4


class CommandError(Exception):
    """A command gave no answer that could be used. The text says which, and why.

    Attributes:
        away: the batch system could not be reached, or did not answer in time: what was asked of
            it may have happened or not.
        unclear: it did answer, but not in a way that tells which of the two it is.
    """

    def __init__(self, text: str, away: bool = False, unclear: bool = False) -> None:
        super().__init__(text)
        self.away = away
        self.unclear = unclear


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    tool: str
    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """Its own words on why it failed: the lines that speak of errors, else the first ones."""
        lines = [
            printable(line).strip().strip("'\"") for line in (self.err or self.out).splitlines()
        ]
        lines = [line for line in lines if line]
        # Sites, and commands that call others, print this and that around what matters.
        errors = [line for line in lines if "error: " in line.lower()]
        telling = [line for line in lines if re.search(r"error|invalid|fail|denied", line, re.I)]
        text = "; ".join((errors or telling or lines)[:_LINES])[:_WORDS]
        if not text:
            return f"{self.tool}: exit code {self.code}"
        return text if self.tool in text else f"{self.tool}: {text}"

    @property
    def away(self) -> bool:
        """Whether it could not reach the batch system."""
        return self.code != 0 and bool(_AWAY.search(self.err + self.out))

    def error(self) -> CommandError:
        """The same as an error."""
        return CommandError(self.words, self.away)


def run(
    command: str | Sequence[str],
    limit_s: float,
    environ: dict[str, str] | None = None,
    umask: int = 0o077,
    directory: str | None = None,
) -> Answer:
    """Run a command to its end.

    Args:
        command: a line for the shell, or the command's words.
        limit_s: seconds after which it is killed, with all that it has started.
        environ: its environment; None: that of this process.
        umask: of the command; batch systems hand it on to the job.
        directory: where it runs; None: where this process does.

    Raises:
        CommandError: it could not be started, or took too long.
    """
    tool = tool_of(command)
    line = command if isinstance(command, str) else ""
    if line and not _SEVERAL.search(line):
        # Without a shell between: what is killed is the command itself.
        line = f"exec {line}"
    try:
        process = subprocess.Popen(
            line or command,
            shell=bool(line),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environ,
            cwd=directory,
            preexec_fn=_prepare(umask),
        )
    except FileNotFoundError:
        raise CommandError(f"{tool}: no such command on host {os.uname().nodename}") from None
    except OSError as error:
        raise CommandError(f"{tool}: {error.strerror or error}", away=True) from None
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)  # one that hangs in the kernel does not even end now
        raise CommandError(f"{tool}: no answer within {limit_s:g} s", away=True) from None
    answer = Answer(tool, process.returncode, _text(out), _text(err))
    if answer.code == 127 and line:
        raise CommandError(f"{tool}: no such command on host {os.uname().nodename}")
    return answer


def tool_of(command: str | Sequence[str]) -> str:
    """What people call a command: its first word, without the directory."""
    words = command.split() if isinstance(command, str) else command
    return os.path.basename(words[0]) if words else "command"


def plain_environment() -> dict[str, str]:
    """This process's environment, for commands whose output is read: in no other language."""
    changed = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    return {**changed, "LC_ALL": "C"}


def printable(text: str) -> str:
    """A line for people's terminals: colours are left out, other control characters are blanks."""
    text = _COLOURS.sub("", text)
    return "".join(one if one.isprintable() else " " for one in text)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def dies_with(parent: int) -> bool:
    """Have this process killed when its parent ends; False if that has happened already."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def _prepare(umask: int) -> Callable[[], None]:
    """If this process is killed, its command is too: nothing is under way that nobody knows of."""
    parent = os.getpid()

    def prepare() -> None:
        if not dies_with(parent):
            os._exit(1)
        os.umask(umask)

    return prepare

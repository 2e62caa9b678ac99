"""ShellFunction: a command line that is registered, submitted and called as a function is."""

from __future__ import annotations

import keyword
import operator
import os
from collections.abc import Mapping
from typing import Any

from fxhpc.durations import parse_duration
from fxhpc.errors import UsageError
from fxhpc.shell.result import ShellResult
from fxhpc.shell.template import filled, keywords_of

#: What a task is declared to take at most: its command's walltime, and so many seconds to end it.
_TO_END_S = 5.0

_SHOWN_LINES = 10
_SHOWN_CHARACTERS = 1024


class ShellFunction:
    """A command, run by bash; its call returns a `ShellResult`.

    `ShellFunction("lammps -in {input}")` is submitted as a function is: `submit(fn, input="a.in")`,
    `run(input="a.in", function_id=...)`. The keywords fill in the command as `str.format` does,
    unquoted. `map` and `map_run` take a dictionary of them for each call.

    It runs in the task's directory (`run_in_sandbox`), or else in the worker's, with no input.

    Args:
        cmd: the command line, a template.
        stdout, stderr: files that what it writes is appended to, in that directory unless they are
            absolute. None: `ID.xxxx.stdout` in the task's own directory if it has one; otherwise
            only the last lines are kept.
        walltime: seconds, or "90m": when it is over, all that the command has started is ended,
            and its code is 124. A task whose walltime is not declared has this, and 5 s.
        snippet_lines: so many of the last lines of stdout and of stderr are returned, up to 512 KB
            of each.
        name: an identifier by which the function is found.
        return_dict: return a dictionary with the attributes of a ShellResult in its place.

    Raises:
        UsageError: an argument cannot be meant so.
    """

    #: Whether its tasks must have ranks.
    _ranks = False

    def __init__(
        self,
        cmd: str,
        stdout: str | os.PathLike[str] | None = None,
        stderr: str | os.PathLike[str] | None = None,
        walltime: float | str | None = None,
        snippet_lines: int = 1000,
        name: str | None = None,
        return_dict: bool = False,
    ) -> None:
        keywords_of(cmd)
        self.cmd = cmd
        self.stdout = _path("stdout", stdout)
        self.stderr = _path("stderr", stderr)
        self.walltime = _walltime(walltime)
        self.snippet_lines = _lines(snippet_lines)
        self.__name__ = _name(name or type(self).__name__)
        self.return_dict = bool(return_dict)

    def __call__(self, /, *args: Any, **kwargs: Any) -> ShellResult | dict[str, Any]:
        """Run the command, with these keywords in it, and wait for its end.

        Raises:
            TypeError: there are other arguments than keywords, or one dictionary of them.
            KeyError: a keyword is missing.
            OSError: a file cannot be used, or bash cannot be started.
        """
        return self.execute_cmd_line(filled(self.cmd, self._keywords(args, kwargs)))

    def _keywords(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        if not args:
            return kwargs
        if len(args) == 1 and isinstance(args[0], Mapping):
            return {**args[0], **kwargs}
        fields = ", ".join(f"{name}=..." for name in keywords_of(self.cmd))
        raise TypeError(
            f"{self.__name__} takes the keywords of its command ({fields or 'it has none'}), or "
            f"one dictionary of them, and was given {len(args)} positional argument"
            f"{'s' if len(args) > 1 else ''}: {', '.join(map(repr, args)):.200}"
        )

    def execute_cmd_line(self, cmd: str) -> ShellResult | dict[str, Any]:
        """Run this command line as it is, and wait for its end. For subclasses.

        Raises:
            OSError: a file cannot be used, or bash cannot be started.
        """
        from fxhpc.shell import command  # not for who only registers it

        ended = command.run(
            cmd, self.stdout, self.stderr, _walltime(self.walltime), _lines(self.snippet_lines)
        )
        exception_name = None
        if ended.timed_out:
            exception_name = "subprocess.TimeoutExpired"
        elif ended.returncode != 0:
            exception_name = "subprocess.CalledProcessError"
        result = ShellResult(cmd, ended.stdout, ended.stderr, ended.returncode, exception_name)
        return vars(result) if self.return_dict else result

    def __fxhpc_about__(self) -> tuple[str, float, bool]:
        """What is stored as its source; what its tasks are declared to take at most, in seconds, 0:
        nothing; and whether they must have ranks."""
        walltime_s = _walltime(self.walltime)
        return self.cmd, walltime_s + _TO_END_S if walltime_s is not None else 0.0, self._ranks

    def __str__(self) -> str:
        lines = [self.__name__]
        for label, value in (
            ("walltime", self.walltime),
            ("stdout", self.stdout),
            ("stderr", self.stderr),
            ("lines", self.snippet_lines),
        ):
            if value is not None:
                lines.append(f"{label:>10}: {value}")
        text = self.cmd.strip()
        shown = text[:_SHOWN_CHARACTERS].splitlines()[:_SHOWN_LINES]
        if len("\n".join(shown)) < len(text):
            shown.append("[... truncated; see .cmd for full script ...]")
        lines.append(f"{'command':>10}: " + ("\n" + 12 * " ").join(shown))
        return "\n".join(lines)

    def __repr__(self) -> str:
        given = {
            "cmd": self.cmd,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "walltime": self.walltime,
            "snippet_lines": self.snippet_lines,
            "name": self.__name__ if self.__name__ != type(self).__name__ else None,
            "return_dict": self.return_dict or None,
        }
        shown = (f"{name}={value!r}" for name, value in given.items() if value is not None)
        return f"{type(self).__name__}({', '.join(shown)})"


def _path(argument: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise UsageError(f"{argument}={value!r:.200}: it is the path of a file, or None.")
    if "\0" in path:
        raise UsageError(f"{argument}={value!r:.200}: no path has a NUL character.")
    return path


def _walltime(value: Any) -> float | None:
    if value is None:
        return None
    try:
        # NumPy's integers are no int; a duration is one.
        is_whole = hasattr(value, "__index__") and not isinstance(value, bool)
        seconds = parse_duration(operator.index(value) if is_whole else value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"walltime={value!r:.200}: {error}.") from None
    if seconds <= 0:
        raise UsageError(f"walltime={value!r:.200}: it is more than 0; None: there is no limit.")
    return seconds


def _lines(value: Any) -> int:
    try:
        lines = operator.index(value)
    except TypeError:
        lines = -1
    if lines < 0:
        raise UsageError(f"snippet_lines={value!r:.200}: it is a whole number, 0 or more.")
    return lines


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.isidentifier() or keyword.iskeyword(value):
        raise UsageError(
            f"name={value!r:.200}: it is the name of a function, such as a Python identifier is."
        )
    return value

"""Runs a command line: groups that import late, and one place where errors become words."""

from __future__ import annotations

import difflib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from fxhpc import errors
from fxhpc.cli import output
from fxhpc.printable import printable, safe_terminals

#: Which error ends a command with which code; what is not here ends it with `output.FAILED`.
_CODES: tuple[tuple[str, int], ...] = (
    ("EndpointNameInvalid", output.USAGE),
    ("UsageError", output.USAGE),
    ("InvalidUUID", output.USAGE),
    ("EndpointUnknown", output.UNKNOWN_ENDPOINT),
    ("EndpointNotFound", output.UNKNOWN_ENDPOINT),
    ("EndpointNotRunning", output.NOT_RUNNING),
    ("EndpointRunning", output.RUNNING),
    ("ConfigError", output.BAD_CONFIG),
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used.

    So `--help` is fast, and a command whose module cannot be imported disturbs no other.

    Args:
        lazy: the commands: where each is ("module:attribute"), and its line of help.
        order: how they are listed; those that it leaves out come last.
        elsewhere: what people look for here, and which command it is.
    """

    def __init__(
        self,
        *args: Any,
        lazy: dict[str, tuple[str, str]] | None = None,
        order: Sequence[str] = (),
        elsewhere: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy or {}
        self._order = list(order)
        self._elsewhere = elsewhere or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        names = [*self._lazy, *(name for name in self.commands if name not in self._lazy)]
        place = {name: number for number, name in enumerate(self._order)}
        return sorted(names, key=lambda name: place.get(name, len(place)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name, imported now; None if there is none."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        rows = []
        for name in self.list_commands(ctx):
            if name in self._lazy:
                rows.append((name, self._lazy[name][1]))
            else:
                command = self.commands[name]
                if not command.hidden:
                    rows.append((name, command.get_short_help_str(limit=80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a word that is no command is told with the one that was meant."""
        name = args[0] if args else ""
        if name in self._elsewhere:
            ctx.fail(f"there is no command {name!r} here: use {self._elsewhere[name]}")
        if name and not name.startswith("-") and name not in self.list_commands(ctx):
            meant = self._in_groups(ctx, name) or did_you_mean(name, self.list_commands(ctx))
            ctx.fail(f"there is no command {name!r}{meant}")
        return super().resolve_command(ctx, args)

    def _in_groups(self, ctx: click.Context, name: str) -> str:
        """The same question as `did_you_mean`'s, of a command that is one of groups of this one."""
        found = []
        for group in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, group)
            except Exception:  # it cannot be imported: told to whoever calls it
                continue
            if isinstance(command, click.Group) and name in command.list_commands(ctx):
                found.append(f"{ctx.command_path} {group} {name}")
        return f": did you mean {' or '.join(map(repr, found))}?" if found else ""


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """A question that names what is alike, to be put behind a sentence; empty if nothing is.

    >>> did_you_mean("midwya", ["local", "midway"])
    ": did you mean 'midway'?"
    """
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    return f": did you mean {close[0]!r}?" if close else ""


def run(command: click.Command, program: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command line, whatever happens: its exit code.

    Args:
        program: what the command is called in its help.
        arguments: those of this process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # paths may be no text
    as_json = "--json" in given
    before = signal.signal(signal.SIGTERM, _end_in_order)
    try:
        with safe_terminals():
            code = command.main(given, prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _tell_usage(error, as_json)
    except (click.Abort, KeyboardInterrupt):
        _tell("interrupted", "", as_json, "Interrupted")
        return output.INTERRUPTED
    except _Terminated:
        _tell("ended by SIGTERM", "", as_json, "Terminated")
        return output.TERMINATED
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter would complain of it as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except errors.FxhpcError as error:
        return tell_error(error, as_json)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _tell(what, "", as_json, "OSError")
        return output.FAILED
    except ImportError as error:
        what = f"this command cannot be loaded: {error}"
        _tell(what, "install fxhpc again", as_json, "ImportError")
        return output.FAILED
    except Exception as error:
        traceback.print_exc()
        what = f"this is a fault of fxhpc: {type(error).__name__}: {error}"
        _tell(what, "please report it, with the lines above", as_json, type(error).__name__)
        return output.FAILED
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if isinstance(code, int) else output.OK


class _Terminated(BaseException):
    """Somebody wants this process to end: what a command has begun is cleaned up on the way."""


def _end_in_order(number: int, frame: object) -> None:
    raise _Terminated


def tell_error(error: errors.FxhpcError, as_json: bool) -> int:
    """Tell an error, and the exit code that it has."""
    text = getattr(error, "text", "") if isinstance(error, errors.EndpointError) else ""
    problems = list(getattr(error, "problems", []))
    _tell(text or str(error), getattr(error, "hint", ""), as_json, type(error).__name__, problems)
    for name, code in _CODES:
        kind = getattr(errors, name, None)
        if kind is not None and isinstance(error, kind):
            return code
    return output.FAILED


def _tell_usage(error: click.ClickException, as_json: bool) -> int:
    if type(error).__name__ == "NoArgsIsHelpError" and not as_json:  # of newer versions of click
        click.echo(printable(error.format_message()), err=True)
        return error.exit_code
    hint = ""
    context = getattr(error, "ctx", None)
    if context is not None:
        hint = f"see: {context.command_path} --help"
    # click has a class for each way to be wrong; one name is enough for who reads the JSON.
    kind = "UsageError" if isinstance(error, click.UsageError) else type(error).__name__
    _tell(error.format_message(), hint, as_json, kind)
    return error.exit_code


def _tell(text: str, hint: str, as_json: bool, kind: str, problems: Sequence[str] = ()) -> None:
    if as_json:
        found: dict[str, Any] = {"error": text, "hint": hint, "kind": kind}
        if problems:
            found["problems"] = list(problems)
        click.echo(output.to_json(found))
        return
    mark = click.style("error:", fg="red", bold=True) if output.colour(sys.stderr) else "error:"
    click.echo(f"{mark} {printable(text)}", err=True)
    if hint:
        click.echo(f"  {hint}", err=True)

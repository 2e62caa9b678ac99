"""MPIFunction: a command that a launcher starts on the nodes of its task."""

from __future__ import annotations

import os
from typing import Any

from fxhpc.errors import UsageError
from fxhpc.shell.function import ShellFunction
from fxhpc.shell.result import ShellResult
from fxhpc.shell.template import filled

#: What starts the ranks of a task: the manager sets it, if the task has any.
PREFIX = "PARSL_MPI_PREFIX"


class MPIFunction(ShellFunction):
    """A ShellFunction whose command is a program of several ranks.

    It is submitted with a `resource_specification` that says how many, and on how many nodes:
    `num_ranks`, `ranks_per_node`, `num_nodes`; without, its submission is refused. The command is
    put behind the launcher that the endpoint has for them, `$PARSL_MPI_PREFIX`.

    Raises:
        UsageError: as of a ShellFunction; or the command is empty.
    """

    _ranks = True

    def __init__(self, cmd: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(cmd, *args, **kwargs)
        _program_of(cmd)

    def __call__(self, /, *args: Any, **kwargs: Any) -> ShellResult | dict[str, Any]:
        """Start the program, with these keywords in its command, and wait for its end.

        Raises:
            UsageError: the task has no ranks, or its command is empty.
            TypeError, KeyError, OSError: as those of a ShellFunction.
        """
        command = _program_of(filled(self.cmd, self._keywords(args, kwargs)))
        if PREFIX not in os.environ:
            raise UsageError(
                f"{self.__name__} is an MPIFunction, and its task has no ranks: submit it with a "
                f"resource_specification, for example {{'num_nodes': 2, 'ranks_per_node': 4}}"
            )
        return self.execute_cmd_line(f"${PREFIX} {command}")


def _program_of(command: str) -> str:
    """A command as it can stand behind a launcher: on the launcher's own line."""
    program = command.lstrip()
    if not program:
        raise UsageError(
            f"cmd={command!r:.200}: it is the program that the launcher starts on each rank, with "
            f"its arguments, and there is none."
        )
    return program

"""Commands of the shell as functions, in the shapes of Globus Compute. Needs nothing but Python's
own library, so that clients and workers import it alike."""

from __future__ import annotations

from fxhpc.shell.function import ShellFunction
from fxhpc.shell.mpi import MPIFunction
from fxhpc.shell.result import ShellResult

__all__ = ["MPIFunction", "ShellFunction", "ShellResult"]

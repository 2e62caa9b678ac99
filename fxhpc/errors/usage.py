"""Errors of calls that cannot be meant so: nothing has been sent.

They are AssertionErrors too: funcX used `assert`, which `python -O` would drop.
"""

from __future__ import annotations

from fxhpc.errors.base import FxhpcError
from fxhpc.units import format_duration


class UsageError(FxhpcError, AssertionError, ValueError):
    """A call that cannot be meant so; nothing has been sent."""


class MissingArgument(UsageError):
    """A keyword argument without which the call says nothing."""

    def __init__(self, argument: str) -> None:
        self.argument = argument
        kind = argument.removesuffix("_id")
        super().__init__(
            f"{argument} key-word argument must be set: pass {argument}=, the id of the {kind}."
        )


class NotAList(UsageError):
    """get_batch_result, or another call, was given something else than task ids."""

    def __init__(self, given: str = "something else", call: str = "get_batch_result") -> None:
        super().__init__(
            f"{call} expects a list of task ids, and was given {given}: pass what "
            f"batch_run returned, or [task_id]."
        )


class NotABatch(UsageError):
    """batch_run was given something else than a Batch."""

    def __init__(self, given: str = "something else") -> None:
        super().__init__(
            f"Requires a Batch object as input, and was given {given}: make one by create_batch()."
        )


class EmptyBatch(UsageError):
    """batch_run was given a Batch without tasks."""

    def __init__(self) -> None:
        super().__init__("Requires a non-empty batch: add tasks by batch.add() before batch_run().")


class WalltimeTooLong(UsageError):
    """Tasks are declared to take longer than any block of their endpoint; nothing was submitted.

    Args:
        endpoint: its name.
        walltime_s: seconds that each task is declared to take at most.
        longest_s: seconds of the endpoint's longest block.
    """

    def __init__(self, endpoint: str, walltime_s: float, longest_s: float) -> None:
        self.endpoint = endpoint
        self.walltime_s = float(walltime_s)
        self.longest_s = float(longest_s)
        super().__init__(
            f"Tasks that are declared to take up to {format_duration(self.walltime_s)} would never "
            f"start at endpoint {endpoint}, whose blocks last {format_duration(self.longest_s)}. "
            f"Nothing was submitted. Raise `walltime` in the endpoint's configuration and restart "
            f"it, split the tasks, or declare less (resource_specification)."
        )

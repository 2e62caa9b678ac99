"""Errors of calls that cannot be meant so: nothing has been sent.

They are AssertionErrors too: funcX used `assert`, which `python -O` would drop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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


class IdempotencyConflict(UsageError):
    """A key stands for other tasks already; nothing was submitted.

    Args:
        key: the key.
        task_id: the first task that was submitted under it.
    """

    def __init__(self, key: str, task_id: str = "") -> None:
        self.key = key
        self.task_id = task_id
        first = f", the first of which is {task_id}" if task_id else ""
        super().__init__(
            f"The idempotency key {key!r} stands for other tasks already{first}. Nothing was "
            f"submitted. For other work, use another key. The same work has the same endpoint, "
            f"function (its name, its code, and the values, helpers and modules of yours that it "
            f"uses), chunksize and arguments, in the same order: what is new each time, such as "
            f"the time of day in an argument or in a global, makes it other work."
        )


class UnknownOption(UsageError, TypeError):
    """A keyword that is no option, of this or of what funcX and Globus Compute had.

    Args:
        call: what was called.
        option: the keyword.
        meant: the option that is most alike, if one is.
    """

    def __init__(self, call: str, option: str, meant: str = "") -> None:
        self.call, self.option, self.meant = call, option, meant
        question = f": did you mean {meant!r}?" if meant else "."
        super().__init__(
            f"{call} has no option {option!r}{question} Nothing was done. Mend its name, or leave "
            f"it out; help({call}) has all that there are."
        )


class InvalidResourceSpecification(UsageError, TypeError):
    """A resource_specification that cannot be meant so, or kept; nothing was submitted.

    The name is Parsl's; a TypeError it is for Globus Compute.

    Args:
        invalid_keys: those that are to blame, if it is some.
    """

    def __init__(self, text: str = "", invalid_keys: Iterable[Any] = ()) -> None:
        self.invalid_keys = [*invalid_keys]
        super().__init__(text)


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


class ResourcesTooLarge(UsageError):
    """No node of their endpoint can ever have what tasks need; nothing was submitted.

    Args:
        endpoint: its name.
        needed: what each task needs: "6 cores and 2 accelerators".
        most: what a node has at most: "4 cores, 1 accelerator and 16 GB of memory".
        of: "node"; or "block", if it is of whole nodes that there are too few.
        remedy: what to do, in a sentence; empty: to ask for less.
    """

    def __init__(
        self, endpoint: str, needed: str, most: str, of: str = "node", remedy: str = ""
    ) -> None:
        self.endpoint = endpoint
        self.needed = needed
        self.most = most
        super().__init__(
            f"Tasks that need {needed} on one {of} would never start at endpoint {endpoint}, where "
            f"a {of} has {most}. Nothing was submitted. "
            + (
                remedy
                or f"Ask for less (resource_specification), or submit them to an endpoint with "
                f"larger {of}s."
            )
        )

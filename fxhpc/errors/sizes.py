"""Errors of what is too large to be sent, or cannot be turned into bytes and back."""

from __future__ import annotations

from fxhpc.errors.base import FxhpcError
from fxhpc.units import format_bytes


def _where(option: str) -> str:
    """Where an option is given, if that is known."""
    return " of the FuncXClient or Executor, in bytes" if option == "max_payload" else ""


class ThrottlingException(FxhpcError):
    """funcX's base for requests that are too large or too many."""


class MaxRequestSizeExceeded(ThrottlingException):
    """What was to be sent is larger than the limit; nothing has been sent.

    Args:
        size: bytes of it, serialized.
        limit: bytes allowed.
        what: what it is ("arguments", "function hello", ...).
        option: the option that sets the limit.
        endpoint: whose configuration sets it, if it is not an option of the caller's.
    """

    def __init__(
        self,
        size: int,
        limit: int,
        what: str = "arguments",
        option: str = "max_payload",
        endpoint: str = "",
    ) -> None:
        self.size = int(size)
        self.limit = int(limit)
        self.what = what
        self.option = option
        self.endpoint = endpoint
        whose, remedy = f"`{option}`", f"Raise `{option}`{_where(option)},"
        if option == "max_payload":
            remedy += " or give it on_exceed='spill', which has larger ones stored apart,"
        if endpoint:
            whose = f"`{option}` of endpoint {endpoint}"
            remedy = (
                "Give the FuncXClient or Executor on_exceed='spill', which has larger ones stored "
                "apart; or raise it, or say `on_exceed: spill`, in the endpoint's configuration, "
                "and restart it;"
            )
        super().__init__(
            f"Serialized {what} are {self.size:,} bytes ({format_bytes(self.size)}), exceeded "
            f"limit of {self.limit:,} ({whose}). Nothing was sent. {remedy} or write the data to a "
            f"file that workers can read and pass its path."
        )


class PayloadTooLarge(MaxRequestSizeExceeded):
    """Arguments or a function are larger than the limit."""


class MaxRequestsExceeded(ThrottlingException):
    """Too many requests in a time. fxhpc does not raise it; scripts may catch it."""


class MaxResultSizeExceeded(FxhpcError):
    """A result is larger than the limit: the task ran, its result was not sent.

    Args:
        result_size: bytes of it, serialized.
        result_size_limit: bytes allowed.
        what: what it is, if not plainly the result.
    """

    def __init__(self, result_size: int, result_size_limit: int, what: str = "") -> None:
        self.result_size = int(result_size)
        self.result_size_limit = int(result_size_limit)
        self.what = what
        spill = "" if what else "or give on_exceed='spill' beside it, which writes a file, "
        super().__init__(
            f"Task result of {self.result_size}B exceeded current limit of "
            f"{self.result_size_limit}B{f' ({what})' if what else ''}. The result is gone: raise "
            f"`max_payload`{_where('max_payload')} (and `limits.result` of the endpoint's "
            f"configuration, if it has one: the smaller one counts), {spill}or let the function "
            f"write a file and return its path, and run again."
        )


class SerializationError(FxhpcError):
    """Something could not be turned into bytes, or bytes not into what they were."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(f"Serialization Error during: {message}")


class SpilledResultLost(SerializationError):
    """A result was larger than the limit and went to a file, which is not as it was any more.

    Args:
        task_id: whose result it is.
        path: the file.
        why: what is wrong with it: "cannot be read (No such file or directory)".
    """

    def __init__(self, task_id: str, path: str, why: str) -> None:
        self.task_id = task_id
        self.path = path
        self.why = why
        super().__init__(
            f"reading of a large result: that of task {task_id} was written to the file {path}, "
            f"which {why}. Such a file goes with its batch (`fxhpc store purge`) and with its "
            f"endpoint's directory. If this host does not see that directory, ask on one that "
            f"does; else run the task again"
        )

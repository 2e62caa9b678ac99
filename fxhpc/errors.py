"""Every error that fxhpc raises: what happened, to what, where, why, and what to do now.

The names that funcX and Globus Compute scripts catch are kept, with their arguments and texts.
All errors pickle, whatever their constructors take: they are made again from the same arguments.
"""

from __future__ import annotations

import signal as _signals
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from typing import Any

from fxhpc.units import format_bytes, format_duration


class FxhpcError(Exception):
    """The base of all errors of fxhpc."""

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        error = super().__new__(cls, *args)
        error._made_with = (args, kwargs)
        return error

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._made_with
        state = {name: value for name, value in self.__dict__.items() if name != "_made_with"}
        return _make_again, (type(self), args, kwargs), state


def _make_again(cls: type[FxhpcError], args: tuple[Any, ...], kwargs: dict[str, Any]) -> FxhpcError:
    return cls(*args, **kwargs)


FuncxError = FxhpcError  # funcX's name of the base
FuncXError = FxhpcError
ComputeError = FxhpcError  # Globus Compute's


# --- wrong calls: AssertionErrors since funcX used `assert`, which `python -O` would drop ---------


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
    """get_batch_result was given something else than task ids."""

    def __init__(self, given: str = "something else") -> None:
        super().__init__(
            f"get_batch_result expects a list of task ids, and was given {given}: "
            f"pass what batch_run returned, or [task_id]."
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


# --- tasks: their state, their end ----------------------------------------------------------------


class TaskPending(FxhpcError):
    """The task has not ended yet; `reason` says what it waits for."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"Task is pending due to {reason}. Ask again later, or pass timeout=, in seconds from "
            f"now, to get_result."
        )


class TaskCancelled(FxhpcError, CancelledError):
    """Somebody cancelled the task."""

    def __init__(self, task_id: str = "") -> None:
        self.task_id = task_id
        super().__init__(f"{_the_task(task_id)} was cancelled. Submit it again if you need it.")


class TaskExecutionFailed(FxhpcError):
    """The task raised an exception that cannot be made again here; str() is its traceback."""

    def __init__(self, remote_data: str, completion_t: str = "") -> None:
        self.remote_data = remote_data
        self.completion_t = completion_t
        super().__init__(remote_data)


FuncxTaskExecutionFailed = TaskExecutionFailed


class TaskInterrupted(TaskExecutionFailed):
    """The task raised KeyboardInterrupt. It is not raised here: nobody pressed Ctrl-C here."""


class RemoteTraceback(Exception):
    """The `__cause__` of an exception that a task raised: where on the worker it happened."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


# --- losses: tasks that ended without a word of their own -----------------------------------------


class TaskLost(FxhpcError):
    """A task ended without a value and without an exception of its own.

    Args:
        text: one sentence, what happened; each class has one of its own for want of a better.
        task_id: which task.
        host, pid: where it ran.
        signal: the number of the signal that ended its worker, or 0.
        exit_code: the code that its worker exited with, or -1.
        peak_memory: bytes, the largest resident size that the worker had.
        stderr: the last lines that the worker wrote.
        attempts: the stories of earlier attempts, a sentence each.
        ran_s: seconds that the last attempt had run, if that is known.
        block_s: seconds of the block that it ran in, if it was cut off by its end.
        limit_s: seconds that it was declared to take, if it was ended because it took longer.
        oom_evidence: one sentence, what shows that it was killed because memory ran out; or empty.
        advice: what to do about it; each class has a text of its own.
    """

    WHAT = "it was lost"
    ADVICE = "Submit it again; if it is lost again, see the endpoint's log."

    def __init__(
        self,
        text: str = "",
        *,
        task_id: str = "",
        host: str = "",
        pid: int = 0,
        signal: int = 0,
        exit_code: int = -1,
        peak_memory: int = 0,
        stderr: str = "",
        attempts: Sequence[str] = (),
        advice: str = "",
        ran_s: float = 0.0,
        block_s: float = 0.0,
        limit_s: float = 0.0,
        oom_evidence: str = "",
    ) -> None:
        self.ran_s = ran_s
        self.block_s = block_s
        self.limit_s = limit_s
        self.oom_evidence = oom_evidence
        self.task_id = task_id
        self.host = host
        self.pid = pid
        self.signal = signal
        self.exit_code = exit_code
        self.peak_memory = peak_memory
        self.stderr = stderr
        self.attempts = tuple(attempts)
        self.text = text
        super().__init__(self._tell(text or self.WHAT, advice or self._advice()))

    def _advice(self) -> str:
        return self.ADVICE

    def _tell(self, what: str, advice: str) -> str:
        facts = [f"on {self.host}"] if self.host else []
        if self.pid:
            facts.append(f"worker pid {self.pid}")
        if self.signal:
            facts.append(f"signal {signal_name(self.signal)}")
        if self.exit_code >= 0:
            facts.append(f"exit code {self.exit_code}")
        if self.peak_memory:
            facts.append(f"peak memory {format_bytes(self.peak_memory)}")
        if self.ran_s > 0:
            facts.append(f"it had run for {format_duration(self.ran_s)}")
        if self.block_s > 0:
            facts.append(f"in a block of {format_duration(self.block_s)}")
        lines = [f"{_the_task(self.task_id)} was lost: {what.rstrip('.')}."]
        if facts:
            lines[0] += f" ({', '.join(facts)})"
        if self.oom_evidence:
            lines.append(f"{self.oom_evidence.rstrip('.')}.")
        if self.attempts:
            lines.append("Earlier attempts:")
            lines += (f"  {n}. {story}" for n, story in enumerate(self.attempts, 1))
        if self.stderr.strip():
            lines.append("Last lines of the worker's stderr:")
            lines += (f"  {line}" for line in self.stderr.strip().splitlines())
        lines.append(f"What to do: {advice}")
        return "\n".join(lines)


class WorkerDied(TaskLost):
    """The worker that ran the task was ended by a signal."""

    WHAT = "its worker died while it ran"

    @property
    def oom(self) -> bool:
        """Whether the kernel probably killed it because memory ran out; see `oom_evidence`."""
        return bool(self.oom_evidence)

    def _advice(self) -> str:
        name = signal_name(self.signal)
        if self.oom_evidence:
            return (
                "give each task more memory (fewer workers per node: max_workers_per_node or "
                "mem_per_worker; a larger job), or let it use less: smaller pieces, one at a time."
            )
        if name == "SIGKILL":
            return (
                "SIGKILL without a word is mostly the kernel or the batch system at a limit of "
                "memory: give each task more (fewer workers per node, a larger job) or let it use "
                "less. If it is someone's kill, submit it again."
            )
        if name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
            return (
                "a compiled library crashed. Run the function alone under `python -X faulthandler` "
                "with the same arguments; check that the library fits this node's processor."
            )
        if name == "SIGXCPU":
            return "a limit of CPU time was reached (`ulimit -t`): raise it or split the task."
        return "run the function alone with the same arguments, and see what sends this signal."


class TaskExited(TaskLost):
    """The task's own code ended its worker, by `sys.exit` or `os._exit`; never run again.

    `code` is what it exited with.
    """

    WHAT = "its own code ended the process"
    ADVICE = "let the function return or raise instead of calling sys.exit() or os._exit()."

    @property
    def code(self) -> int:
        """The exit code: what the task gave to `sys.exit` or `os._exit`."""
        return self.exit_code


class ManagerLost(TaskLost):
    """The manager that had the task (a node, a batch job) was lost."""

    WHAT = "the manager that had it was lost, with its node or its batch job"
    ADVICE = "look at the batch system's account of the job (walltime, memory, node failure)."


class WalltimeReached(TaskLost):
    """The task was cut off by the end of its block's walltime, too often to be tried again."""

    WHAT = "the walltime of its block ended before the task did"
    ADVICE = (
        "raise `walltime` in the endpoint's configuration above what one task takes, or split the "
        'task. Declare what it takes (resource_specification={"walltime": "2h"}), so that it is '
        "not started in a block that ends sooner."
    )


class TaskWalltimeExceeded(TaskLost):
    """The task took longer than it was declared to take, and was ended; it does not run again.

    The last lines of stderr show where in its code it was, unless that was in no state to tell.
    """

    WHAT = "it took longer than its declared walltime, and was ended"
    ADVICE = (
        'if it takes that long, declare more (resource_specification={"walltime": ...}), or '
        "nothing: then it may run for as long as its block. If not, it hangs: the lines above show "
        "where, if its code could still tell."
    )

    @property
    def limit(self) -> float:
        """Seconds that it was declared to take at most."""
        return self.limit_s

    @property
    def ran(self) -> float:
        """Seconds that it had run when it was ended."""
        return self.ran_s


class WorkerStartFailed(TaskLost):
    """Workers die before they can begin anything."""

    WHAT = "no worker could start"
    ADVICE = (
        "mend what the lines above say (mostly the environment: the interpreter, `worker_init`, "
        "a module that is missing on the node), then submit it again."
    )


_LOSSES: dict[str, type[TaskLost]] = {
    "WORKER_KILLED": WorkerDied,
    "WORKER_EXITED": TaskExited,
    "MANAGER_LOST": ManagerLost,
    "WORKER_UNSTARTABLE": WorkerStartFailed,
    "WALLTIME": WalltimeReached,
    "TASK_WALLTIME": TaskWalltimeExceeded,
}


def lost(cause: str, text: str = "", **fields: Any) -> TaskLost:
    """The error for a loss: `cause` is the name of a LossCause, `fields` as TaskLost takes them."""
    return _LOSSES.get(cause, TaskLost)(text, **fields)


def signal_name(number: int) -> str:
    """A signal as people know it.

    >>> signal_name(9)
    'SIGKILL'
    """
    try:
        return _signals.Signals(number).name
    except ValueError:
        return f"{number}"


def _the_task(task_id: str) -> str:
    return f"Task {task_id}" if task_id else "The task"


# --- sizes ----------------------------------------------------------------------------------------


class ThrottlingException(FxhpcError):
    """funcX's base for requests that are too large or too many."""


class MaxRequestSizeExceeded(ThrottlingException):
    """What was to be sent is larger than the limit; nothing has been sent.

    Args:
        size: bytes of it, serialized.
        limit: bytes allowed.
        what: what it is ("arguments", "function hello", ...).
        option: the option that sets the limit.
    """

    def __init__(
        self, size: int, limit: int, what: str = "arguments", option: str = "max_payload"
    ) -> None:
        self.size = int(size)
        self.limit = int(limit)
        self.what = what
        self.option = option
        super().__init__(
            f"Serialized {what} are {self.size:,} bytes ({format_bytes(self.size)}), exceeded "
            f"limit of {self.limit:,} (`{option}`). Nothing was sent. Raise `{option}`, or write "
            f"the data to a file that workers can read and pass its path."
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
        super().__init__(
            f"Task result of {self.result_size}B exceeded current limit of "
            f"{self.result_size_limit}B{f' ({what})' if what else ''}. The result is gone: raise "
            f"`max_payload`, or let the function write a file and return its path, and run again."
        )


# --- packing --------------------------------------------------------------------------------------


class SerializationError(FxhpcError):
    """Something could not be turned into bytes, or bytes not into what they were."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(f"Serialization Error during: {message}")


# --- the client and the forwarder -----------------------------------------------------------------


class _Told(FxhpcError):
    """An error whose argument is its text."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class ForwarderError(_Told):
    """The forwarder cannot do its work."""


class FuncXUnreachable(ForwarderError):
    """funcX's name: the service does not answer at this address."""

    def __init__(self, address: str, detail: str = "") -> None:
        text = f"The forwarder of {address} cannot be reached"
        if detail:
            text += f": {detail.rstrip('. ')}"
        if "forwarder.log" not in detail and "FXHPC_HOME" not in detail:
            text += "; forwarder.log in the home (FXHPC_HOME) says more"
        super().__init__(f"{text}.")
        self.address = address
        self.detail = detail


class ForwarderUnreachable(FuncXUnreachable):
    """The forwarder cannot be started, or does not answer."""


class HomeError(ForwarderError):
    """The home directory cannot be used: permissions, owner, file system."""


class StoreFull(ForwarderError):
    """The store, the disk or the quota is full: submissions are refused, running work goes on."""


class StoreTooNew(ForwarderError):
    """The store was written by a newer fxhpc than this."""


class VersionMismatch(ForwarderError):
    """Two parts of fxhpc cannot talk to each other; the reason names both versions."""


class RegistrationError(_Told):
    """A function could not be registered."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.args = (f"Registration failed: {reason}",)


class MalformedResponse(FxhpcError):
    """An answer that is none."""

    def __init__(self, response: str = "") -> None:
        self.response = response
        super().__init__(
            f"The forwarder's answer cannot be read: {response}. Are versions mixed? "
            f"Compare `pip show fxhpc` on both sides."
        )


class FailureResponse(FxhpcError):
    """The forwarder refused a request."""

    def __init__(self, response: str = "") -> None:
        self.response = response
        super().__init__(f"The request failed: {response}")


class HTTPError(_Told):
    """funcX's error of its web service. fxhpc does not raise it; scripts may catch it."""


class UserCancelledException(FxhpcError):
    """The user cancelled a task through the executor."""

    def __init__(self) -> None:
        super().__init__("Task was cancelled by user.")


class InvalidScopeException(_Told):
    """search_endpoint knows the scopes all, my-endpoints and shared-with-me."""


# --- endpoints: their life on this host -----------------------------------------------------------


class EndpointError(FxhpcError):
    """What was asked of an endpoint cannot be done.

    Args:
        name: the endpoint's.
        text: what is the matter, a sentence without its full stop.
        hint: what to do now, likewise.
    """

    def __init__(self, name: str, text: str = "", hint: str = "") -> None:
        self.name = name
        self.text = text or f"endpoint {name!r} cannot do that"
        self.hint = hint
        super().__init__(f"{self.text}; {hint}" if hint else self.text)


class EndpointNameInvalid(EndpointError, ValueError):
    """No endpoint can have this name."""


class EndpointUnknown(EndpointError):
    """The home has no endpoint of this name."""


class EndpointExists(EndpointError):
    """The home has an endpoint of this name already."""


class EndpointRunning(EndpointError):
    """The endpoint runs already, on this host."""


class EndpointElsewhere(EndpointRunning):
    """The endpoint runs on another host that has the same home, or may do so."""


class EndpointNotRunning(EndpointError):
    """The endpoint does not run."""


class EndpointStartFailed(EndpointError):
    """The endpoint did not come up; the text says why."""


class NodesUnavailable(EndpointStartFailed):
    """The endpoint is up and will never have a node to run anything on; the text says why."""


class EndpointStopFailed(EndpointError):
    """The endpoint did not end as it should, or left something behind."""


class EndpointDirectoryInvalid(EndpointError):
    """The endpoint's directory cannot be used: permissions, owner, file system."""


class ConfigError(FxhpcError):
    """An endpoint's configuration cannot be used.

    Args:
        problems: all that is wrong, each a line: `file:line: key.path: what, and what to do`.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


# --- what the service refuses, as funcX numbered it -----------------------------------------------


class FuncxResponseError(FxhpcError):
    """The service refused a call: `reason` in words, `code` and `http_status_code` in numbers."""

    code = 0
    http_status_code = 500
    #: How the reason is made of the arguments, and how many of them there are.
    REASON = "{}"
    ADVICE = ""

    def __init__(self, *error_args: Any) -> None:
        self.error_args = [str(argument) for argument in error_args]
        wanted = self.REASON.count("{}")
        shown = (self.error_args + ["?"] * wanted)[:wanted]
        self.reason = self.REASON.format(*shown)
        super().__init__(f"{self.reason}. {self.ADVICE}" if self.ADVICE else self.reason)

    @property
    def http_status(self) -> int:
        """The same as `http_status_code`, as Globus' errors call it."""
        return self.http_status_code

    def pack(self) -> dict[str, Any]:
        """The error as a dictionary of plain values, for `unpack`."""
        return {
            "status": "Failed",
            "code": self.code,
            "error_args": list(self.error_args),
            "reason": self.reason,
            "http_status_code": self.http_status_code,
        }

    @staticmethod
    def unpack(data: dict[str, Any]) -> FxhpcError | None:
        """The error that `pack` packed, or None if the dictionary tells of no failure."""
        if data.get("status") != "Failed":
            return None
        cls = _BY_CODE.get(data.get("code", 0))
        if cls is None:
            return FailureResponse(str(data.get("reason", "no reason given")))
        return cls(*data.get("error_args", []))


FuncxAPIError = FuncxResponseError


class UserUnauthenticated(FuncxResponseError):
    code, http_status_code = 1, 401
    REASON = "Could not find user. You must be logged in to perform this function"
    ADVICE = "Its key is not on the endpoint's allow-list."


class UserNotFound(FuncxResponseError):
    code, http_status_code = 2, 404
    REASON = "User ID not found for: {}"


class FunctionNotFound(FuncxResponseError):
    code, http_status_code = 3, 404
    REASON = "Function {} could not be resolved"
    ADVICE = "Register it by register_function(); ids belong to one home (FXHPC_HOME)."

    @property
    def uuid(self) -> str:
        """The id that nobody knows."""
        return self.error_args[0]


class EndpointNotFound(FuncxResponseError):
    code, http_status_code = 4, 404
    REASON = "Endpoint {} could not be resolved"
    ADVICE = (
        "Endpoints belong to one home (FXHPC_HOME): `fxhpc endpoint list` shows them, and "
        "`fxhpc endpoint configure NAME` makes one; `local` is always there."
    )

    def __init__(self, *error_args: Any) -> None:
        if len(error_args) > 1:  # what to do, in words that fit the case
            self.ADVICE = str(error_args[1])
        super().__init__(*error_args)

    @property
    def uuid(self) -> str:
        """The id that nobody knows."""
        return self.error_args[0]


class ContainerNotFound(FuncxResponseError):
    code, http_status_code = 5, 404
    REASON = "Container {} not found"
    ADVICE = "Register it by register_container()."


class TaskNotFound(FuncxResponseError):
    code, http_status_code = 6, 404
    REASON = "Task {} not found"
    ADVICE = (
        "It was submitted from another home (FXHPC_HOME), purged after the retention time, or its "
        "Executor has received how it ended: that is not kept unless it has a task_group_id."
    )

    def __init__(self, *error_args: Any) -> None:
        if len(error_args) > 1:  # what to do, in words that fit the case
            self.ADVICE = str(error_args[1])
        super().__init__(*error_args)

    @property
    def uuid(self) -> str:
        """The id that nobody knows."""
        return self.error_args[0]


class AuthGroupNotFound(FuncxResponseError):
    code, http_status_code = 7, 404
    REASON = "AuthGroup {} not found"
    ADVICE = "A group is a unix group of this host."


class FunctionAccessForbidden(FuncxResponseError):
    code, http_status_code = 8, 403
    REASON = "Unauthorized access to function {}"
    ADVICE = "Ask its author to register it with public=True or for your group."


class EndpointAccessForbidden(FuncxResponseError):
    code, http_status_code = 9, 403
    REASON = "Unauthorized access to endpoint {}"
    ADVICE = "An endpoint runs its owner's work; others' only where the site permits."


class FunctionNotPermitted(FuncxResponseError):
    code, http_status_code = 10, 403
    REASON = "Function {} not permitted on endpoint {}"
    ADVICE = "Its owner can permit it by add_to_whitelist(endpoint_id, function_ids)."


class EndpointAlreadyRegistered(FuncxResponseError):
    code, http_status_code = 11, 400
    REASON = "Endpoint {} was already registered by a different user"


class ForwarderRegistrationError(FuncxResponseError):
    code, http_status_code = 12, 502
    REASON = "Endpoint registration with forwarder failed - {}"


class ForwarderContactError(FuncxResponseError):
    code, http_status_code = 13, 502
    REASON = "Contacting forwarder failed - {}"
    ADVICE = "forwarder.log in the home says more."


class EndpointStatsError(FuncxResponseError):
    code, http_status_code = 14, 500
    REASON = "Unable to retrieve stats for endpoint: {} - {}"


class LivenessStatsError(FuncxResponseError):
    code, http_status_code = 15, 500
    REASON = "Forwarder did not respond with liveness stats - status code {}"


class RequestKeyError(FuncxResponseError):
    code, http_status_code = 16, 400
    REASON = "Missing key in JSON request - {}"


class RequestMalformed(FuncxResponseError):
    code, http_status_code = 17, 400
    REASON = "Request malformed. Missing critical information: {}"


class InternalError(FuncxResponseError):
    code, http_status_code = 18, 500
    REASON = "Internal server error: {}"
    ADVICE = "The forwarder's log has more; please report it."


class EndpointOutdated(FuncxResponseError):
    code, http_status_code = 19, 400
    REASON = "Endpoint is out of date. Minimum version required: {}"


class TaskGroupNotFound(FuncxResponseError):
    code, http_status_code = 20, 404
    REASON = "Task Group {} could not be resolved"


class TaskGroupAccessForbidden(FuncxResponseError):
    code, http_status_code = 21, 403
    REASON = "Unauthorized access to Task Group {}"


class InvalidUUID(FuncxResponseError, ValueError):
    code, http_status_code = 22, 400
    REASON = "Invalid UUID provided: {}"
    ADVICE = "An id is a UUID or its text, as register_function() and run() return it."


def _all(base: type[FxhpcError]) -> Iterable[type[FxhpcError]]:
    yield base
    for cls in base.__subclasses__():
        yield from _all(cls)


#: A closed table: only classes of this module are ever made from a name that came over a link.
_BY_NAME: dict[str, type[FxhpcError]] = {cls.__name__: cls for cls in _all(FxhpcError)}
_BY_CODE = {
    cls.code: cls for cls in _BY_NAME.values() if issubclass(cls, FuncxResponseError) and cls.code
}


def error_named(name: str, arguments: Sequence[str]) -> FxhpcError:
    """The error that a `service.Failed` names; one that nobody knows becomes a FxhpcError."""
    cls = _BY_NAME.get(name)
    if cls is not None:
        try:
            return cls(*arguments)
        except (TypeError, ValueError):
            pass  # a neighbour of another version: what it says must still be told
    return FxhpcError(f"{name}: {', '.join(arguments)}" if arguments else name)

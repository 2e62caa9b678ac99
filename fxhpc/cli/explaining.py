"""What the task commands know: which tasks people name, and what is told of one, in sentences."""

from __future__ import annotations

import re
import time
from typing import Any, NamedTuple

from fxhpc import errors, ids
from fxhpc.client import listing, outcomes
from fxhpc.client.client import FuncXClient
from fxhpc.client.names import group_name, task_name
from fxhpc.client.selection import Selection
from fxhpc.client.tasks import Reader
from fxhpc.protocol import service, states
from fxhpc.protocol.outcome import OutcomeKind
from fxhpc.protocol.service import StreamSummary, TaskState
from fxhpc.units import format_duration

#: Digits of a stream's id in lists: enough to tell a user's streams apart.
SHORT = 8

#: Characters of a result that are shown.
_RESULT_CHARACTERS = 2000

#: Tasks of which the numbers are looked for at most.
_FOUND_TASKS = 10_000

#: What a reason says if the batch system is away, and is asked again and again.
_PASSING = ("cannot be reached, it is asked again", "the batch system is asked whether")

#: How a traceback's last line begins if the result was too large, or could not be packed.
_OURS = tuple(
    f"{kind.__module__}.{kind.__name__}: "
    for kind in (errors.MaxResultSizeExceeded, errors.SerializationError)
)

#: What a reason says of a task that has lost managers among others, and is to run by itself.
_ALONE = "it runs alone"

#: What a reason says for a moment after a restart.
_NOT_KNOWN = "it is not known yet whether it runs"

#: What a reason says if waiting alone will not do.
_TROUBLE = ("ended before", "refused", "rejected", "error", "failed", "cannot", "no task fits")

_SHORT = re.compile(r"([0-9a-f]{4,24})(?::(\d+)(?:-(\d+))?)?", re.IGNORECASE)


class QuietClient(FuncXClient):
    """A client for a look: it says nothing by itself, and runs no older work."""

    def _tell_older(self, attachment: Any) -> None:
        """That is not what was asked for."""

    def __enter__(self) -> QuietClient:
        return self

    def ask(self, message: Any) -> Any:
        """Make a call, and return its answer."""
        return self._ask(message)

    def look(self, name: str) -> tuple[TaskState, StreamSummary | None]:
        """A task's state and what it shares with its stream.

        Raises:
            TaskNotFound: nobody knows it.
        """
        state, summary = self._results.details(Selection([name]), adopt=False)
        if state.status == states.UNKNOWN:
            raise errors.TaskNotFound(name)
        return state, summary


class Named(NamedTuple):
    """Consecutive tasks of one stream."""

    stream: bytes
    first: int
    tasks: int


def named(client: QuietClient, text: str) -> Named:
    """The tasks that a person means: a task's id, or `5f1c9b1e`, `5f1c9b1e:17`, `5f1c9b1e:0-99`
    as lists show them.

    Raises:
        TaskNotFound: there are none.
        UsageError: it may mean several streams, or is no id.
    """
    match = check_name(text)
    if match is None:
        stream, index = task_name(text)
        return Named(stream, index, 1)
    digits, first, last = match[1].lower(), match[2], match[3]
    prefix = bytes.fromhex(digits[: len(digits) // 2 * 2])
    answer = listing.streams(client.ask, limit=1000, prefix=prefix)
    found = [summary for summary in answer.streams if summary.stream.hex().startswith(digits)]
    if not found:
        raise errors.TaskNotFound(text)
    if len(found) > 1:
        shown = ", ".join(summary.stream.hex()[:16] for summary in found[:5])
        raise errors.UsageError(f"{text!r} may mean several: {shown}; write more digits of one")
    count = sum(found[0].counts.values())
    begin = int(first) if first is not None else 0
    end = count - 1 if first is None else int(last) if last is not None else begin
    if not begin <= end < count:
        there = f"{digits}:0" if count == 1 else f"{digits}:0-{count - 1}"
        raise errors.TaskNotFound(text, f"Of that batch there are {there}.")
    return Named(found[0].stream, begin, end - begin + 1)


def check_name(text: str) -> re.Match[str] | None:
    """The parts of a short name of tasks; None for a task's id.

    Raises:
        UsageError, InvalidUUID: it names no tasks, whatever tasks there are.
    """
    if len(text.replace("-", "")) == 32:
        task_name(text)
        return None
    match = _SHORT.fullmatch(text)
    if match is None:
        raise errors.UsageError(
            f"{text!r} is no task: name one by its id, or as `fxhpc task list` does, for example "
            f"5f1c9b1e:17"
        )
    return match


def named_one(client: QuietClient, text: str) -> str:
    """The id of the one task that a person means.

    Raises:
        TaskNotFound, UsageError: see `named`; or it is more than one.
    """
    found = named(client, text)
    if found.tasks > 1:
        short = found.stream.hex()[:SHORT]
        raise errors.UsageError(
            f"{text!r} are {found.tasks:,} tasks: name one of them, for example "
            f"{short}:{found.first}; those that failed are named by: "
            f"fxhpc task list --state failed"
        )
    return ids.task_id(found.stream, found.first)


def short_id(stream: bytes, first: int, count: int = 1) -> str:
    """Consecutive tasks of a stream as lists show them: `5f1c9b1e:0-99`."""
    last = f"-{first + count - 1}" if count > 1 else ""
    return f"{stream.hex()[:SHORT]}:{first}{last}"


def endpoint_of(client: QuietClient, text: str) -> str:
    """The UUID of an endpoint that a person names; of a deleted one too, while it has tasks.

    Raises:
        EndpointNotFound: neither the home has such an endpoint, nor has any task.
        UsageError: several that were deleted had this name.
    """
    try:
        return client._endpoint(text)
    except errors.EndpointNotFound:
        summaries = listing.streams(client.ask, limit=10_000).streams
        found = sorted({one.endpoint for one in summaries if one.endpoint_name == text})
        if not found:
            raise
    if len(found) > 1:
        raise errors.UsageError(f"{text!r} may mean several: {', '.join(found)}; name one of them")
    return found[0]


class Found(NamedTuple):
    """Consecutive tasks that are in one state."""

    summary: StreamSummary
    status: str
    first: int
    tasks: int


def find(client: QuietClient, endpoint: str, wanted: list[str]) -> tuple[list[Found], int]:
    """The tasks that are in one of these states, by their numbers; and of how many tasks these are
    the newest.
    """
    call = service.ListTasks(0, endpoint, wanted, _FOUND_TASKS, each=True)
    answer: service.TaskList = client.ask(call)
    of_stream = {summary.stream: summary for summary in answer.streams}
    total = sum(summary.counts.get(state, 0) for summary in answer.streams for state in wanted)
    found: list[Found] = []
    for task in answer.tasks:
        last = found[-1] if found else None
        if (
            last is not None
            and (last.summary.stream, last.status) == (task.stream, task.status)
            and task.index == last.first - 1  # the newest come first
        ):
            found[-1] = last._replace(first=task.index, tasks=last.tasks + 1)
        else:
            found.append(Found(of_stream[task.stream], task.status, task.index, 1))
    return found, total


def age(created: float) -> str:
    """How long ago something was, as lists show it."""
    return format_duration(max(0.0, time.time() - created)) if created else "?"


def many(count: int, what: str) -> str:
    """So many of something, as people say it.

    >>> many(1, "task"), many(2000, "task"), many(0, "task")
    ('1 task', '2,000 tasks', 'no tasks')
    """
    if count == 1:
        return f"1 {what}"
    return f"{count:,} {what}s" if count else f"no {what}s"


def ago(when: float) -> str:
    """When something was, for a sentence."""
    return f"{age(when)} ago" if when else "at a time that nobody knows"


def cancel(client: QuietClient, chosen: list[Named], interrupt: bool) -> int:
    """Cancel tasks: how many are cancelled now."""
    cancelled = 0
    for start in range(0, len(chosen), 100):
        part = [
            service.StreamRanges(one.stream, [one.first, one.tasks])
            for one in chosen[start : start + 100]
        ]
        answer: service.Cancelled = client.ask(service.CancelTasks(0, part, interrupt))
        cancelled += sum(sum(ranges.ranges[1::2]) for ranges in answer.tasks)
    return cancelled


def cancel_group(client: QuietClient, group: str, interrupt: bool) -> tuple[int, int]:
    """Cancel the tasks of a group: how many are cancelled now, and how many have not ended."""
    call = service.CancelTasks(0, [], interrupt, [group_name(group)])
    answer: service.Cancelled = client.ask(call)
    asked = {part.stream: ids.from_ranges(part.ranges) for part in answer.asked}
    found = Reader(client._attached().connection).fetch(asked, outcomes=False, adopt=False)
    running = sum(
        state.status in states.PENDING for told_of in found.values() for state in told_of.values()
    )
    return sum(sum(part.ranges[1::2]) for part in answer.tasks), running


def describe(
    client: QuietClient, name: str, state: TaskState, summary: StreamSummary | None
) -> dict[str, Any]:
    """All that is known of a task, in plain values."""
    told: dict[str, Any] = {"task_id": name, "status": state.status}
    if state.status in states.PENDING and state.reason:
        told["reason"] = state.reason
    details = outcomes.details_of(state, summary)
    if "ran_s" in details:
        details["ran_s"] = round(details["ran_s"], 6)
    if summary is not None:
        names = listing.function_names(client.ask, [summary])
        told["function_name"] = names.get(summary.function_id, "")
    told.update(details)
    if state.ended:
        told["ended"] = state.ended
    if state.outcome is not None:
        told.update(_ending(state, name))
    return told


def _ending(state: TaskState, name: str) -> dict[str, str]:
    """The result as text, or the error: what cannot be unpacked here is no error of this."""
    outcome = state.outcome
    assert outcome is not None
    try:
        if outcome.kind == OutcomeKind.VALUE:
            text = repr(outcomes.value_of(outcome))
            cut = f"{text[:_RESULT_CHARACTERS]}..." if len(text) > _RESULT_CHARACTERS else text
            return {"result": cut}
        if outcome.kind == OutcomeKind.ERROR:
            return {"error": str(outcomes.failure_of(outcome, name)).rstrip()}
        return {"error": str(outcomes.error_of(outcome, name))}
    except Exception as error:  # whatever a user's object does when it is made or shown
        return {"result": f"cannot be shown here: {type(error).__name__}: {error}"}


def explain(client: QuietClient, told: dict[str, Any]) -> tuple[list[str], str]:
    """Why a task is where it is, in sentences; and what to do.

    Args:
        client: asks how the endpoint is.
        told: the task, as `describe` has it.
    """
    endpoint = str(told.get("endpoint", ""))
    function = told.get("function_name")
    task = f"Task {told['task_id']}" + (f" ({function})" if function else "")
    sentences = [f"{task} was submitted {ago(told.get('submitted', 0.0))} to endpoint {endpoint}."]
    status = told["status"]
    if status in states.PENDING:
        reason = str(told.get("reason", "")).rstrip(".")
        where = f" on {told['host']}" if status == states.RUNNING and told.get("host") else ""
        since = f", for {age(told['started'])} so far" if where and told.get("started") else ""
        sentences.append(f"It is {status}{where}{since}{f': {reason}' if reason else ''}.")
        sentences += _endpoint_sentences(client, told)
        return sentences, _pending_advice(status, reason, told)
    when = f" {ago(told['ended'])}" if told.get("ended") else ""
    where = f" on {told['host']}" if told.get("host") else ""
    ran = f", after {format_duration(told['ran_s'])}" if told.get("ran_s") else ""
    if status == states.SUCCESS:
        sentences.append(f"It ended well{when}{where}{ran}.")
        return (
            sentences,
            f"read its result with get_result(), or: fxhpc task show {told['task_id']}",
        )
    if status == states.CANCELLED:
        sentences.append(f"It was cancelled{when}.")
        return sentences, "submit it again if you need it"
    sentences.append(f"It failed{when}{where}{ran}.")
    error = str(told.get("error", told.get("result", "")))
    body, _, advice = error.partition("What to do: ")
    last = body.rstrip().rpartition("\n")[2]
    if last.startswith(_OURS):
        # Not the function's, but of what became of its result: the text says what to do.
        sentences.append(last.partition(": ")[2])
        return sentences, "as said above, and submit it again"
    sentences.append(body.rstrip())
    return sentences, advice or "mend what the function raised, and submit it again"


def _endpoint_sentences(client: QuietClient, told: dict[str, Any]) -> list[str]:
    if told.get("endpoint_id") == ids.LOCAL_ENDPOINT:
        return []  # that of the task's own process is meant; this one would be asked for its own
    try:
        status = client.get_endpoint_status(told["endpoint_id"])
    except (errors.FxhpcError, KeyError):
        return []  # it is not known any more, which the reason says
    details = status["details"]
    if status["status"] != "online":
        waiting = details["outstanding_tasks"]
        return [f"{waiting:,} tasks wait for this endpoint."] if waiting > 1 else []
    workers, idle = details["total_workers"], details["idle_workers"]
    sentences = [
        f"The endpoint has {many(workers, 'worker')}"
        + (f" ({idle:,} idle)" if workers else "")
        + f"; {many(details['running_tasks'], 'task')} running, {details['pending_tasks']:,} "
        f"waiting."
    ]
    for block in details["blocks"][:10]:
        job = f" ({details['scheduler'] or 'job'} {block['job']})" if block["job"] else ""
        words = f": {block['words']}" if block["words"] else ""
        sentences.append(f"Block {block['block']}{job} is {block['state']}{words}.")
    if details["scheduler_trouble"]:
        sentences.append(f"The batch system gives trouble: {details['scheduler_trouble']}.")
    return sentences


def _pending_advice(status: str, reason: str, told: dict[str, Any]) -> str:
    endpoint = told.get("endpoint", "")
    cancel_it = f"fxhpc task cancel {told['task_id']}"
    # What became of earlier attempts says nothing of what this one waits for.
    reason, lost, story = reason.partition("it was lost ")
    if lost and _ALONE in story:
        return (
            "nothing: alone it shows whether it takes its manager down, and if it does, it ends "
            f"with an error that says so. If that is known already: {cancel_it} --interrupt"
        )
    if status == states.RUNNING:
        return f"nothing: it runs as long as it takes. To end it: {cancel_it} --interrupt"
    if _NOT_KNOWN in reason:
        return "nothing: ask again in a few seconds, it is known by then"
    if endpoint == "local":
        return "nothing: it runs in the process that submitted it, or where it is asked for"
    if status == states.WAITING_FOR_LAUNCH:
        return (
            "nothing: it starts when it is its turn. More workers: raise max_blocks, "
            f"nodes_per_block or max_workers_per_node of endpoint {endpoint}, and restart it"
        )
    if "was deleted" in reason or reason.startswith("this home has no endpoint"):
        return f"cancel it, and submit it to another endpoint: {cancel_it}"
    if "is being stopped" in reason:
        return f"start it again when it has ended: fxhpc endpoint start {endpoint}"
    if any(words in reason for words in _PASSING):
        return (
            "nothing: the batch system is asked again until it answers. What was submitted waits "
            "as long as that takes"
        )
    if "fxhpc " in reason:
        return "as said above; what was submitted waits as long as that takes"
    if any(word in reason for word in _TROUBLE):
        return (
            f"mend what it says (the endpoint's config.yaml: fxhpc endpoint check {endpoint}), "
            f"then: fxhpc endpoint restart {endpoint}. What was submitted waits as long as that "
            f"takes"
        )
    if status == states.WAITING_FOR_NODES:
        return (
            f"wait for the nodes; more is told by: fxhpc endpoint status {endpoint}, and: "
            f"fxhpc endpoint logs {endpoint}"
        )
    return f"see: fxhpc endpoint status {endpoint}"

"""Why a task is where it is, in sentences, and what to do: `fxhpc task explain`."""

from __future__ import annotations

from typing import Any

from fxhpc import errors, ids
from fxhpc.cli.explaining import QuietClient, age, ago, many
from fxhpc.protocol import states
from fxhpc.units import format_duration

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

#: What a reason says if no node that is here has what the task needs.
_NO_SUCH_NODE = (
    "it waits for a block that has",
    "it waits for a manager that has",
    "no more blocks are asked for that",
    "of those that are here one has",
)

#: What a reason says if waiting alone will not do.
_TROUBLE = ("ended before", "refused", "rejected", "error", "failed", "cannot", "no task fits")


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
    # Of a chunk no call is cancelled alone.
    cancel_it = f"fxhpc task cancel {told.get('chunk', told['task_id'])}"
    its_chunk = " (all calls of its chunk end with it)" if "chunk" in told else ""
    # What became of earlier attempts says nothing of what this one waits for.
    reason, lost, story = reason.partition("it was lost ")
    if lost and _ALONE in story:
        return (
            "nothing: alone it shows whether it takes its manager down, and if it does, it ends "
            f"with an error that says so. If that is known already: {cancel_it} --interrupt"
            f"{its_chunk}"
        )
    if status == states.RUNNING:
        return (
            f"nothing: it runs as long as it takes. To end it: {cancel_it} --interrupt{its_chunk}"
        )
    if _NOT_KNOWN in reason:
        return "nothing: ask again in a few seconds, it is known by then"
    if any(words in reason for words in _NO_SUCH_NODE):
        return (
            f"ask for less: {cancel_it}{its_chunk}, and submit it with another "
            f"resource_specification; or give endpoint {endpoint} nodes that have it (in its "
            f"config.yaml), and restart it"
        )
    if endpoint == "local":
        return "nothing: it runs in the process that submitted it, or where it is asked for"
    if status == states.WAITING_FOR_LAUNCH:
        return (
            "nothing: it starts when it is its turn. More workers: raise max_blocks, "
            f"nodes_per_block or max_workers_per_node of endpoint {endpoint}, and restart it"
        )
    if "was deleted" in reason or reason.startswith("this home has no endpoint"):
        return f"cancel it, and submit it to another endpoint: {cancel_it}{its_chunk}"
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

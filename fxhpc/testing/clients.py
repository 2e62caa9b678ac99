"""A client that is only simulated: it makes calls, makes them again, and notes what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fxhpc.ids import from_ranges, to_ranges
from fxhpc.protocol import codec, messages, service, states
from fxhpc.protocol.outcome import Outcome
from fxhpc.testing.link import LossyLink

Task = tuple[bytes, int]
ClientLink = LossyLink[service.FromClient, service.ToClient]

_ANSWERS = (
    service.Done,
    service.Failed,
    service.States,
    service.Cancelled,
    service.Functions,
    service.EndpointStatus,
    service.TaskList,
)


class Client:
    """A client object and its link.

    Attributes:
        calls: calls that have no answer yet, in order.
        answers: the answers to the others, by call.
        outcomes: the outcome of each task that it has been told. No task may have two.
        accepted: tasks whose submission was answered by Done, by stream.
        open: streams whose results are pushed to it.
        forgotten: streams that it asked for and that the forwarder does not know.
    """

    def __init__(
        self, name: bytes, instance: bytes, new_link: Callable[[], ClientLink], heartbeat_s: float
    ) -> None:
        self.name = name
        self.instance = instance
        self.link = new_link()
        self.alive = True
        self.attached = False
        self.calls: dict[int, Any] = {}
        self.answers: dict[int, Any] = {}
        self.outcomes: dict[Task, Outcome] = {}
        self.accepted: dict[bytes, int] = {}
        self.open: dict[bytes, None] = {}
        self.forgotten: set[bytes] = set()
        self.needs_local = False
        self.refused = ""
        self._new_link = new_link
        self._heartbeat_s = heartbeat_s
        self._beaten = 0.0
        self._heard = 0.0
        self._next_call = 1

    def attach(self) -> None:
        """Greet the forwarder, again if need be."""
        self.attached = False
        self.link.greet(
            service.Attach(
                client=self.name,
                local=self.instance,
                pid=1,
                host="here",
                started=0.0,
                version="test",
                streams=list(self.open),
            )
        )

    def reconnect(self) -> None:
        """Attach over a new connection."""
        self.link = self._new_link()
        self.attach()

    def turn(self, now: float) -> None:
        """What its thread does now and then."""
        if not self.alive:
            return
        if now - self._heard > 3 * self._heartbeat_s:
            self._heard = now
            self.reconnect()
        elif self.link.broken:
            self.attach()
        elif self.attached and now - self._beaten >= self._heartbeat_s:
            self._beaten = now
            self.link.say(messages.Heartbeat())

    def hear(self, now: float) -> bool:
        """Handle the next message of the forwarder; whether there was one on the way."""
        if not (self.alive and self.link.down):
            return False
        message = self.link.deliver_down()
        if message is not None:
            self._heard = now
            self._handle(message)
        return True

    def call(self, make: Callable[[int], Any]) -> int:
        """Make a call; its number."""
        number, self._next_call = self._next_call, self._next_call + 1
        self.calls[number] = make(number)
        if self.attached:
            self.link.say(self.calls[number])
        return number

    def submit(self, submissions: list[service.Submission]) -> int:
        """Submit tasks."""
        for submission in submissions:
            if not submission.info.keep:
                self.open[submission.info.stream] = None
        return self.call(lambda number: service.Submit(number, submissions))

    def fetch(self, tasks: dict[bytes, list[int]], wait_s: float, *, adopt: bool = True) -> int:
        """Ask for outcomes."""
        ranges = [service.StreamRanges(name, to_ranges(found)) for name, found in tasks.items()]
        return self.call(lambda number: service.Fetch(number, ranges, wait_s, adopt=adopt))

    def cancel(self, stream: bytes, indices: list[int], *, interrupt: bool) -> int:
        """Cancel tasks."""
        ranges = [service.StreamRanges(stream, to_ranges(indices))]
        return self.call(lambda number: service.CancelTasks(number, ranges, interrupt))

    def _handle(self, message: Any) -> None:
        if isinstance(message, service.Attached):
            self.attached = True
            for call in self.calls.values():
                self.link.say(call)
        elif isinstance(message, service.Push):
            for run in message.runs:
                for outcome in run.outcomes:
                    self._note((run.stream, outcome.index), outcome)
            if self.attached:
                self.link.say(service.Delivered([message.number]))
        elif isinstance(message, service.Forgotten):
            self.forgotten.update(message.streams)
        elif isinstance(message, service.NeedLocal):
            self.needs_local = True
        elif isinstance(message, messages.Refuse):
            self.refused = message.reason
        elif isinstance(message, _ANSWERS):
            self._answered(message)

    def _answered(self, answer: Any) -> None:
        call = self.calls.pop(answer.call, None)
        if call is None:
            return
        self.answers[answer.call] = answer
        if isinstance(call, service.Submit) and isinstance(answer, service.Done):
            for submission in call.submissions:
                end = submission.first + len(submission.payloads)
                name = submission.info.stream
                self.accepted[name] = max(self.accepted.get(name, 0), end)
        elif isinstance(answer, service.States):
            for stream in answer.streams:
                for state in stream.states:
                    if state.outcome is not None:
                        self._note((stream.stream, state.index), state.outcome)
                    elif state.status == states.UNKNOWN:
                        assert (stream.stream, state.index) not in self.outcomes, (
                            f"a task that had ended is now {state.status}"
                        )

    def _note(self, task: Task, outcome: Outcome) -> None:
        before = self.outcomes.setdefault(task, outcome)
        assert (before.kind, before.data) == (outcome.kind, outcome.data), (
            f"task {task[0].hex()} {task[1]} has ended twice: {before} and then {outcome}"
        )


def named(tasks: list[service.StreamRanges]) -> set[Task]:
    """The tasks that a message names."""
    return {(part.stream, index) for part in tasks for index in from_ranges(part.ranges)}


def new_client_link(new_session: Callable[[], int]) -> ClientLink:
    """A link between a client and a forwarder."""
    return LossyLink(codec.FROM_CLIENT, codec.TO_CLIENT, service.Attach, new_session)
